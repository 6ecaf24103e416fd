//! Reading dead letters: a page of them, newest first, and the ids of those that fit a filter, oldest first.
//!
//! There is no index but that of the ids, because filters are rare and an index would cost every refusal. A read looks at a
//! bounded number of letters, so no transaction stays open for long, however few of them fit.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};
use serde_json::value::RawValue;

use crate::outbox::columns::{CallFields, letter_event, time_text};
use crate::outbox::letter_pages::LetterRead;
use crate::outbox::limits::{MAX_TRANSACTION_BYTES, ROW_OVERHEAD};
use crate::outbox::{DeadLetter, LetterFilter, LetterIds, LetterPage, LetterWhy};

/// Letters that one read looks at: a few milliseconds. With `why`, which stands behind the call, they are up to 32 MiB.
const READ_LETTERS: usize = 1000;

/// Ids that one read finds: as many letters as a transaction puts back, if they are small.
const MAX_IDS: usize = 256;

/// Looks at the letters with ids from `?1` to below `?2`. The second column is 1 if the letter fits: `why` and `source` are read
/// last, and only if they are asked for, because they may be on an overflow page. A filter that is not set is NULL, and excludes
/// nothing. The third column is the letter's bytes. An event alone has no user.
macro_rules! look {
    ($order:literal) => {
        concat!(
            "SELECT id, CASE WHEN refused_at < ?3 OR refused_at >= ?4 OR status <> ?5 OR user_id <> ?6 THEN 0
                             WHEN ?7 IS NULL AND ?8 IS NULL THEN 1
                             ELSE ifnull(why = ?7, 1) AND (?8 IS NULL OR source IS ?8) END,
                        length(call) + octet_length(reason) + ifnull(length(headers), 0), user_id = ''
             FROM dead_letters WHERE id >= ?1 AND id < ?2 ORDER BY id ",
            $order
        )
    };
}

/// What a read found.
#[derive(Default)]
struct Found {
    ids: Vec<i64>,
    /// Those that are events.
    events: Vec<i64>,
    /// Bytes of those that fit.
    bytes: usize,
    /// The letter that it looked at last, if there may be more behind it.
    last: Option<i64>,
}

/// Looks at letters, until this many fit, or they have this many bytes.
fn look(conn: &Connection, sql: &str, from: i64, filter: &LetterFilter, limit: usize, bytes: usize) -> Result<Found> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        from,
        filter.before.unwrap_or(i64::MAX),
        filter.since,
        filter.until,
        filter.status.map(Option::unwrap_or_default),
        filter.user_id,
        filter.why.map(LetterWhy::as_str),
        filter.source,
    ])?;
    let (mut found, mut looked) = (Found::default(), 0);
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if row.get(1)? {
            found.ids.push(id);
            if row.get(3)? {
                found.events.push(id);
            }
            found.bytes += ROW_OVERHEAD + row.get::<_, u32>(2)? as usize;
        }
        looked += 1;
        if looked == READ_LETTERS || found.ids.len() >= limit || found.bytes >= bytes {
            found.last = Some(id);
            break;
        }
    }
    Ok(found)
}

/// At most `limit` of the newest letters that fit, until they have this many bytes. Returns their bytes, too.
pub(super) fn newest(conn: &Connection, wanted: &LetterRead) -> Result<(LetterPage, usize)> {
    let LetterRead { limit, bytes, ref filter } = *wanted;
    // One more than is shown tells whether there are more.
    let Found { mut ids, last, bytes, .. } = look(conn, look!("DESC"), 0, filter, limit.saturating_add(1), bytes)?;
    let next = if ids.len() > limit { ids.pop().map(|id| id.saturating_add(1)) } else { last };
    let sql = "SELECT id, user_id, call, status, reason, attempts, stored_at, refused_at, why, source, headers
               FROM dead_letters WHERE id = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    // A letter may have gone since.
    let letters = ids.into_iter().filter_map(|id| statement.query_row([id], dead_letter).optional().transpose());
    Ok((LetterPage { letters: letters.collect::<Result<_>>()?, next }, bytes))
}

/// The ids of at most `limit` of the oldest letters that fit, from this id on.
pub(super) fn oldest(conn: &Connection, from: i64, limit: usize, filter: &LetterFilter) -> Result<LetterIds> {
    let Found { ids, events, last, .. } =
        look(conn, look!("ASC"), from, filter, limit.min(MAX_IDS), MAX_TRANSACTION_BYTES)?;
    Ok(LetterIds { ids, events, next: last.map(|last| last.saturating_add(1)) })
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter> {
    let (body, why): (Vec<u8>, String) = (row.get(2)?, row.get(8)?);
    let (mut message_id, mut user_id, mut call, mut event) = (None, None, None, None);
    if why == LetterWhy::Unmapped.as_str() {
        event = Some(letter_event(body, &row.get::<_, Option<Vec<u8>>>(10)?.unwrap_or_default()));
    } else {
        let invalid = |error: serde_json::Error| Error::FromSqlConversionFailure(2, Type::Blob, Box::new(error));
        message_id = Some(serde_json::from_slice::<CallFields>(&body).map_err(invalid)?.message_id);
        user_id = row.get(1)?;
        call = Some(serde_json::from_slice::<Box<RawValue>>(&body).map_err(invalid)?);
    }
    Ok(DeadLetter {
        id: row.get(0)?,
        message_id,
        user_id,
        why,
        source: row.get(9)?,
        call,
        event,
        status: Some(row.get(3)?).filter(|status| *status > 0),
        reason: row.get(4)?,
        attempts: row.get(5)?,
        stored_at: time_text(row.get(6)?),
        refused_at: time_text(row.get(7)?),
    })
}
