//! Forgetting the keys whose window is over: from the head of a queue in the order of settling, a few in a transaction.
//!
//! There is no index on time and no long delete, because the keys that are due are at the head of the queue. The wall
//! clock may jump. If it was set forward, keys are forgotten early. If it was set back, settled keys seem to come from
//! the future; these count as settled at the time when the jump was noticed. Waiting calls are not in the queue, so the
//! clock cannot lose one.

use rusqlite::{Result, params};

use super::transaction::Transaction;
use crate::outbox::CallId;

/// Keys that one transaction forgets. Each may be on a page of its own, so they are about 2 MiB to write.
const MIN_KEYS: usize = 128;

/// The same for a transaction that settles many calls: it forgets at least as many keys as it adds, up to the number of
/// appends in a group, which write as many pages (`command`).
const MAX_KEYS: usize = 1024;

/// Knows when there are keys to forget.
#[derive(Debug)]
pub(super) struct Pruner {
    /// How long a key is remembered, in milliseconds.
    window: i64,
    /// When the head of the queue is due; `None` while the queue is empty.
    due_at: Option<i64>,
    /// After the clock was set back: keys from the future with a `seq` up to the first number count as settled at the
    /// second, a time.
    clock_set_back: Option<(i64, i64)>,
}

impl Pruner {
    pub(super) fn new(window: std::time::Duration) -> Self {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Self { window, due_at: Some(i64::MIN), clock_set_back: None }
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= now)
    }

    /// A key was settled at `now`.
    pub(super) fn key_settled(&mut self, now: i64) {
        self.due_at.get_or_insert(now.saturating_add(self.window));
    }

    /// Makes the next transaction look at the queue, after a transaction failed.
    pub(super) fn recheck(&mut self) {
        self.due_at = Some(i64::MIN);
    }
}

impl Transaction<'_> {
    /// Forgets keys that are due, up to the limit of a transaction.
    pub(super) fn prune(&mut self, pruner: &mut Pruner) -> Result<()> {
        let limit = (MIN_KEYS + self.effects.outcomes.len()).min(MAX_KEYS);
        let head: Vec<(i64, i64, Vec<u8>, CallId)> = self
            .conn
            .prepare_cached("SELECT seq, settled_at, key, call_id FROM settled_keys ORDER BY seq LIMIT ?1")?
            .query_map([limit as i64], |row| row.try_into())?
            .collect::<Result<_>>()?;
        let newest = self.first("SELECT ifnull(max(seq), 0) FROM settled_keys", [], |row| row.get(0))?.unwrap_or(0);
        let mut forgotten = None;
        if head.is_empty() {
            // The queue's numbers start from 1 again.
            pruner.clock_set_back = None;
        }
        pruner.due_at = (head.len() == limit).then_some(i64::MIN);
        for (seq, settled_at, key, call_id) in &head {
            let settled_at = match pruner.clock_set_back {
                _ if *settled_at <= self.now => *settled_at,
                Some((up_to, noticed)) if *seq <= up_to && noticed <= self.now => noticed,
                _ => {
                    pruner.clock_set_back = Some((newest, self.now));
                    self.now
                }
            };
            let due_at = settled_at.saturating_add(pruner.window);
            if due_at > self.now {
                pruner.due_at = Some(due_at);
                break;
            }
            let sql = "DELETE FROM keys WHERE key = ?1 AND call_id = ?2";
            let deleted = self.execute(sql, params![key, call_id])? as u64;
            self.effects.stats.keys = self.effects.stats.keys.saturating_sub(deleted);
            forgotten = Some(seq);
        }
        if let Some(seq) = forgotten {
            self.execute("DELETE FROM settled_keys WHERE seq <= ?1", [seq])?;
        }
        Ok(())
    }
}
