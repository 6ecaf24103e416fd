//! Calls that are kept apart from `calls`: those of users whose first call fails on its own, and of users with many calls.
//!
//! A user with calls in `parked_calls` has a row in `parked`. Later calls of the user are stored behind them, so a user's calls
//! are always in the order of their ids. If the first call fails, `since` is set and nothing but that call is read. It wakes
//! the user when it is accepted, refused or given up: `since` is NULL then, and the calls are read a part at a time (`next`).

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::trace::trace_column;
use super::transaction::Transaction;
use crate::outbox::CallId;
use crate::outbox::limits::{many_bytes, row_bytes};
use crate::outbox::parking::{is_given_up, pause};
use crate::outbox::wishes::Wish;
use crate::segment::{Call, Trouble};

/// A row of `parked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParkedRow {
    /// 0: it is not in the table yet.
    pub(super) id: i64,
    pub(super) after_id: CallId,
    pub(super) calls: i64,
    pub(super) bytes: i64,
    pub(super) since: Option<i64>,
    pub(super) attempts: i64,
    pub(super) failures: i64,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) retry_at: i64,
}

/// Where a new call is stored.
pub(super) enum Place {
    Calls,
    /// Kept apart, with the user's row if there is one already.
    Apart(Option<ParkedRow>),
}

/// Why a call becomes a dead letter.
pub(super) struct LetterCause<'a> {
    pub(super) why: &'static str,
    /// 0: there was no answer.
    pub(super) status: u16,
    pub(super) reason: &'a str,
    pub(super) attempts: u32,
}

/// A row that is kept apart.
struct CallRow {
    user_id: String,
    bytes: i64,
}

/// Consecutive rows of `calls` that are of one user.
pub(super) struct Run {
    pub(super) user_id: String,
    pub(super) first: CallId,
    pub(super) last: CallId,
    pub(super) calls: i64,
    pub(super) bytes: u64,
}

/// The row of a user in `parked`.
pub(super) fn parked_row(conn: &Connection, user_id: &str) -> Result<Option<ParkedRow>> {
    let sql = "SELECT id, after_id, calls, bytes, since, attempts, failures, status, reason, retry_at
               FROM parked WHERE user_id = ?1";
    let row = |row: &Row<'_>| {
        Ok(ParkedRow {
            id: row.get(0)?,
            after_id: row.get(1)?,
            calls: row.get(2)?,
            bytes: row.get(3)?,
            since: row.get(4)?,
            attempts: row.get(5)?,
            failures: row.get(6)?,
            status: row.get(7)?,
            reason: row.get(8)?,
            retry_at: row.get(9)?,
        })
    };
    conn.prepare_cached(sql)?.query_row([user_id], row).optional()
}

impl ParkedRow {
    /// Bytes that count in the share of failing calls.
    fn failing_bytes(&self) -> u64 {
        if self.since.is_some() { self.bytes.unsigned_abs() } else { 0 }
    }
}

