//! Which calls delivery sends next.
//!
//! Calls are read in the order of their ids, each once: from memory if the last transactions stored them, otherwise from the
//! file. A call of a user who is parked, or who has many calls out, is moved to `parked_calls` when reading meets it, so nothing
//! is skipped and read again. Users whose calls are kept apart, and whose first call does not fail, are read in turn, a part at
//! a time. A parked call is read when its user is due.

use std::collections::VecDeque;

use rusqlite::{Connection, Error, Result, Row};

use super::calls::call_from_row;
use super::command::WriterCommand;
use super::memory::{Memory, UserHash};
use super::parked::{Run, parked_row};
use super::reading::Found;
use super::state::{StoreFault, is_corruption, without_values};
use super::trace::trace_of;
use super::transaction::{Effects, Transaction};
use super::writer::{Writer, now};
use crate::outbox::limits::many_bytes;
use crate::outbox::{CallId, OutboxError, OutboxStats, StoredCall};

/// Bytes of calls that are read at once: half of a request to Segment. Other commands wait meanwhile.
const PART_BYTES: usize = 256 * 1024;

/// Rows of `calls` that are looked at in one step: a few milliseconds, with what is moved.
const STEP_ROWS: i64 = 4_000;

/// What a step found.
enum Step {
    Calls(Vec<StoredCall>),
    /// Nothing yet; there is more to look at.
    Unfinished,
    Nothing,
}

impl Writer {
    /// Answers delivery, if it waits and there are calls.
    pub(super) fn answer_next(&mut self) {
        let Some((room, reply)) = self.reading.asked.take() else { return };
        if reply.is_abandoned() {
            return;
        }
        if self.state.has_failed() || self.queue.commands.is_closed() {
            return reply.answer(Err(OutboxError::Closed));
        }
        match self.step(room) {
            Ok(Step::Calls(calls)) => reply.answer(Ok(calls)),
            // Other commands run in between.
            Ok(Step::Unfinished) => self.queue.requeued.push(WriterCommand::Next(room, reply)),
            Ok(Step::Nothing) => self.reading.ask(room, reply),
            Err(error) => reply.answer(Err(error)),
        }
    }

    fn step(&mut self, room: usize) -> std::result::Result<Step, OutboxError> {
        let mut calls = Vec::new();
        let mut is_unfinished = false;
        let is_turn_first = self.reading.is_turn_first;
        for is_turn in [is_turn_first, !is_turn_first] {
            let left = room.saturating_sub(json_bytes(&calls)).min(PART_BYTES);
            if left == 0 && !calls.is_empty() {
                break;
            }
            is_unfinished |= if is_turn {
                self.stats.parked_calls > 0
                    && !self.state.is_unreadable()
                    && self.read_in_turn(left, &mut calls).map_err(|error| self.not_read(&error))?
            } else {
                self.read_forward(left, &mut calls)?
            };
        }
        Ok(if !calls.is_empty() {
            self.reading.is_turn_first = !is_turn_first;
            Step::Calls(calls)
        } else if is_unfinished {
            Step::Unfinished
        } else {
            Step::Nothing
        })
    }

    /// Takes calls behind the cursor, and moves those that must wait. True if there may be more.
    fn read_forward(&mut self, bytes: usize, calls: &mut Vec<StoredCall>) -> std::result::Result<bool, OutboxError> {
        if self.state.is_unreadable() {
            while json_bytes(calls) < bytes
                && let Some(stored) = self.reading.take_fresh()
            {
                calls.push(stored);
            }
            return Ok(false);
        }
        let found = match self.find(bytes) {
            Ok(found) => found,
            Err((taken, error)) => {
                // Nothing is lost: the calls are read again.
                self.give_back(taken);
                return Err(self.not_read(&error));
            }
        };
        if !found.runs.is_empty()
            && let Err(error) = self.move_runs(&found.runs)
        {
            self.give_back(found.calls);
            return Err(error);
        }
        for &(id, user, bytes) in &found.moved {
            self.memory.left_calls(id, user, bytes);
        }
        if found.is_end && self.reading.fresh.is_none() {
            self.reading.fresh = Some(VecDeque::new());
        }
        let before = std::mem::replace(&mut self.reading.cursor, found.cursor);
        calls.extend(found.calls);
        // Calls that are kept apart may have waited for the cursor.
        Ok(!found.is_end || (before < found.cursor && self.stats.parked_calls > 0))
    }

    /// Calls are not out after all. They were not settled, so they are read from the file.
    fn give_back(&mut self, calls: Vec<StoredCall>) {
        for stored in calls {
            self.memory.put_back(stored.id);
        }
        (self.reading.fresh, self.reading.fresh_bytes) = (None, 0);
    }

    /// Calls of a person were deleted. Those that are behind the cursor now are read from the file.
    pub(super) fn note_forgotten(&mut self, effects: &Effects) {
        for &(id, user, bytes) in &effects.left_calls {
            self.memory.left_calls(id, user, bytes);
        }
        if effects.forgotten > 0 {
            (self.reading.fresh, self.reading.fresh_bytes) = (None, 0);
        }
    }

