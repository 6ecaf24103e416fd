//! One transaction of the writer: commands are carried out in it one after the other, and nobody hears of it before it is
//! committed.
//!
//! What it is to change outside the database once it is committed (counters, watchers, the fresh feed) is gathered in
//! [`Effects`], so that a transaction that fails changes nothing at all. How each command is carried out is in `append`,
//! `settle`, `letters` and `prune`.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Result, Row};
use tokio::sync::oneshot;

use super::command::{Command, Done};
use crate::outbox::{CallId, Outcome, Stored};

/// What is kept free of `max_bytes`, in bytes: the pages of one more call of the largest size, and of its key.
const KEPT_FREE: u64 = 64 * 1024;

/// How much there is, kept with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) last_id: CallId,
    pub(super) waiting: u64,
    pub(super) dead_letters: u64,
    pub(super) keys: u64,
}

/// What is to be done when the transaction is committed.
#[derive(Default)]
pub(super) struct Effects {
    /// Calls that were stored, in the order of their ids.
    pub(super) fresh: Vec<Stored>,
    /// Who wants to hear of which call.
    pub(super) watching: Vec<(CallId, oneshot::Sender<Outcome>)>,
    /// What became of which call.
    pub(super) told: Vec<(CallId, Outcome)>,
    /// Whether keys began to wait for being forgotten.
    pub(super) settled_keys: bool,
    pub(super) stored: u64,
    pub(super) delivered: u64,
    pub(super) refused: u64,
    pub(super) replayed: u64,
    pub(super) discarded: u64,
}

/// What is measured at the end of a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) oldest_stored_at: Option<i64>,
    pub(super) bytes: u64,
    /// What appends may still add, in bytes.
    pub(super) room: u64,
    /// What is not in use within the file, in bytes.
    pub(super) free: u64,
}

pub(super) struct Transaction<'c> {
    pub(super) conn: &'c Connection,
    /// Milliseconds since 1970.
    pub(super) now: i64,
    pub(super) counters: Counters,
    /// What appends may still add, in bytes.
    pub(super) room: u64,
    max_bytes: u64,
    pub(super) effects: Effects,
}

/// What is left of a transaction when it is committed.
pub(super) struct Committed {
    pub(super) counters: Counters,
    pub(super) effects: Effects,
    pub(super) measured: Measured,
    /// How long the commit itself took, which is the sync and little else.
    pub(super) sync: Duration,
}

impl<'c> Transaction<'c> {
    pub(super) fn begin(conn: &'c Connection, now: i64, counters: Counters, room: u64, max_bytes: u64) -> Result<Self> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self { conn, now, counters, room, max_bytes, effects: Effects::default() })
    }

    pub(super) fn carry_out(&mut self, command: &mut Command) -> Result<Done> {
        Ok(match command {
            Command::Append(append, _) => Done::Appended(self.append(append)?),
            Command::Settle(delivered, _) => {
                self.settle(delivered)?;
                Done::Settled
            }
            Command::Replay(id, _) => Done::Was(self.replay(*id)?),
            Command::ReplayAll(all, _) => self.replay_some(all)?,
            Command::Discard(id, _) => Done::Was(self.discard(*id)?),
            Command::Tick | Command::Close => Done::Nothing,
        })
    }

    /// # Errors
    /// If it fails, the transaction may still be open.
    pub(super) fn commit(self) -> Result<Committed> {
        let Self { conn, counters, effects, max_bytes, .. } = self;
        let values = [counters.last_id, count(counters.waiting), count(counters.dead_letters), count(counters.keys)];
        conn.prepare_cached("UPDATE counters SET last_id = ?1, waiting = ?2, dead_letters = ?3, keys = ?4")?
            .execute(values)?;
        let measured = Measured::of(conn, max_bytes)?;
        let mut commit = conn.prepare_cached("COMMIT")?;
        let started = Instant::now();
        commit.execute([])?;
        Ok(Committed { counters, effects, measured, sync: started.elapsed() })
    }
}

impl Counters {
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        conn.query_row("SELECT last_id, waiting, dead_letters, keys FROM counters", [], |row| {
            let count = |column| row.get(column).map(|count: i64| u64::try_from(count).unwrap_or(0));
            Ok(Self { last_id: row.get(0)?, waiting: count(1)?, dead_letters: count(2)?, keys: count(3)? })
        })
    }
}

impl Measured {
    pub(super) fn of(conn: &Connection, max_bytes: u64) -> Result<Self> {
        let first = |row: &Row<'_>| row.get::<_, i64>(0);
        let oldest_stored_at =
            conn.prepare_cached("SELECT stored_at FROM calls ORDER BY id LIMIT 1")?.query_row([], first).optional()?;
        let pages = conn.prepare_cached("PRAGMA page_count")?.query_row([], first)?;
        let free = conn.prepare_cached("PRAGMA freelist_count")?.query_row([], first)?;
        let page_size = conn.prepare_cached("PRAGMA page_size")?.query_row([], first)?;
        let in_bytes = |pages: i64| u64::try_from(pages.saturating_mul(page_size)).unwrap_or(0);
        let (bytes, free) = (in_bytes(pages.saturating_sub(free)), in_bytes(free));
        Ok(Self { oldest_stored_at, bytes, room: max_bytes.saturating_sub(bytes.saturating_add(KEPT_FREE)), free })
    }
}

/// A count as SQLite holds it.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
