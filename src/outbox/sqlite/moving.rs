//! The outbox of a stopped relay, read page by page to be moved to another store.
//!
//! Before the first row is moved the file is marked: its `application_id` is another one, so that no relay, of this version or an
//! older one, starts with it. The mark stays.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::file::{DatabaseFile, LockedFile};
use super::schema::{self, MOVED_ID};
use crate::outbox::moved::{
    MoveHead, MovePage, MoveProgress, MoveStep, MovedCall, MovedKey, MovedLetter, MovedParkedUser, MovedRows,
    MovedSettledKey, PAGE_BYTES,
};

/// The outbox that is moved. No other process can use it meanwhile.
pub struct MoveSource {
    conn: Connection,
    _lock: LockedFile,
}

impl MoveSource {
    /// Opens the file, and keeps others from using it.
    ///
    /// # Errors
    /// If there is no such file, if a relay uses it, or if it is no outbox.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || {
            ensure!(path.try_exists()?, "there is no such file");
            let file = DatabaseFile::new(path);
            let lock = file.create_and_lock()?;
            let mut conn = file.open_writer()?;
            if !schema::is_moved(&conn)? {
                ensure!(schema::check(&conn)? > 0, "the file is empty: there is nothing to move");
                file.enable_wal(&conn)?;
                schema::migrate(&mut conn)?;
            }
            Ok(Self { conn, _lock: lock })
        };
        open().with_context(|| format!("the outbox {} cannot be moved", path.display()))
    }

    /// The token of a move that was begun.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn token(&self) -> anyhow::Result<Option<i64>> {
        Ok(if schema::is_moved(&self.conn)? { Some(self.number("SELECT token FROM moved")?) } else { None })
    }

    /// Marks the file as one that is moved to this place, unless it is. From now on no relay starts with it.
    ///
    /// # Errors
    /// If the file was marked as one that is moved elsewhere, or cannot be read or written.
    pub fn mark(&self, place: &str) -> anyhow::Result<MoveHead> {
        if !schema::is_moved(&self.conn)? {
            self.conn.execute_batch("BEGIN IMMEDIATE")?;
            self.conn.execute_batch("CREATE TABLE moved (token INTEGER NOT NULL, place TEXT NOT NULL) STRICT")?;
            let token = fastrand::i64(1..);
            self.conn.execute("INSERT INTO moved (token, place) VALUES (?1, ?2)", params![token, place])?;
            self.conn.pragma_update(None, "application_id", MOVED_ID)?;
            self.conn.execute_batch("COMMIT")?;
        }
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let (token, before) = self.conn.query_row("SELECT token, place FROM moved", [], read)?;
        if before != place {
            bail!("its move was begun to {before}; name that one");
        }
        let rows = "SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM settled_keys) + (SELECT count(*) FROM settled_source_keys)
                        + (SELECT count(*) FROM parked) + (SELECT count(*) FROM calls) + (SELECT count(*) FROM parked_calls)
                        + (SELECT count(*) FROM dead_letters)";
        Ok(MoveHead {
            token,
            last_call: self.number("SELECT last_id FROM counters")?,
            last_letter: self.number("SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'")?,
            last_parked: self.number("SELECT seq FROM sqlite_sequence WHERE name = 'parked'")?,
            rows: self.number(rows)?.unsigned_abs(),
        })
    }

    fn number(&self, sql: &str) -> anyhow::Result<i64> {
        Ok(self.conn.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// The rows after this one, so many at most. `None`: the step is at its end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn page(&self, from: &MoveProgress, limit: usize) -> anyhow::Result<Option<MovePage>> {
        let MoveProgress { step, number, text } = from;
        let limit = i64::try_from(limit)?;
        let numbered = |number| MoveProgress { number, ..MoveProgress::at(*step) };
        let (rows, after) = match step {
            MoveStep::Keys => {
                let key = data_encoding::HEXLOWER.decode(text.as_bytes()).context("the progress holds no key")?;
                let sql = "SELECT key, body, call_id, dead_letter_id FROM keys WHERE key > ?1 ORDER BY key LIMIT ?2";
                let rows = self.rows(sql, params![key, limit], key_row, |_| 0)?;
                let last = rows.last().map(|row| data_encoding::HEXLOWER.encode(&row.key));
                let after = MoveProgress { text: last.unwrap_or_default(), ..MoveProgress::at(*step) };
                (MovedRows::Keys(rows), after)
            }
            MoveStep::SettledKeys => {
                let sql =
                    "SELECT '', seq, settled_at, key, call_id FROM settled_keys WHERE seq > ?1 ORDER BY seq LIMIT ?2";
                let rows = self.rows(sql, params![number, limit], settled_row, |_| 0)?;
                let after = numbered(rows.last().map_or(0, |(seq, _)| *seq));
                (MovedRows::SettledKeys(rows.into_iter().map(|(_, row)| row).collect()), after)
            }
            MoveStep::SettledSourceKeys => {
                let sql = "SELECT source, seq, settled_at, key, call_id FROM settled_source_keys
                           WHERE (source, seq) > (?1, ?2) ORDER BY source, seq LIMIT ?3";
                let rows = self.rows(sql, params![text, number, limit], settled_row, |_| 0)?;
                let last = rows.last();
                let after = MoveProgress {
                    text: last.map(|(_, row)| row.source.clone()).unwrap_or_default(),
                    ..numbered(last.map_or(0, |(seq, _)| *seq))
                };
                (MovedRows::SettledKeys(rows.into_iter().map(|(_, row)| row).collect()), after)
            }
            MoveStep::ParkedUsers => {
                let sql = "SELECT id, user_id, since, attempts, failures, status, reason, retry_at FROM parked
                           WHERE id > ?1 ORDER BY id LIMIT ?2";
                let rows = self.rows(sql, params![number, limit], parked_row, |row| row.user_id.len())?;
                let after = numbered(rows.last().map_or(0, |row| row.id));
                (MovedRows::ParkedUsers(rows), after)
            }
            MoveStep::Calls | MoveStep::ParkedCalls => {
                // The first calls of a user with many are in `calls`. In the other store they are together, by their ids.
                let sql = if *step == MoveStep::Calls {
                    "SELECT id, user_id, stored_at, key, source, trace, call,
                         EXISTS (SELECT 1 FROM parked WHERE parked.user_id = calls.user_id)
                     FROM calls WHERE id > ?1 ORDER BY id LIMIT ?2"
                } else {
                    "SELECT id, user_id, stored_at, key, source, trace, call, 1
                     FROM parked_calls WHERE id > ?1 ORDER BY id LIMIT ?2"
                };
                let rows = self.rows(sql, params![number, limit], call_row, |row| row.call.len())?;
                let after = numbered(rows.last().map_or(0, |row| row.id));
                (MovedRows::Calls(rows), after)
            }
            MoveStep::DeadLetters => {
                let sql = "SELECT id, user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why, source, headers
                           FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2";
                let rows = self.rows(sql, params![number, limit], letter_row, |row| row.call.len())?;
                let after = numbered(rows.last().map_or(0, |row| row.id));
                (MovedRows::DeadLetters(rows), after)
            }
            MoveStep::Done => return Ok(None),
        };
        Ok((!rows.is_empty()).then_some(MovePage { rows, after }))
    }

    /// Reads until the page is full.
    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        bytes: impl Fn(&T) -> usize,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let (mut found, mut total) = (Vec::new(), 0);
        while total < PAGE_BYTES
            && let Some(row) = rows.next()?
        {
            let row = read(row)?;
            total += bytes(&row);
            found.push(row);
        }
        Ok(found)
    }
}