    /// Looks at the calls behind the cursor. After an error the calls that were taken come with it.
    fn find(&mut self, bytes: usize) -> std::result::Result<Found, (Vec<StoredCall>, Error)> {
        let mut found = Found { cursor: self.reading.cursor, ..Found::default() };
        let read = if self.reading.fresh.is_some() {
            self.find_fresh(bytes, &mut found)
        } else {
            self.find_in_file(bytes, &mut found)
        };
        match read {
            Ok(()) => Ok(found),
            Err(error) => Err((found.calls, error)),
        }
    }

    fn find_fresh(&mut self, bytes: usize, found: &mut Found) -> Result<()> {
        while !found.is_enough(bytes) {
            let Some(stored) = self.reading.take_fresh() else {
                (found.is_end, found.cursor) = (true, self.stats.last_id);
                break;
            };
            let (user_id, length) = (stored.call.user_id(), stored.call.json().len());
            let user = self.memory.hash(user_id);
            if must_move(&self.conn, &self.memory, &self.stats, found, stored.id, user_id, user)? {
                found.add_moved(stored.id, user_id, user, length);
            } else {
                self.memory.take(stored.id, user, &stored.call, true);
                found.add(stored);
            }
        }
        Ok(())
    }

    fn find_in_file(&mut self, bytes: usize, found: &mut Found) -> Result<()> {
        let sql = "SELECT id, user_id, length(call) FROM calls WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut ids = self.conn.prepare_cached(sql)?;
        // A statement of its own, so that the overflow pages of moved calls are not read.
        let mut fetch = self.conn.prepare_cached("SELECT call, source, trace FROM calls WHERE id = ?1")?;
        let mut rows = ids.query((self.reading.cursor, STEP_ROWS))?;
        let mut count = 0;
        while !found.is_enough(bytes) {
            let Some(row) = rows.next()? else {
                found.is_end = count < STEP_ROWS;
                break;
            };
            count += 1;
            let (id, user_id): (CallId, _) = (row.get(0)?, row.get_ref(1)?.as_str()?);
            let (user, length) = (self.memory.hash(user_id), row.get::<_, i64>(2)?.unsigned_abs() as usize);
            if must_move(&self.conn, &self.memory, &self.stats, found, id, user_id, user)? {
                found.add_moved(id, user_id, user, length);
            } else {
                let sources = &self.memory.sources;
                let call = |row: &Row<'_>| {
                    let call = call_from_row(user_id.to_owned(), sources.name(row.get_ref(1)?)?, row.get(0)?);
                    Ok(call.in_trace(trace_of(row.get_ref(2)?)))
                };
                let call = fetch.query_row([id], call)?;
                self.memory.take(id, user, &call, true);
                found.add(StoredCall { id, call, is_parked: false });
            }
        }
        if found.is_end {
            found.cursor = self.stats.last_id;
        }
        Ok(())
    }

    /// Moves calls to those that are kept apart, in a transaction of its own.
    fn move_runs(&mut self, runs: &[Run]) -> std::result::Result<(), OutboxError> {
        match self.transact_moves(runs) {
            Ok(effects) => {
                self.committed(Vec::new(), effects);
                Ok(())
            }
            Err(error) => {
                self.failed(Vec::new(), &error);
                let is_fatal = StoreFault::from_error(&error) == StoreFault::Fatal;
                Err(if is_fatal { OutboxError::Unconfirmed } else { OutboxError::Full })
            }
        }
    }

    fn transact_moves(&mut self, runs: &[Run]) -> Result<Effects> {
        let mut transaction = Transaction::begin(&self.conn, now(), self.stats, 0, &mut self.memory)?;
        for run in runs {
            transaction.move_run(run)?;
        }
        transaction.commit()
    }

    /// Notes that the file could not be read.
    pub(super) fn not_read(&self, error: &Error) -> OutboxError {
        if is_corruption(error) {
            self.state.fail("its file is damaged", error);
        } else {
            tracing::warn!(error = without_values(error), "the outbox could not be read");
        }
        OutboxError::Unreadable
    }
}

/// Whether a call behind the cursor waits with others of its user: the first one fails, earlier ones are kept apart, or many
/// are out.
fn must_move(
    conn: &Connection,
    memory: &Memory,
    stats: &OutboxStats,
    found: &Found,
    id: CallId,
    user_id: &str,
    user: UserHash,
) -> Result<bool> {
    if found.moved_users.contains(&user) || memory.out_bytes(user) > many_bytes(stats.max_bytes) {
        return Ok(true);
    }
    if stats.parked_calls == 0 {
        return Ok(false);
    }
    let Some(row) = parked_row(conn, user_id)? else { return Ok(false) };
    let earlier = "SELECT 1 FROM parked_calls WHERE user_id = ?1 AND id < ?2";
    Ok(row.since.is_some() || conn.prepare_cached(earlier)?.exists((user_id, id))?)
}

fn json_bytes(calls: &[StoredCall]) -> usize {
    calls.iter().map(|stored| stored.call.json().len()).sum()
}
