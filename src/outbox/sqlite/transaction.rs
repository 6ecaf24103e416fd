//! One write transaction: what commands change in it, and its commit.
//!
//! Changes outside the database (counters, watchers, the feed of new calls) are collected in [`Effects`] and applied
//! after the commit, so a failed transaction changes nothing. The statements of the commands are in `append`, `settle`,
//! `dead_letters` and `prune`.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Params, Result, Row};
use tokio::sync::oneshot;

use crate::outbox::store::{CallId, DeliveryOutcome, StoredCall};

/// Bytes of one transaction, approximately: a disk writes that much in a few milliseconds, and no caller waits longer.
pub(super) const MAX_TRANSACTION_BYTES: usize = 1024 * 1024;

/// Bytes of a row beside its values, approximately: its entries in each table and index.
pub(super) const ROW_OVERHEAD: usize = 128;

/// Bytes of `max_bytes` that stay free: the pages of one more call of the largest size, and of its key.
const KEPT_FREE: u64 = 64 * 1024;

/// Row counts. They are stored with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) last_id: CallId,
    pub(super) waiting: u64,
    pub(super) dead_letters: u64,
    pub(super) keys: u64,
}

/// What is applied after the commit.
#[derive(Default)]
pub(super) struct Effects {
    /// New calls, ordered by id.
    pub(super) new_calls: Vec<StoredCall>,
    pub(super) watchers: Vec<(CallId, oneshot::Sender<DeliveryOutcome>)>,
    pub(super) outcomes: Vec<(CallId, DeliveryOutcome)>,
    /// Whether the window of any key began.
    pub(super) settled_keys: bool,
    pub(super) stored: u64,
    pub(super) delivered: u64,
    pub(super) refused: u64,
    pub(super) replayed: u64,
    pub(super) discarded: u64,
}

/// Sizes that are read at the end of a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measurements {
    pub(super) oldest_stored_at: Option<i64>,
    /// Bytes of the file that are in use.
    pub(super) bytes: u64,
    /// Bytes that appends may still add.
    pub(super) room: u64,
    /// Bytes of the file that are not in use.
    pub(super) free: u64,
}

pub(super) struct Transaction<'c> {
    pub(super) conn: &'c Connection,
    /// Milliseconds since 1970.
    pub(super) now: i64,
    pub(super) counters: Counters,
    /// Bytes that appends may still add.
    pub(super) room: u64,
    max_bytes: u64,
    pub(super) effects: Effects,
}

/// The result of a committed transaction.
pub(super) struct Committed {
    pub(super) counters: Counters,
    pub(super) effects: Effects,
    pub(super) measurements: Measurements,
    /// Duration of the COMMIT statement, nearly all of which is the sync.
    pub(super) sync: Duration,
}

impl<'c> Transaction<'c> {
    pub(super) fn begin(conn: &'c Connection, now: i64, counters: Counters, room: u64, max_bytes: u64) -> Result<Self> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self { conn, now, counters, room, max_bytes, effects: Effects::default() })
    }

    /// Runs a statement, and returns the number of changed rows.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.conn.prepare_cached(sql)?.execute(params)
    }

    /// Reads the first row of a query, if it has one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.conn.prepare_cached(sql)?.query_row(params, read).optional()
    }

    /// # Errors
    /// After an error the transaction may still be open.
    pub(super) fn commit(self) -> Result<Committed> {
        let Counters { last_id, waiting, dead_letters, keys } = self.counters;
        let [waiting, dead_letters, keys] =
            [waiting, dead_letters, keys].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        self.execute(
            "UPDATE counters SET last_id = ?1, waiting = ?2, dead_letters = ?3, keys = ?4",
            [last_id, waiting, dead_letters, keys],
        )?;
        let measurements = Measurements::read(self.conn, self.max_bytes)?;
        let mut commit = self.conn.prepare_cached("COMMIT")?;
        let started = Instant::now();
        commit.execute([])?;
        Ok(Committed { counters: self.counters, effects: self.effects, measurements, sync: started.elapsed() })
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

impl Measurements {
    pub(super) fn read(conn: &Connection, max_bytes: u64) -> Result<Self> {
        let value = |sql: &str| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
        let oldest_stored_at = value("SELECT stored_at FROM calls ORDER BY id LIMIT 1").optional()?;
        let (pages, free) = (value("PRAGMA page_count")?, value("PRAGMA freelist_count")?);
        let page_size = value("PRAGMA page_size")?;
        let in_bytes = |pages: i64| u64::try_from(pages.saturating_mul(page_size)).unwrap_or(0);
        let (bytes, free) = (in_bytes(pages.saturating_sub(free)), in_bytes(free));
        Ok(Self { oldest_stored_at, bytes, room: max_bytes.saturating_sub(bytes.saturating_add(KEPT_FREE)), free })
    }
}
