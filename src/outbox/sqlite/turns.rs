//! Reading what is kept apart: users with many calls, and users who woke, in turn; of parked users the first call, when they are
//! due.

use rusqlite::{OptionalExtension, Result, Row};

use super::calls::call_from_row;
use super::trace::trace_of;
use super::writer::{Writer, now};
use crate::outbox::parking::MAX_PAUSE;
use crate::outbox::{CallId, OutboxError, StoredCall};

/// Users who are looked at in one step: a fraction of a millisecond.
const STEP_USERS: usize = 64;

impl Writer {
    /// Takes calls of the users whose calls are kept apart, and whose first call does not fail. True if there may be more.
    pub(super) fn read_in_turn(&mut self, bytes: usize, calls: &mut Vec<StoredCall>) -> Result<bool> {
        let sql = "SELECT user_id, after_id, retry_at FROM parked WHERE since IS NULL AND retry_at > ?1
                   ORDER BY retry_at LIMIT ?2";
        let mut users = self.conn.prepare_cached(sql)?;
        let sql = "SELECT id, call, source, trace FROM parked_calls WHERE user_id = ?1 AND id <= ?2 ORDER BY id";
        let mut waiting = self.conn.prepare_cached(sql)?;
        let mut rows = users.query((self.reading.turn, STEP_USERS as i64))?;
        let (mut count, mut taken) = (0, 0);
        while taken < bytes.max(1) {
            let Some(row) = rows.next()? else {
                if count == STEP_USERS {
                    return Ok(true);
                }
                // The turns begin anew, unless nobody was found from the first one on.
                self.reading.turn = i64::MIN;
                return Ok(!std::mem::replace(&mut self.reading.is_round_empty, true));
            };
            count += 1;
            let (user_id, after_id): (_, CallId) = (row.get_ref(0)?.as_str()?, row.get(1)?);
            self.reading.turn = row.get(2)?;
            let user = self.memory.hash(user_id);
            if self.memory.has_out(user) {
                continue;
            }
            // Before the cursor has passed its calls in `calls`, those behind the cursor wait.
            let last = if self.reading.cursor < after_id { self.reading.cursor } else { CallId::MAX };
            let mut waiting = waiting.query((user_id, last))?;
            while taken < bytes.max(1)
                && let Some(row) = waiting.next()?
            {
                let source = self.memory.sources.name(row.get_ref(2)?)?;
                let (id, call) = (row.get(0)?, call_from_row(user_id.to_owned(), source, row.get(1)?));
                let call = call.in_trace(trace_of(row.get_ref(3)?));
                taken += call.json().len();
                self.memory.take(id, user, &call, false);
                calls.push(StoredCall { id, call, is_parked: false });
                self.reading.is_round_empty = false;
            }
        }
        Ok(true)
    }

    /// The first calls of parked users who are due; if `early`, of others too.
    pub(super) fn next_parked(
        &mut self,
        limit: usize,
        early: bool,
    ) -> std::result::Result<Vec<StoredCall>, OutboxError> {
        if self.state.has_failed() || self.queue.commands.is_closed() {
            return Err(OutboxError::Closed);
        }
        if self.stats.parked_users == 0 || self.state.is_unreadable() {
            return Ok(Vec::new());
        }
        let now = now();
        // A time that is further ahead than any pause is from before the clock was set back.
        let back = now.saturating_add(2 * MAX_PAUSE);
        let times = if early { [(i64::MIN, i64::MAX), (1, 0)] } else { [(i64::MIN, now), (back, i64::MAX)] };
        let mut calls = Vec::new();
        for (from, to) in times {
            self.read_parked(limit, from, to, &mut calls).map_err(|error| self.not_read(&error))?;
        }
        Ok(calls)
    }

    fn read_parked(&mut self, limit: usize, from: i64, to: i64, calls: &mut Vec<StoredCall>) -> Result<()> {
        let sql = "SELECT user_id FROM parked WHERE since IS NOT NULL AND retry_at BETWEEN ?1 AND ?2 ORDER BY retry_at LIMIT ?3";
        let mut users = self.conn.prepare_cached(sql)?;
        let sql = "SELECT id, call, source, trace FROM parked_calls WHERE user_id = ?1 ORDER BY id LIMIT 1";
        let mut first = self.conn.prepare_cached(sql)?;
        // Some of them are out.
        let mut rows = users.query((from, to, i64::try_from(limit.saturating_add(STEP_USERS)).unwrap_or(i64::MAX)))?;
        while calls.len() < limit
            && let Some(row) = rows.next()?
        {
            let user_id = row.get_ref(0)?.as_str()?;
            let user = self.memory.hash(user_id);
            if !self.memory.has_out(user) {
                let sources = &self.memory.sources;
                let call = |row: &Row<'_>| {
                    let source = sources.name(row.get_ref(2)?)?;
                    let call = call_from_row(user_id.to_owned(), source, row.get(1)?);
                    Ok((row.get(0)?, call.in_trace(trace_of(row.get_ref(3)?))))
                };
                let Some((id, call)) = first.query_row([user_id], call).optional()? else { continue };
                self.memory.take(id, user, &call, false);
                calls.push(StoredCall { id, call, is_parked: true });
            }
        }
        Ok(())
    }
}
