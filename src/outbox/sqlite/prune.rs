//! Forgetting the keys whose window is over: from the head of a queue in the order of settling, a few in a transaction.
//!
//! There is no index on time and no long delete, because the keys that are due are at the head of the queue. The wall
//! clock may jump. If it was set forward, keys are forgotten early. If it was set back, settled keys seem to come from
//! the future; these count as settled at the time when the jump was noticed, which the file keeps. Waiting calls and
//! dead letters are not in the queue, so the clock cannot lose one.

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
}

impl Pruner {
    pub(super) fn new(window: std::time::Duration) -> Self {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Self { window, due_at: Some(i64::MIN) }
    }

    /// A time that is more than a window ahead is from before the clock was set back.
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= now || due_at > now.saturating_add(self.window))
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
        let mut forgotten = None;
        pruner.due_at = (head.len() == limit).then_some(i64::MIN);
        for (seq, settled_at, key, call_id) in &head {
            let settled_at = if *settled_at <= self.now { *settled_at } else { self.noticed_at(*seq)? };
            let due_at = settled_at.saturating_add(pruner.window);
            if due_at > self.now {
                pruner.due_at = Some(due_at);
                break;
            }
            // Files of version 1 have keys of dead letters in the queue.
            let sql = "DELETE FROM keys WHERE key = ?1 AND call_id = ?2 AND dead_letter_id IS NULL";
            let deleted = self.execute(sql, params![key, call_id])? as u64;
            self.effects.stats.keys = self.effects.stats.keys.saturating_sub(deleted);
            forgotten = Some(seq);
        }
        if let Some(seq) = forgotten {
            self.execute("DELETE FROM settled_keys WHERE seq <= ?1", [seq])?;
            // An empty queue's numbers start from 1 again.
            let sql = "UPDATE counters SET set_back_seq = NULL, set_back_noticed_at = NULL WHERE set_back_seq <= ?1";
            self.execute(sql, [seq])?;
        }
        Ok(())
    }

    /// When it was noticed that this row of the queue comes from the future: now, or in an earlier transaction.
    fn noticed_at(&self, seq: i64) -> Result<i64> {
        let sql = "SELECT set_back_noticed_at FROM counters WHERE set_back_seq >= ?1 AND set_back_noticed_at <= ?2";
        if let Some(noticed_at) = self.first(sql, [seq, self.now], |row| row.get(0))? {
            return Ok(noticed_at);
        }
        let sql = "UPDATE counters SET set_back_noticed_at = ?1, set_back_seq = (SELECT max(seq) FROM settled_keys)";
        self.execute(sql, [self.now])?;
        Ok(self.now)
    }
}
