//! Reading dead letters: a page of them, newest first, and the ids of those that fit a filter, oldest first.
//!
//! There is no index but that of the ids, because filters are rare and an index would cost every refusal. A statement looks at a
//! bounded number of letters, however few of them fit.

use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::operators::{Param, column, text};
use super::shared::Shared;
use crate::outbox::columns::{CallFields, letter_event, time_text};
use crate::outbox::letter_pages::{LetterPages, LetterRead};
use crate::outbox::limits::MAX_TRANSACTION_BYTES;
use crate::outbox::{DeadLetter, LetterFilter, LetterIds, LetterPage, LetterWhy, OutboxError};

/// Letters that one statement looks at: a few milliseconds.
const READ_LETTERS: usize = 1000;

/// Ids that one statement finds: as many letters as a transaction puts back, if they are small.
const MAX_IDS: usize = 256;

/// Looks at the letters with ids from $1 to below $2. A filter that is not set is NULL, and excludes nothing. The third column is the
/// letter's bytes.
macro_rules! look {
    ($order:literal) => {
        concat!(
            "SELECT id,
                ($3::bigint IS NULL OR refused_at >= 'epoch'::timestamptz + $3::bigint * interval '1 millisecond')
                AND ($4::bigint IS NULL OR refused_at < 'epoch'::timestamptz + $4::bigint * interval '1 millisecond')
                AND ($5::integer IS NULL OR status = $5) AND ($6::bytea IS NULL OR coalesce(user_id = $6, false))
                AND ($7::text IS NULL OR why = $7) AND ($8::text IS NULL OR coalesce(source = $8, false)),
                octet_length(call)::bigint + octet_length(reason) + coalesce(octet_length(headers), 0) + 128, why = 'unmapped'
             FROM segment_relay.dead_letters WHERE id >= $1 AND id < $2 ORDER BY id ",
            $order,
            " LIMIT $9"
        )
    };
}

const READ: &str = "
    SELECT id, user_id, call, status, reason, attempts, (extract(epoch FROM stored_at) * 1000)::bigint,
        (extract(epoch FROM refused_at) * 1000)::bigint, why, source, headers
    FROM segment_relay.dead_letters WHERE id = ANY($1) ORDER BY id DESC";

/// A time filter that no interval can be made of fits as the nearest one does: 100,000 years.
const MAX_TIME: i64 = 3_155_760_000_000_000;

/// What a statement found.
#[derive(Default)]
struct Found {
    ids: Vec<i64>,
    /// Those that are events.
    events: Vec<i64>,
    /// Bytes of those that fit.
    bytes: usize,
    /// The letter that was looked at last, if there may be more behind it.
    last: Option<i64>,
}

impl Shared {
    /// At most `limit` of the newest letters that fit.
    pub(super) async fn list_letters(&self, limit: usize, filter: LetterFilter) -> Result<LetterPage, OutboxError> {
        let mut pages = LetterPages::new(limit, filter);
        while let Some(wanted) = pages.next_read() {
            let (page, bytes) = self.newest_letters(&wanted).await?;
            pages.add(page, bytes);
        }
        Ok(pages.into_page())
    }

    /// The newest letters that fit, and their bytes.
    async fn newest_letters(&self, wanted: &LetterRead) -> Result<(LetterPage, usize), OutboxError> {
        let LetterRead { limit, bytes, ref filter } = *wanted;
        // One more than is shown tells whether there are more.
        let Found { mut ids, last, bytes, .. } =
            self.look(look!("DESC"), 0, filter, limit.saturating_add(1), bytes).await?;
        let next = if ids.len() > limit { ids.pop().map(|id| id.saturating_add(1)) } else { last };
        // A letter may have gone since.
        let rows = self.read_rows(READ, &[(&ids, Type::INT8_ARRAY)]).await?;
        Ok((LetterPage { letters: rows.iter().map(dead_letter).collect::<Result<_, _>>()?, next }, bytes))
    }

