//! Finds a call by its `messageId`, although no index has it: neither storing nor settling a call writes for this.
//!
//! A call with a key is found by the key, which is a digest of the `messageId`. A call without one has an id that the relay
//! made, and that holds the time. Rows are in the order of time, so a binary search finds the place. If the call is not there,
//! because the clock was set or an earlier version made the id, all rows are looked at.
//!
//! Every read is a short transaction. A call may move from one table to another between two of them: see [`SqliteOutbox::search`].

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::store::SqliteOutbox;
use crate::outbox::client::digest;
use crate::outbox::columns::time_text;
use crate::outbox::{CallFate, CallReport, Calls, KeptCall, OutboxError};
use crate::segment::{is_made_without_key, time_of_id, write_json_string};

/// Rows that one read looks at, and bytes of calls: a few milliseconds, in which other operators' reads wait.
const STEP_ROWS: usize = 4_000;
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// Reads from the place that the time in an id leads to: 20,000 calls, which is what a busy relay stores between the second in
/// which it makes an id and the commit.
const NEAR_STEPS: usize = 5;

/// A table of calls.
#[derive(Clone, Copy)]
struct Table {
    is_letters: bool,
    /// The rows with ids from `?1` to `?2`. The second column is the call, or NULL if it has a key or is an event: then the
    /// pages on which it continues are not read.
    rows: &'static str,
    /// The first id from `?1` on, and the time that grows with the ids.
    time: &'static str,
    /// The smallest and the greatest id.
    ends: &'static str,
}

macro_rules! table {
    ($name:literal, $time:literal, $is_letters:literal) => {
        Table {
            is_letters: $is_letters,
            rows: concat!(
                "SELECT id, CASE WHEN key IS NULL AND user_id <> '' THEN call END FROM ",
                $name,
                " WHERE id BETWEEN ?1 AND ?2 ORDER BY id"
            ),
            time: concat!("SELECT id, ", $time, " FROM ", $name, " WHERE id >= ?1 ORDER BY id LIMIT 1"),
            ends: concat!("SELECT (SELECT min(id) FROM ", $name, "), (SELECT max(id) FROM ", $name, ")"),
        }
    };
}

const CALLS: Table = table!("calls", "stored_at", false);
const APART: Table = table!("parked_calls", "stored_at", false);
const LETTERS: Table = table!("dead_letters", "refused_at", true);

/// The last ids that calls and dead letters have.
#[derive(Clone, Copy, Default)]
struct LastIds {
    call: i64,
    letter: i64,
}

impl LastIds {
    fn of(self, table: &Table) -> i64 {
        if table.is_letters { self.letter } else { self.call }
    }
}

/// What a read found.
enum Look {
    Found(CallReport),
    /// The id of the next row, if there may be more.
    Next(Option<i64>),
}

/// What is looked for.
#[derive(Clone)]
struct Wanted {
    message_id: String,
    /// The end of the call's JSON: `messageId` is the last member of a call, and its own quotes are escaped.
    end: Vec<u8>,
}

impl Wanted {
    fn new(message_id: &str) -> Self {
        let mut end = br#","messageId":"#.to_vec();
        write_json_string(&mut end, message_id);
        end.push(b'}');
        Self { message_id: message_id.to_owned(), end }
    }

    /// What became of a call with a key.
    fn by_key(&self, conn: &Connection) -> Result<Option<CallReport>> {
        let sql = "SELECT call_id, dead_letter_id FROM keys WHERE key = ?1";
        let known = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let key = digest(&[self.message_id.as_bytes()]);
        let known: Option<(i64, Option<i64>)> = conn.prepare_cached(sql)?.query_row([key], known).optional()?;
        let Some((call, letter)) = known else { return Ok(None) };
        let row = match letter {
            Some(letter) => letter_report(conn, letter)?,
            None => waiting_report(conn, call)?,
        };
        match row {
            Some((json, fate, kept)) => Ok(json.ends_with(&self.end).then(|| self.report(fate, Some(kept)))),
            // The key of a call that left the store remembers an accepted one.
            None if letter.is_none() => Ok(Some(self.report(CallFate::Accepted, None))),
            None => Ok(None),
        }
    }