impl Transaction<'_> {
    /// Where a call of this user is stored.
    pub(super) fn place(&self, call: &Call) -> Result<Place> {
        if self.effects.stats.parked_calls > 0
            && let Some(row) = parked_row(self.conn, call.user_id())?
        {
            return Ok(Place::Apart(Some(row)));
        }
        let waiting = self.memory.waiting_bytes(self.memory.hash(call.user_id()));
        let has_many = waiting + row_bytes(call.json().len() as u64) > many_bytes(self.effects.stats.max_bytes);
        Ok(if has_many { Place::Apart(None) } else { Place::Calls })
    }

    /// Changes the row of a user, and the counts that depend on it. The row is made if it is missing, and goes with the last
    /// call.
    pub(super) fn change_parked(&mut self, user_id: &str, change: impl FnOnce(&mut ParkedRow)) -> Result<()> {
        let old = parked_row(self.conn, user_id)?;
        self.replace_parked(user_id, old, change)
    }

    /// The same, if the row is known.
    pub(super) fn replace_parked(
        &mut self,
        user_id: &str,
        old: Option<ParkedRow>,
        change: impl FnOnce(&mut ParkedRow),
    ) -> Result<()> {
        let old = match old {
            Some(old) => old,
            None => ParkedRow {
                id: 0,
                after_id: self.effects.stats.last_id,
                calls: 0,
                bytes: 0,
                since: None,
                attempts: 0,
                failures: 0,
                status: None,
                reason: None,
                retry_at: self.next_turn()?,
            },
        };
        let mut new = old.clone();
        change(&mut new);
        self.count_parked(&old, &new);
        let ParkedRow { id, after_id, calls, bytes, since, attempts, failures, status, ref reason, retry_at } = new;
        if calls <= 0 {
            self.execute("DELETE FROM parked WHERE id = ?1", [id])?;
        } else if id == 0 {
            let sql = "INSERT INTO parked (user_id, after_id, calls, bytes, since, attempts, failures, status, reason, retry_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
            let values = params![user_id, after_id, calls, bytes, since, attempts, failures, status, reason, retry_at];
            self.execute(sql, values)?;
        } else if (ParkedRow { calls: old.calls, bytes: old.bytes, ..new.clone() }) == old {
            // What the indexes hold stays as it is.
            self.execute("UPDATE parked SET calls = ?2, bytes = ?3 WHERE id = ?1", [id, calls, bytes])?;
        } else {
            let sql = "UPDATE parked SET calls = ?2, bytes = ?3, since = ?4, attempts = ?5, failures = ?6, status = ?7,
                       reason = ?8, retry_at = ?9 WHERE id = ?1";
            self.execute(sql, params![id, calls, bytes, since, attempts, failures, status, reason, retry_at])?;
        }
        Ok(())
    }

    fn count_parked(&mut self, old: &ParkedRow, new: &ParkedRow) {
        let (stats, fails) = (&mut self.effects.stats, |row: &ParkedRow| row.since.is_some() && row.calls > 0);
        let (did_fail, does_fail) = (old.since.is_some(), fails(new));
        stats.parked_users = (stats.parked_users + u64::from(does_fail)).saturating_sub(did_fail.into());
        let calls = new.calls.unsigned_abs();
        stats.parked_calls = (stats.parked_calls + calls).saturating_sub(old.calls.unsigned_abs());
        stats.parked_bytes = (stats.parked_bytes + new.failing_bytes()).saturating_sub(old.failing_bytes());
        self.effects.parked_users += u64::from(does_fail && !did_fail);
        self.effects.woken_users += u64::from(did_fail && !does_fail);
    }

    /// The turn behind all users who are read in turn.
    fn next_turn(&self) -> Result<i64> {
        let last = "SELECT ifnull(max(retry_at), 0) FROM parked WHERE since IS NULL";
        self.conn.prepare_cached(last)?.query_row([], |row| row.get(0)).map(|last: i64| last + 1)
    }

    /// Stores a call behind those of its user that are kept apart.
    pub(super) fn insert_apart(
        &mut self,
        call: &Call,
        key: Option<&[u8]>,
        stored_at: i64,
        row: Option<ParkedRow>,
    ) -> Result<()> {
        let id = self.effects.stats.last_id + 1;
        let bytes = row_bytes(call.json().len() as u64).cast_signed();
        self.execute(
            "INSERT INTO parked_calls (id, user_id, stored_at, key, call, source, trace) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, call.user_id(), stored_at, key, &call.json()[..], call.source(), trace_column(call)],
        )?;
        self.replace_parked(call.user_id(), row, |row| (row.calls, row.bytes) = (row.calls + 1, row.bytes + bytes))
    }

    /// Moves consecutive rows of one user from `calls`.
    pub(super) fn move_run(&mut self, run: &Run) -> Result<()> {
        let ids = [run.first, run.last];
        self.execute("INSERT INTO parked_calls SELECT * FROM calls WHERE id BETWEEN ?1 AND ?2", ids)?;
        self.execute("DELETE FROM calls WHERE id BETWEEN ?1 AND ?2", ids)?;
        let (calls, bytes) = (run.calls, run.bytes.cast_signed());
        self.change_parked(&run.user_id, |row| (row.calls, row.bytes) = (row.calls + calls, row.bytes + bytes))
    }

    /// Keeps a waiting call apart: behind an earlier one of its user that is parked.
    pub(super) fn put_apart(&mut self, id: CallId) -> Result<()> {
        self.move_apart(id).map(|_row| ())
    }

    /// Moves a waiting call from `calls`, unless it is kept apart already. `None` if it does not wait.
    fn move_apart(&mut self, id: CallId) -> Result<Option<CallRow>> {
        let row = |row: &Row<'_>| {
            Ok(CallRow { user_id: row.get(0)?, bytes: row_bytes(row.get::<_, i64>(1)?.unsigned_abs()).cast_signed() })
        };
        let sql = "INSERT INTO parked_calls SELECT * FROM calls WHERE id = ?1 RETURNING user_id, length(call)";
        if let Some(moved) = self.first(sql, [id], row)? {
            self.execute("DELETE FROM calls WHERE id = ?1", [id])?;
            self.change_parked(&moved.user_id, |row| {
                (row.calls, row.bytes) = (row.calls + 1, row.bytes + moved.bytes);
            })?;
            return Ok(Some(moved));
        }
        self.first("SELECT user_id, length(call) FROM parked_calls WHERE id = ?1", [id], row)
    }

    /// Parks the user of a call that failed on its own, or gives the call up.
    pub(super) fn park(&mut self, id: CallId, trouble: &Trouble) -> Result<()> {
        let Some(call) = self.move_apart(id)? else { return Ok(()) };
        let Some(row) = parked_row(self.conn, &call.user_id)? else { return Ok(()) };
        let (now, wish) = (self.now, self.memory.wish_of(id));
        // In an outage nothing is the call's own fault.
        let (since, failures) = (row.since.unwrap_or(now), row.failures + i64::from(trouble.is_own));
        let why = match wish {
            Some(Wish::GiveUp) => Some("operator"),
            _ if trouble.is_own && is_given_up(self.memory.give_up_after, since, failures, now) => Some("gave_up"),
            _ => None,
        };
        if let Some(why) = why {
            let (status, reason, attempts) = (trouble.status.unwrap_or(0), &*trouble.reason, trouble.attempts);
            return self.make_dead_letter(id, &LetterCause { why, status, reason, attempts });
        }
        self.replace_parked(&call.user_id, Some(row), |row| {
            row.since = Some(since);
            row.attempts += i64::from(trouble.attempts);
            row.failures = failures;
            (row.status, row.reason) = (trouble.status, Some(trouble.reason.clone()));
            row.retry_at = if wish == Some(Wish::Retry) { now } else { now.saturating_add(pause(failures.max(1))) };
        })
    }

    /// A call that was kept apart is settled. If it was the one that failed, the user wakes.
    pub(super) fn left_apart(&mut self, user_id: &str, length: i64) -> Result<()> {
        let (turn, bytes) = (self.next_turn()?, row_bytes(length.unsigned_abs()).cast_signed());
        self.change_parked(user_id, |row| {
            (row.calls, row.bytes) = (row.calls - 1, row.bytes - bytes);
            if row.since.take().is_some() {
                (row.attempts, row.failures, row.status, row.reason, row.retry_at) = (0, 0, None, None, turn);
            }
        })
    }

    /// The first call of a user that is kept apart, and its source.
    pub(super) fn first_apart(&self, user_id: &str) -> Result<Option<(CallId, Option<String>)>> {
        let sql = "SELECT id, source FROM parked_calls WHERE user_id = ?1 ORDER BY id LIMIT 1";
        self.first(sql, [user_id], |row| row.try_into())
    }
}
