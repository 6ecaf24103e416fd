//! Operators' reads beside the writer, over a read-only connection.
//!
//! A read never makes a commit wait. No transaction stays open between two reads: it would keep the write-ahead log
//! from being checkpointed, and the log would grow.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result, Row};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::state::{StoreState, is_corruption, without_values};
use crate::outbox::{DeadLetter, OutboxError};
use crate::segment::rfc3339_milliseconds;

/// A read-only connection, until the store is closed.
pub(super) struct ReadConnection {
    conn: Mutex<Option<Connection>>,
    state: Arc<StoreState>,
}

impl ReadConnection {
    pub(super) fn new(conn: Connection, state: &Arc<StoreState>) -> Arc<Self> {
        Arc::new(Self { conn: Mutex::new(Some(conn)), state: state.clone() })
    }

    /// Runs a query on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, OutboxError> {
        let this = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let conn = this.conn.lock();
            let conn = conn.as_ref().ok_or(OutboxError::Closed)?;
            query(conn).map_err(|error| {
                if is_corruption(&error) {
                    this.state.fail("its file is damaged", &error);
                } else {
                    tracing::warn!(error = without_values(&error), "the outbox could not be read");
                }
                OutboxError::Unreadable
            })
        });
        answer.await.unwrap_or(Err(OutboxError::Unreadable))
    }

    /// Waits for the read in progress, and closes the connection.
    pub(super) async fn close(self: &Arc<Self>) {
        let this = self.clone();
        // An error means that the runtime is shutting down, which closes the connection as well.
        let _ = tokio::task::spawn_blocking(move || drop(this.conn.lock().take())).await;
    }
}

/// Reads dead letters, newest first.
pub(super) fn list(conn: &Connection, limit: usize, before: Option<i64>) -> Result<Vec<DeadLetter>> {
    conn.prepare_cached(
        "SELECT id, user_id, call, status, reason, attempts, stored_at, refused_at
         FROM dead_letters WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?
    .query_map((before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)), dead_letter)?
    .collect()
}

/// The fields of a call's JSON that are shown separately.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallFields {
    pub(super) message_id: String,
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter> {
    let json: Vec<u8> = row.get(2)?;
    let invalid = |error: serde_json::Error| Error::FromSqlConversionFailure(2, Type::Blob, Box::new(error));
    Ok(DeadLetter {
        id: row.get(0)?,
        message_id: serde_json::from_slice::<CallFields>(&json).map_err(invalid)?.message_id,
        user_id: row.get(1)?,
        call: serde_json::from_slice::<Box<RawValue>>(&json).map_err(invalid)?,
        status: row.get(3)?,
        reason: row.get(4)?,
        attempts: row.get(5)?,
        stored_at: time_text(row.get(6)?),
        refused_at: time_text(row.get(7)?),
    })
}

/// Formats a time in milliseconds. A time outside the calendar is shown as 1970: a dead letter must be readable
/// whatever the clock was when it was written.
pub(super) fn time_text(milliseconds: i64) -> String {
    rfc3339_milliseconds(Timestamp::from_millisecond(milliseconds).unwrap_or_default())
}