    /// Looks at rows from one id to another, until the call is found or the step is full.
    fn look(&self, conn: &Connection, table: &Table, from: i64, to: i64) -> Result<Look> {
        let mut rows = conn.prepare_cached(table.rows)?;
        let mut rows = rows.query([from, to])?;
        let (mut count, mut bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let call = row.get_ref(1)?.as_blob_or_null()?.unwrap_or_default();
            if call.ends_with(&self.end) {
                let report = if table.is_letters { letter_report(conn, id)? } else { waiting_report(conn, id)? };
                if let Some((_, fate, kept)) = report {
                    return Ok(Look::Found(self.report(fate, Some(kept))));
                }
            }
            (count, bytes) = (count + 1, bytes + call.len());
            if count >= STEP_ROWS || bytes >= STEP_BYTES {
                return Ok(Look::Next(id.checked_add(1)));
            }
        }
        Ok(Look::Next(None))
    }

    fn report(&self, outcome: CallFate, kept: Option<KeptCall>) -> CallReport {
        CallReport { message_id: self.message_id.clone(), outcome, kept }
    }
}

/// The call of a row, and what became of it.
type ReportedRow = (Vec<u8>, CallFate, KeptCall);

/// A call that waits. The first call of a parked user is the parked one.
fn waiting_report(conn: &Connection, id: i64) -> Result<Option<ReportedRow>> {
    let sql = "SELECT call, user_id, stored_at, NULL, NULL, NULL, 0 FROM calls WHERE id = ?1
        UNION ALL
        SELECT call, waiting.user_id, stored_at, attempts, status, reason, parked.id IS NOT NULL
        FROM parked_calls AS waiting LEFT JOIN parked ON parked.user_id = waiting.user_id AND since IS NOT NULL
            AND waiting.id = (SELECT min(id) FROM parked_calls WHERE user_id = waiting.user_id)
        WHERE waiting.id = ?1";
    let fate = |is_parked: bool| if is_parked { CallFate::Parked } else { CallFate::Waiting };
    let report = |row: &Row<'_>| Ok((row.get(0)?, fate(row.get(6)?), kept(row)?));
    conn.prepare_cached(sql)?.query_row([id], report).optional()
}

/// A call that is a dead letter.
fn letter_report(conn: &Connection, id: i64) -> Result<Option<ReportedRow>> {
    let sql = "SELECT call, user_id, stored_at, attempts, nullif(status, 0), reason, why = 'refused' FROM dead_letters
        WHERE id = ?1 AND why <> 'unmapped'";
    let fate = |is_refused: bool| if is_refused { CallFate::Refused } else { CallFate::GaveUp };
    let report = |row: &Row<'_>| Ok((row.get(0)?, fate(row.get(6)?), kept(row)?));
    conn.prepare_cached(sql)?.query_row([id], report).optional()
}

fn kept(row: &Row<'_>) -> Result<KeptCall> {
    let attempts: Option<i64> = row.get(3)?;
    Ok(KeptCall {
        user_id: row.get(1)?,
        stored_at: time_text(row.get(2)?),
        attempts: attempts.map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX)),
        status: row.get(4)?,
        reason: row.get(5)?,
    })
}

fn last_ids(conn: &Connection) -> Result<LastIds> {
    let sql = "SELECT last_id, (SELECT ifnull(max(id), 0) FROM dead_letters) FROM counters";
    conn.prepare_cached(sql)?.query_row([], |row| Ok(LastIds { call: row.get(0)?, letter: row.get(1)? }))
}

/// The first id of a row of this time or later. Where times do not grow with the ids, it may be another row.
fn first_id_at(conn: &Connection, table: &Table, time: i64) -> Result<Option<i64>> {
    let ends: (Option<i64>, Option<i64>) = conn.prepare_cached(table.ends)?.query_row([], |row| row.try_into())?;
    let (Some(mut first), Some(mut last)) = ends else { return Ok(None) };
    let mut at = conn.prepare_cached(table.time)?;
    while first < last {
        let middle = first + (last - first) / 2;
        let (id, its_time): (i64, i64) = at.query_row([middle], |row| row.try_into())?;
        if its_time >= time {
            last = middle;
        } else {
            first = id.saturating_add(1);
        }
    }
    Ok(Some(first))
}

/// Runs reads that belong together.
fn at_once<T>(conn: &Connection, reads: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let transaction = conn.unchecked_transaction()?;
    reads(&transaction)
}