    /// The ids of at most `limit` of the oldest letters that fit, from this id on.
    pub(super) async fn find_letters(
        &self,
        from: i64,
        limit: usize,
        filter: &LetterFilter,
    ) -> Result<LetterIds, OutboxError> {
        let Found { ids, events, last, .. } =
            self.look(look!("ASC"), from, filter, limit.min(MAX_IDS), MAX_TRANSACTION_BYTES).await?;
        Ok(LetterIds { ids, events, next: last.map(|last| last.saturating_add(1)) })
    }

    /// Looks at letters, until this many fit, or they have this many bytes.
    async fn look(
        &self,
        sql: &str,
        from: i64,
        filter: &LetterFilter,
        limit: usize,
        bytes: usize,
    ) -> Result<Found, OutboxError> {
        let time = |time: Option<i64>| time.map(|time| time.clamp(-MAX_TIME / 100, MAX_TIME));
        let (since, until) = (time(filter.since), time(filter.until));
        let status = filter.status.map(|status| i32::from(status.unwrap_or_default()));
        let params: [Param<'_>; 9] = [
            (&from, Type::INT8),
            (&filter.before.unwrap_or(i64::MAX), Type::INT8),
            (&since, Type::INT8),
            (&until, Type::INT8),
            (&status, Type::INT4),
            (&filter.user_id.as_ref().map(String::as_bytes), Type::BYTEA),
            (&filter.why.map(LetterWhy::as_str), Type::TEXT),
            (&filter.source, Type::TEXT),
            (&(READ_LETTERS as i64), Type::INT8),
        ];
        let rows = self.read_rows(sql, &params).await?;
        let mut found = Found::default();
        for row in &rows {
            let id = column(row, 0)?;
            if column(row, 1)? {
                found.ids.push(id);
                if column(row, 3)? {
                    found.events.push(id);
                }
                found.bytes += usize::try_from(column::<i64>(row, 2)?).unwrap_or(usize::MAX);
            }
            if found.ids.len() >= limit || found.bytes >= bytes {
                found.last = Some(id);
                return Ok(found);
            }
        }
        if rows.len() == READ_LETTERS {
            found.last = rows.last().map(|row| column(row, 0)).transpose()?;
        }
        Ok(found)
    }
}

fn dead_letter(row: &Row) -> Result<DeadLetter, OutboxError> {
    let (body, why): (&[u8], String) = (column(row, 2)?, column(row, 8)?);
    let (mut message_id, mut user_id, mut call, mut event) = (None, None, None, None);
    if why == LetterWhy::Unmapped.as_str() {
        event = Some(letter_event(body.to_vec(), column::<Option<&[u8]>>(row, 10)?.unwrap_or_default()));
    } else {
        message_id = Some(self::message_id(body)?);
        user_id = column::<Option<&[u8]>>(row, 1)?.map(|user| String::from_utf8_lossy(user).into_owned());
        call = Some(serde_json::from_slice::<Box<RawValue>>(body).map_err(|_invalid| not_a_call())?);
    }
    let (status, attempts): (i32, i32) = (column(row, 3)?, column(row, 5)?);
    Ok(DeadLetter {
        id: column(row, 0)?,
        message_id,
        user_id,
        why,
        source: column(row, 9)?,
        call,
        event,
        status: u16::try_from(status).ok().filter(|status| *status > 0),
        reason: text(row, 4)?,
        attempts: attempts.max(0).unsigned_abs(),
        stored_at: time_text(column(row, 6)?),
        refused_at: time_text(column(row, 7)?),
    })
}

/// The `messageId` of a stored call.
pub(super) fn message_id(json: &[u8]) -> Result<String, OutboxError> {
    serde_json::from_slice::<CallFields>(json).map(|fields| fields.message_id).map_err(|_invalid| not_a_call())
}

fn not_a_call() -> OutboxError {
    tracing::warn!("a row of the outbox holds no call");
    OutboxError::Unreadable
}
