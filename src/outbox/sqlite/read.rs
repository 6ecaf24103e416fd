//! Reading beside the writer: connections that can only read, each for one kind of question.
//!
//! Readers never make a commit wait. No transaction is open between two reads: one that stayed open would keep the log
//! from being copied, and it would grow.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result, Row};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::append::call;
use super::fault::{is_damage, without_values};
use super::shared::Shared;
use crate::outbox::{CallId, DeadLetter, OutboxError, Page, Stored, UserFilter};

/// Calls in one page: what a few requests to Segment take.
const PAGE_CALLS: usize = 1000;

/// The same in bytes: at most four bodies of 500 KiB.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Rows that are looked at for one page, of users to be skipped too: a few milliseconds.
const PAGE_ROWS: i64 = 5000;

/// A connection that reads, until the store is closed.
pub(super) struct Reader {
    conn: Mutex<Option<Connection>>,
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(conn: Connection, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { conn: Mutex::new(Some(conn)), shared: shared.clone() })
    }

    /// Reads on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, OutboxError> {
        let reader = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let conn = reader.conn.lock();
            let conn = conn.as_ref().ok_or(OutboxError::Closed)?;
            question(conn).map_err(|error| reader.failed(&error))
        });
        answer.await.unwrap_or(Err(OutboxError::Unreadable))
    }

    /// Waits for the read that is under way, and allows no other.
    pub(super) async fn close(self: &Arc<Self>) {
        let reader = self.clone();
        // If the runtime is ending there is nothing to be closed in order.
        let _ = tokio::task::spawn_blocking(move || drop(reader.conn.lock().take())).await;
    }

    fn failed(&self, error: &Error) -> OutboxError {
        if is_damage(error) {
            self.shared.fail("its file is damaged", error);
        } else {
            tracing::warn!(error = without_values(error), "the outbox could not be read");
        }
        OutboxError::Unreadable
    }
}

/// A page of waiting calls. `last_id` is the last one that was stored before this read.
pub(super) fn page(conn: &Connection, from: CallId, whose: &UserFilter, limit: usize, last_id: CallId) -> Result<Page> {
    let mut look = conn.prepare_cached("SELECT id, user_id FROM calls WHERE id >= ?1 ORDER BY id LIMIT ?2")?;
    // A row of its own statement, so that a skipped call is not read from its overflow pages.
    let mut fetch = conn.prepare_cached("SELECT call FROM calls WHERE id = ?1")?;
    let mut rows = look.query((from, PAGE_ROWS))?;
    let mut page = Page { calls: Vec::new(), next: from };
    let (mut looked_at, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let id: CallId = row.get(0)?;
        looked_at += 1;
        page.next = id.saturating_add(1);
        if !whose.is(row.get_ref(1)?.as_str()?) {
            continue;
        }
        let call = call(row.get(1)?, fetch.query_row([id], |row| row.get(0))?);
        bytes += call.json().len();
        page.calls.push(Stored { id, call });
        if page.calls.len() >= limit.min(PAGE_CALLS) || bytes >= PAGE_BYTES {
            return Ok(page);
        }
    }
    if looked_at < PAGE_ROWS {
        page.next = page.next.max(last_id.saturating_add(1));
    }
    Ok(page)
}

/// Dead letters, newest first.
pub(super) fn list(conn: &Connection, limit: usize, before: Option<i64>) -> Result<Vec<DeadLetter>> {
    conn.prepare_cached(
        "SELECT id, user_id, call, status, reason, attempts, stored_at, refused_at
         FROM dead_letters WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?
    .query_map((before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)), dead_letter)?
    .collect()
}

/// What of a call's JSON an operator sees apart from it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    message_id: String,
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter> {
    let json: Vec<u8> = row.get(2)?;
    let broken = |error: serde_json::Error| Error::FromSqlConversionFailure(2, Type::Blob, Box::new(error));
    Ok(DeadLetter {
        id: row.get(0)?,
        message_id: serde_json::from_slice::<Named>(&json).map_err(broken)?.message_id,
        user_id: row.get(1)?,
        call: serde_json::from_slice::<Box<RawValue>>(&json).map_err(broken)?,
        status: row.get(3)?,
        reason: row.get(4)?,
        attempts: row.get(5)?,
        stored_at: rfc3339(row.get(6)?),
        refused_at: rfc3339(row.get(7)?),
    })
}

/// A time in milliseconds as text. One beyond what a calendar has is shown as 1970: a letter must be readable whatever
/// the clock said when it was written.
fn rfc3339(milliseconds: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(milliseconds).unwrap_or_default())
}