fn key_row(row: &Row<'_>) -> rusqlite::Result<MovedKey> {
    Ok(MovedKey { key: row.get(0)?, body: row.get(1)?, call_id: row.get(2)?, dead_letter_id: row.get(3)? })
}

/// With its number in the queue of its source.
fn settled_row(row: &Row<'_>) -> rusqlite::Result<(i64, MovedSettledKey)> {
    let key = MovedSettledKey { source: row.get(0)?, settled_at: row.get(2)?, key: row.get(3)?, call_id: row.get(4)? };
    Ok((row.get(1)?, key))
}

fn parked_row(row: &Row<'_>) -> rusqlite::Result<MovedParkedUser> {
    Ok(MovedParkedUser {
        id: row.get(0)?,
        user_id: row.get(1)?,
        since: row.get(2)?,
        attempts: count(row, 3)?,
        failures: count(row, 4)?,
        status: row.get(5)?,
        reason: row.get(6)?,
        retry_at: row.get(7)?,
    })
}

fn call_row(row: &Row<'_>) -> rusqlite::Result<MovedCall> {
    Ok(MovedCall {
        id: row.get(0)?,
        user_id: row.get(1)?,
        stored_at: row.get(2)?,
        key: row.get(3)?,
        source: row.get(4)?,
        trace: row.get(5)?,
        call: row.get(6)?,
        is_apart: row.get(7)?,
    })
}

fn letter_row(row: &Row<'_>) -> rusqlite::Result<MovedLetter> {
    let why: String = row.get(10)?;
    let user_id: String = row.get(1)?;
    Ok(MovedLetter {
        id: row.get(0)?,
        user_id: (why != crate::outbox::LetterWhy::Unmapped.as_str()).then_some(user_id),
        stored_at: row.get(2)?,
        refused_at: row.get(3)?,
        status: row.get(4)?,
        attempts: count(row, 5)?,
        key: row.get(6)?,
        body: row.get(7)?,
        reason: row.get(8)?,
        call: row.get(9)?,
        why,
        source: row.get(11)?,
        headers: row.get(12)?,
    })
}

/// A count that the other store keeps in 32 bits.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<i32> {
    let count = <i64 as FromSql>::column_result(row.get_ref(column)?)?;
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}
