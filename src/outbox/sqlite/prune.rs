//! Forgetting the keys whose window is over: from the heads of queues in the order of settling, a few in a transaction.
//!
//! `POST /customers` has a queue, and so has each source, because each source has a window of its own. The queues that are due
//! take turns, so that a long window of one source keeps nobody else's keys.
//!
//! There is no index on time and no long delete, because the keys that are due are at the head of a queue. The wall
//! clock may jump. If it was set forward, keys are forgotten early. If it was set back, settled keys seem to come from
//! the future; these count as settled at the time when the jump was noticed, which the file keeps. Waiting calls and
//! dead letters are not in a queue, so the clock cannot lose one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Result, params};

use super::transaction::Transaction;
use crate::config::SOURCE_WINDOW;
use crate::outbox::CallId;

/// Keys that one transaction forgets. Each may be on a page of its own, so they are about 2 MiB to write.
const MIN_KEYS: usize = 128;

/// The same for a transaction that settles many calls: it forgets at least as many keys as it adds, up to the number of
/// appends in a group, which write as many pages (`command`).
const MAX_KEYS: usize = 1024;

/// The statements of a queue. Its source, or NULL, is the last parameter: those of `POST /customers` name it because SQLite takes
/// no parameter that a statement does not have.
struct Statements {
    head: &'static str,
    forget: &'static str,
    noticed_at: &'static str,
    notice: &'static str,
    /// An empty queue's numbers start from 1 again.
    forget_notice: &'static str,
}

const OF_CUSTOMERS: Statements = Statements {
    head: "SELECT seq, settled_at, key, call_id FROM settled_keys WHERE ?2 IS NULL ORDER BY seq LIMIT ?1",
    forget: "DELETE FROM settled_keys WHERE seq <= ?1 AND ?2 IS NULL",
    noticed_at: "SELECT set_back_noticed_at FROM counters
                 WHERE set_back_seq >= ?1 AND set_back_noticed_at <= ?2 AND ?3 IS NULL",
    notice: "UPDATE counters SET set_back_noticed_at = ?1, set_back_seq = (SELECT max(seq) FROM settled_keys) WHERE ?2 IS NULL",
    forget_notice: "UPDATE counters SET set_back_seq = NULL, set_back_noticed_at = NULL WHERE set_back_seq <= ?1 AND ?2 IS NULL",
};

const OF_SOURCE: Statements = Statements {
    head: "SELECT seq, settled_at, key, call_id FROM settled_source_keys WHERE source = ?2 ORDER BY seq LIMIT ?1",
    forget: "DELETE FROM settled_source_keys WHERE seq <= ?1 AND source = ?2",
    noticed_at: "SELECT set_back_noticed_at FROM sources
                 WHERE set_back_seq >= ?1 AND set_back_noticed_at <= ?2 AND name = ?3",
    notice: "UPDATE sources SET set_back_noticed_at = ?1,
             set_back_seq = (SELECT max(seq) FROM settled_source_keys WHERE source = ?2) WHERE name = ?2",
    forget_notice: "UPDATE sources SET set_back_seq = NULL, set_back_noticed_at = NULL WHERE set_back_seq <= ?1 AND name = ?2",
};

/// Knows when there are keys to forget.
#[derive(Debug)]
pub(super) struct Pruners {
    /// That of `POST /customers` is the first.
    queues: Vec<Pruner>,
    /// The queue whose turn is next.
    turn: usize,
    /// The windows of sources. `None`: nobody has said them yet, and no key of a source is forgotten.
    windows: Option<BTreeMap<Arc<str>, Duration>>,
}

/// Knows when there are keys of one queue to forget.
#[derive(Debug)]
pub(super) struct Pruner {
    source: Option<Arc<str>>,
    /// How long a key is remembered, in milliseconds. `None`: not known yet.
    window: Option<i64>,
    /// When the head of the queue is due; `None` while the queue is empty.
    due_at: Option<i64>,
}

