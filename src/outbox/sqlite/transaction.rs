//! One write transaction: what commands change in it, and its commit.
//!
//! Changes outside the database (statistics, watchers, new calls) are collected in [`Effects`] and applied after the commit,
//! so a failed transaction changes nothing. The statements of the commands are in `calls`, `group`, `parked`, `parked_verbs`,
//! `dead_letters`, `events`, `shares`, `source_counts`, `prune` and `expire`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Params, Result, Row};
use tokio::sync::oneshot;

use super::memory::{Memory, UserHash};
use super::sources::SourceCount;
use crate::metrics::Metrics;
use crate::outbox::{CallId, DeliveryOutcome, OutboxStats, StoredCall};

/// What is applied after the commit.
#[derive(Default)]
pub(super) struct Effects {
    /// The row counts, which are stored with every commit, and the sizes at the end of the transaction.
    pub(super) stats: OutboxStats,
    /// Bytes of the file that are not in use.
    pub(super) free_bytes: u64,
    /// New rows of `calls`, ordered by id.
    pub(super) new_calls: Vec<StoredCall>,
    pub(super) watchers: Vec<(CallId, oneshot::Sender<DeliveryOutcome>)>,
    pub(super) outcomes: Vec<(CallId, DeliveryOutcome)>,
    /// Of which sources the window of a key began.
    pub(super) settled_keys: BTreeSet<Option<Arc<str>>>,
    /// Sources of which another number of calls waits now.
    pub(super) sources: BTreeMap<Arc<str>, SourceCount>,
    /// Calls that were stored: the new ones, and those that are kept apart.
    pub(super) stored: u64,
    /// Calls that were settled in any way, or parked: they are not out any more.
    pub(super) returned: Vec<CallId>,
    pub(super) refused: u64,
    /// Calls that became dead letters without a refusal.
    pub(super) given_up: u64,
    pub(super) parked_users: u64,
    pub(super) woken_users: u64,
    pub(super) refused_for_shares: UsedUpShares,
    /// Dead letters that were deleted because a share is used up.
    pub(super) pushed_out: u64,
    /// Dead letters that are among the stored calls.
    pub(super) replayed: u64,
    /// Events that were kept as dead letters, and those that became calls.
    pub(super) kept_events: u64,
    pub(super) replayed_events: u64,
    pub(super) discarded: u64,
    /// Calls of a person that were deleted.
    pub(super) forgotten: u64,
    /// Ids, users and bytes of those among them that were in `calls` and not out.
    pub(super) left_calls: Vec<(CallId, UserHash, u64)>,
    /// Dead letters that were too old.
    pub(super) expired: u64,
    /// Duration of the COMMIT statement, nearly all of which is the sync.
    pub(super) sync: Duration,
}

/// Calls that were not stored because a share is used up: that of their user, of all parked calls, or of their source.
#[derive(Default)]
pub(super) struct UsedUpShares {
    pub(super) user: u64,
    pub(super) parked: u64,
    pub(super) source: u64,
}

impl Effects {
    /// Counts what was committed.
    pub(super) fn count(&self, metrics: &Metrics) {
        let accepted = self.outcomes.len() as u64 - self.refused - self.given_up - self.forgotten;
        metrics.outbox_sync_seconds.observe(self.sync.as_secs_f64());
        // A replayed call was counted when it was first stored.
        metrics.outbox_stored.inc_by(self.stored - self.replayed);
        metrics.outbox_accepted.inc_by(accepted);
        metrics.outbox_refused.inc_by(self.refused);
        metrics.outbox_gave_up.inc_by(self.given_up);
        metrics.users_parked.inc_by(self.parked_users);
        metrics.users_woken.inc_by(self.woken_users);
        metrics.share_exhausted_user.inc_by(self.refused_for_shares.user);
        metrics.share_exhausted_parked.inc_by(self.refused_for_shares.parked);
        metrics.share_exhausted_source.inc_by(self.refused_for_shares.source);
        metrics.dead_letters_replayed.inc_by(self.replayed + self.replayed_events);
        metrics.dead_letters_discarded.inc_by(self.discarded);
        metrics.dead_letters_pushed_out.inc_by(self.pushed_out);
        metrics.dead_letters_expired.inc_by(self.expired);
        if self.expired > 0 {
            tracing::info!(count = self.expired, "dead letters were deleted because of their age");
        }
        if !self.outcomes.is_empty() {
            let (refused, given_up) = (self.refused, self.given_up);
            tracing::debug!(accepted, refused, given_up, "calls were settled");
        }
        if self.refused > 0 {
            tracing::warn!(calls = self.refused, "Segment refused calls; they are dead letters now");
        }
        if self.kept_events > 0 {
            tracing::warn!(events = self.kept_events, "events made no valid customers; they are dead letters now");
        }
        if self.given_up > 0 {
            tracing::warn!(calls = self.given_up, "calls were given up; they are dead letters now");
        }
    }
}

