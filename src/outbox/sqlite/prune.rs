//! Forgetting keys whose window is over: from the head of a queue in the order of settling, a few in a transaction.
//!
//! No index on time, and no long delete: what is due stands at the head. The wall clock may jump. One that was set forward
//! forgets keys early; one that was set back makes settled keys seem to come from the future, and these are held to have
//! been settled when that was noticed. A call that waits is not in the queue, so no clock can lose one.

use rusqlite::{Result, Row, params};

use super::transaction::Transaction;
use crate::outbox::CallId;

/// How many keys one transaction forgets. Each may stand on a page of its own, so these are about 2 MiB to be written.
const KEYS_AT_ONCE: usize = 128;

/// How many it forgets if it settles many: at least as many are forgotten as come, up to what a group of appends, which
/// writes as many pages, may bring (`inbox`).
const MOST_KEYS_AT_ONCE: usize = 1024;

/// When there is something to forget.
#[derive(Debug)]
pub(super) struct Pruner {
    /// How long a key is remembered, in milliseconds.
    window: i64,
    /// When the head of the queue is due; nothing while it is empty.
    due_at: Option<i64>,
    /// Keys up to this place, if they come from the future, were settled at this time.
    set_back: Option<(i64, i64)>,
}

/// A place in the queue.
struct Settled {
    seq: i64,
    settled_at: i64,
    key: Vec<u8>,
    call_id: CallId,
}

impl Pruner {
    pub(super) fn new(window: std::time::Duration) -> Self {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Self { window, due_at: Some(i64::MIN), set_back: None }
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= now)
    }

    /// A key was settled at `now`.
    pub(super) fn settled(&mut self, now: i64) {
        self.due_at.get_or_insert(now.saturating_add(self.window));
    }

    /// The transaction failed: look again.
    pub(super) fn forget_nothing(&mut self) {
        self.due_at = Some(i64::MIN);
    }

    /// When a key was settled, for a clock that may have been set back since.
    fn settled_at(&mut self, settled: &Settled, newest: i64, now: i64) -> i64 {
        if settled.settled_at <= now {
            return settled.settled_at;
        }
        match self.set_back {
            Some((up_to, noticed)) if settled.seq <= up_to && noticed <= now => noticed,
            _ => {
                self.set_back = Some((newest, now));
                now
            }
        }
    }
}

impl Transaction<'_> {
    /// Forgets what is due, but only so much at once.
    pub(super) fn prune(&mut self, pruner: &mut Pruner) -> Result<()> {
        let limit = (KEYS_AT_ONCE + self.effects.told.len()).min(MOST_KEYS_AT_ONCE);
        let head = self.head(limit)?;
        let newest = self
            .conn
            .prepare_cached("SELECT ifnull(max(seq), 0) FROM settled_keys")?
            .query_row([], |row| row.get(0))?;
        let mut forgotten = None;
        if head.is_empty() {
            // Its places are given out from the first one again.
            pruner.set_back = None;
        }
        pruner.due_at = (head.len() == limit).then_some(i64::MIN);
        for settled in &head {
            let due_at = pruner.settled_at(settled, newest, self.now).saturating_add(pruner.window);
            if due_at > self.now {
                pruner.due_at = Some(due_at);
                break;
            }
            let deleted = self
                .conn
                .prepare_cached("DELETE FROM keys WHERE key = ?1 AND call_id = ?2")?
                .execute(params![settled.key, settled.call_id])? as u64;
            self.counters.keys = self.counters.keys.saturating_sub(deleted);
            forgotten = Some(settled.seq);
        }
        if let Some(seq) = forgotten {
            self.conn.prepare_cached("DELETE FROM settled_keys WHERE seq <= ?1")?.execute([seq])?;
        }
        Ok(())
    }

    fn head(&self, limit: usize) -> Result<Vec<Settled>> {
        let settled = |row: &Row<'_>| {
            Ok(Settled { seq: row.get(0)?, settled_at: row.get(1)?, key: row.get(2)?, call_id: row.get(3)? })
        };
        self.conn
            .prepare_cached("SELECT seq, settled_at, key, call_id FROM settled_keys ORDER BY seq LIMIT ?1")?
            .query_map([limit as i64], settled)?
            .collect()
    }
}