impl Pruners {
    /// `window` is that of `POST /customers`.
    pub(super) fn new<'a>(window: Duration, sources: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let mut queues = vec![Pruner::new(None, Some(window))];
        queues.extend(sources.map(|source| Pruner::new(Some(source.clone()), None)));
        Self { queues, turn: 0, windows: None }
    }

    /// The windows of the configured sources from now on.
    pub(super) fn set_windows(&mut self, windows: BTreeMap<Arc<str>, Duration>) {
        for queue in &mut self.queues {
            if let Some(source) = &queue.source {
                queue.window = Some(milliseconds(windows.get(source).copied().unwrap_or(SOURCE_WINDOW)));
                queue.due_at = Some(i64::MIN);
            }
        }
        self.windows = Some(windows);
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        self.queues.iter().any(|queue| queue.is_due(now))
    }

    /// A key of this source was settled at `now`.
    pub(super) fn key_settled(&mut self, source: Option<&Arc<str>>, now: i64) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.source.as_ref() == source) {
            queue.key_settled(now);
        } else if let Some(source) = source {
            let known = self.windows.as_ref();
            let window = known.map(|windows| windows.get(source).copied().unwrap_or(SOURCE_WINDOW));
            self.queues.push(Pruner::new(Some(source.clone()), window));
        }
    }

    /// Makes the next transaction look at the queues, after a transaction failed.
    pub(super) fn recheck(&mut self) {
        self.queues.iter_mut().for_each(Pruner::recheck);
    }
}

impl Pruner {
    pub(super) fn new(source: Option<Arc<str>>, window: Option<Duration>) -> Self {
        Self { source, window: window.map(milliseconds), due_at: Some(i64::MIN) }
    }

    /// A time that is more than a window ahead is from before the clock was set back.
    pub(super) fn is_due(&self, now: i64) -> bool {
        let is_due = |due_at, window| due_at <= now || due_at > now.saturating_add(window);
        self.due_at.zip(self.window).is_some_and(|(due_at, window)| is_due(due_at, window))
    }

    /// A key was settled at `now`.
    pub(super) fn key_settled(&mut self, now: i64) {
        self.due_at.get_or_insert(now.saturating_add(self.window.unwrap_or(0)));
    }

    /// As [`Pruners::recheck`].
    pub(super) fn recheck(&mut self) {
        self.due_at = Some(i64::MIN);
    }
}

impl Transaction<'_> {
    /// Forgets keys that are due, up to the limit of a transaction, from each queue in turn.
    pub(super) fn prune_in_turn(&mut self, pruners: &mut Pruners) -> Result<()> {
        let mut limit = (MIN_KEYS + self.effects.outcomes.len()).min(MAX_KEYS);
        for _ in 0..pruners.queues.len() {
            pruners.turn = (pruners.turn + 1) % pruners.queues.len().max(1);
            if let Some(queue) = pruners.queues.get_mut(pruners.turn).filter(|queue| queue.is_due(self.now)) {
                limit -= self.prune(queue, limit)?;
                if limit == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Forgets keys of a queue that are due, at most `limit`. Returns their number.
    pub(super) fn prune(&mut self, pruner: &mut Pruner, limit: usize) -> Result<usize> {
        let statements = if pruner.source.is_none() { &OF_CUSTOMERS } else { &OF_SOURCE };
        let (source, window) = (&pruner.source, pruner.window.unwrap_or(i64::MAX));
        let head: Vec<(i64, i64, Vec<u8>, CallId)> = self
            .conn
            .prepare_cached(statements.head)?
            .query_map(params![limit as i64, source], |row| row.try_into())?
            .collect::<Result<_>>()?;
        let (mut forgotten, mut count) = (None, 0);
        pruner.due_at = (head.len() == limit).then_some(i64::MIN);
        for (seq, settled_at, key, call_id) in &head {
            let settled_at = match *settled_at {
                settled_at if settled_at <= self.now => settled_at,
                _ => self.noticed_at(statements, *seq, source.as_ref())?,
            };
            let due_at = settled_at.saturating_add(window);
            if due_at > self.now {
                pruner.due_at = Some(due_at);
                break;
            }
            // Files of version 1 have keys of dead letters in the queue.
            let sql = "DELETE FROM keys WHERE key = ?1 AND call_id = ?2 AND dead_letter_id IS NULL";
            let deleted = self.execute(sql, params![key, call_id])? as u64;
            self.effects.stats.keys = self.effects.stats.keys.saturating_sub(deleted);
            (forgotten, count) = (Some(seq), count + 1);
        }
        if let Some(seq) = forgotten {
            self.execute(statements.forget, params![seq, source])?;
            self.execute(statements.forget_notice, params![seq, source])?;
        }
        Ok(count)
    }

    /// When it was noticed that this row of the queue comes from the future: now, or in an earlier transaction.
    fn noticed_at(&self, statements: &Statements, seq: i64, source: Option<&Arc<str>>) -> Result<i64> {
        let noticed_at = self.first(statements.noticed_at, params![seq, self.now, source], |row| row.get(0))?;
        if let Some(noticed_at) = noticed_at {
            return Ok(noticed_at);
        }
        self.execute(statements.notice, params![self.now, source])?;
        Ok(self.now)
    }
}

fn milliseconds(window: Duration) -> i64 {
    i64::try_from(window.as_millis()).unwrap_or(i64::MAX)
}