pub(super) struct Transaction<'c> {
    pub(super) conn: &'c Connection,
    /// Milliseconds since 1970.
    pub(super) now: i64,
    /// Bytes that appends may still add.
    pub(super) room: u64,
    pub(super) memory: &'c mut Memory,
    pub(super) effects: Effects,
}

impl<'c> Transaction<'c> {
    pub(super) fn begin(
        conn: &'c Connection,
        now: i64,
        stats: OutboxStats,
        room: u64,
        memory: &'c mut Memory,
    ) -> Result<Self> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self { conn, now, room, memory, effects: Effects { stats, ..Effects::default() } })
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
    /// After an error the transaction may still be open. What it noted in [`Memory`] is undone by the caller.
    pub(super) fn commit(mut self) -> Result<Effects> {
        write_counters(self.conn, &self.effects.stats)?;
        self.write_sources()?;
        self.effects.free_bytes = read_sizes(self.conn, &mut self.effects.stats, self.now)?;
        let mut commit = self.conn.prepare_cached("COMMIT")?;
        let started = Instant::now();
        commit.execute([])?;
        Ok(Effects { sync: started.elapsed(), ..self.effects })
    }
}

/// Reads the stored counts.
pub(super) fn read_counters(conn: &Connection, max_bytes: u64) -> Result<OutboxStats> {
    let sql =
        "SELECT last_id, waiting, dead_letters, keys, parked_users, parked_calls, parked_bytes, dead_letter_bytes,
               waiting_bytes FROM counters";
    conn.query_row(sql, [], |row| {
        let count = |column| row.get(column).map(|count: i64| u64::try_from(count).unwrap_or(0));
        Ok(OutboxStats {
            last_id: row.get(0)?,
            waiting: count(1)?,
            dead_letters: count(2)?,
            keys: count(3)?,
            parked_users: count(4)?,
            parked_calls: count(5)?,
            parked_bytes: count(6)?,
            dead_letter_bytes: count(7)?,
            waiting_bytes: count(8)?,
            max_bytes,
            ..OutboxStats::default()
        })
    })
}

fn write_counters(conn: &Connection, stats: &OutboxStats) -> Result<()> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let values = [
        stats.last_id,
        count(stats.waiting),
        count(stats.dead_letters),
        count(stats.keys),
        count(stats.parked_users),
        count(stats.parked_calls),
        count(stats.parked_bytes),
        count(stats.dead_letter_bytes),
        count(stats.waiting_bytes),
    ];
    conn.prepare_cached(
        "UPDATE counters SET last_id = ?1, waiting = ?2, dead_letters = ?3, keys = ?4, parked_users = ?5,
         parked_calls = ?6, parked_bytes = ?7, dead_letter_bytes = ?8, waiting_bytes = ?9",
    )?
    .execute(values)?;
    Ok(())
}

/// Reads the age of the oldest call and the bytes that are in use. Returns the bytes of the file that are not.
///
/// A call from the future was stored before the clock was set back. It counts as stored when that was noticed.
pub(super) fn read_sizes(conn: &Connection, stats: &mut OutboxStats, now: i64) -> Result<u64> {
    let value = |sql: &str| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let noticed_at = stats.oldest_stored_at.filter(|noticed_at| *noticed_at <= now).unwrap_or(now);
    let mut stored_at = value("SELECT stored_at FROM calls ORDER BY id LIMIT 1").optional()?;
    if stats.parked_calls > 0 {
        let parked = value("SELECT stored_at FROM parked_calls ORDER BY id LIMIT 1").optional()?;
        stored_at = [stored_at, parked].into_iter().flatten().min();
    }
    stats.oldest_stored_at = stored_at.map(|at| if at <= now { at } else { noticed_at });
    let (pages, free) = (value("PRAGMA page_count")?, value("PRAGMA freelist_count")?);
    let page_size = value("PRAGMA page_size")?;
    let in_bytes = |pages: i64| u64::try_from(pages.saturating_mul(page_size)).unwrap_or(0);
    stats.bytes = in_bytes(pages.saturating_sub(free));
    Ok(in_bytes(free))
}