#[async_trait]
impl Calls for SqliteOutbox {
    async fn find(&self, message_id: &str) -> Result<Option<CallReport>, OutboxError> {
        let wanted = Wanted::new(message_id);
        let asked = wanted.clone();
        let known = self.reads.read(move |conn| at_once(conn, |conn| asked.by_key(conn))).await?;
        // Any other call has its key for as long as it is in the store.
        if known.is_some() || !is_made_without_key(message_id) {
            return Ok(known);
        }
        if let Some(time) = time_of_id(message_id)
            && let Some(found) = self.look_near(&wanted, time).await?
        {
            return Ok(Some(found));
        }
        self.search(&wanted).await
    }
}

impl SqliteOutbox {
    /// Looks at the rows that were stored, or became dead letters, soon after this time.
    async fn look_near(&self, wanted: &Wanted, time: i64) -> Result<Option<CallReport>, OutboxError> {
        for table in [CALLS, APART, LETTERS] {
            let mut next = self.reads.read(move |conn| at_once(conn, |conn| first_id_at(conn, &table, time))).await?;
            for _ in 0..NEAR_STEPS {
                let Some(from) = next else { break };
                match self.look(wanted, table, from, i64::MAX).await? {
                    Look::Found(report) => return Ok(Some(report)),
                    Look::Next(further) => next = further,
                }
            }
        }
        Ok(None)
    }

    /// Looks at all rows, in steps. Each round looks at those behind the ones of the round before, and the last round, which is one
    /// transaction, at all that are left.
    ///
    /// So a call is found wherever it moves meanwhile: one that becomes a dead letter, or is put back from there, gets a new id,
    /// and is in a later round. One that is kept apart keeps its id, and the table that it moves to is looked at after the one
    /// that it leaves.
    async fn search(&self, wanted: &Wanted) -> Result<Option<CallReport>, OutboxError> {
        let mut done = LastIds::default();
        loop {
            let asked = wanted.clone();
            let last_round = move |conn: &Connection| {
                let mut is_end = true;
                for table in [LETTERS, CALLS, APART] {
                    match asked.look(conn, &table, done.of(&table).saturating_add(1), i64::MAX)? {
                        Look::Found(report) => return Ok((Some(report), None)),
                        Look::Next(next) => is_end &= next.is_none(),
                    }
                }
                Ok((None, if is_end { None } else { Some(last_ids(conn)?) }))
            };
            let last = match self.reads.read(move |conn| at_once(conn, last_round)).await? {
                (found, None) => return Ok(found),
                (_, Some(last)) => last,
            };
            for table in [LETTERS, CALLS, APART] {
                let mut next = Some(done.of(&table).saturating_add(1));
                while let Some(from) = next {
                    match self.look(wanted, table, from, last.of(&table)).await? {
                        Look::Found(report) => return Ok(Some(report)),
                        Look::Next(further) => next = further,
                    }
                }
            }
            done = last;
        }
    }

    async fn look(&self, wanted: &Wanted, table: Table, from: i64, to: i64) -> Result<Look, OutboxError> {
        let wanted = wanted.clone();
        self.reads.read(move |conn| at_once(conn, |conn| wanted.look(conn, &table, from, to))).await
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{CALLS, first_id_at};

    #[test]
    fn the_first_row_of_a_time_or_later_is_found_among_gaps() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE calls (id INTEGER PRIMARY KEY, stored_at INTEGER NOT NULL)").unwrap();
        assert_eq!(first_id_at(&conn, &CALLS, 5).unwrap(), None);
        let rows: Vec<(i64, i64)> = (0..200).map(|n| (n * n + 7, n / 3 * 10)).collect();
        for row in &rows {
            conn.execute("INSERT INTO calls VALUES (?1, ?2)", *row).unwrap();
        }
        for time in -1..=660 {
            let expected = rows.iter().find(|(_, stored_at)| *stored_at >= time).map(|(id, _)| *id);
            let found = first_id_at(&conn, &CALLS, time).unwrap().unwrap();
            // The id may be one without a row: what counts is the next row.
            let next = rows.iter().find(|(id, _)| *id >= found).map(|(id, _)| *id);
            assert_eq!(next, expected, "{time}");
        }
        conn.execute("INSERT INTO calls VALUES (?1, 0)", [i64::MAX]).unwrap();
        assert!(first_id_at(&conn, &CALLS, i64::MAX).unwrap().is_some(), "no id overflows");
    }
}
