//! Deleting dead letters that are too old: from the head by id, a few a second.
//!
//! Nothing is deleted while the wall clock is in doubt (`even_clock`). A letter from the future was refused while the clock was
//! wrong. Its age is unknown, so it stays, and those behind it are deleted in its place.

use std::time::{Duration, Instant};

use rusqlite::Result;

use super::transaction::Transaction;
use crate::outbox::even_clock::EvenClock;
use crate::outbox::limits::{MAX_TRANSACTION_BYTES, ROW_OVERHEAD};

/// Letters that one transaction looks at. There is one a second, so these are 22 million a day. The key of each may be on a
/// page of its own, so they are about 1 MiB to write.
const MAX_LETTERS: usize = 256;

/// Knows when there are letters to delete.
#[derive(Debug)]
pub(super) struct Expiry {
    /// How long a letter is kept, in milliseconds. `None`: for ever.
    retention: Option<i64>,
    clock: EvenClock,
    /// When the first letter is due; `None` while there is none.
    due_at: Option<i64>,
    /// Letters with smaller ids are deleted, or from the future.
    from: i64,
}

impl Expiry {
    pub(super) fn new(retention: Option<Duration>) -> Self {
        Self {
            retention: retention.map(|retention| i64::try_from(retention.as_millis()).unwrap_or(i64::MAX)),
            clock: EvenClock::new(retention),
            due_at: Some(i64::MIN),
            from: 0,
        }
    }

    /// Whether letters are to be deleted now. Every call is also a look at the clocks.
    pub(super) fn is_due(&mut self, now: i64, monotonic: Instant) -> bool {
        let Some(retention) = self.retention else { return false };
        let is_even = self.clock.look(now, monotonic);
        // A time that is more than a retention ahead is from before the clock was set back.
        let is_due = self.due_at.is_some_and(|due_at| due_at <= now || due_at > now.saturating_add(retention));
        is_due && is_even
    }

    /// There is a letter, which was refused at `now` at the latest.
    pub(super) fn letters_exist(&mut self, now: i64) {
        self.due_at.get_or_insert(now.saturating_add(self.retention.unwrap_or(i64::MAX)));
    }

    /// Makes the next look read the head again, after a transaction failed.
    pub(super) fn recheck(&mut self) {
        (self.due_at, self.from) = (Some(i64::MIN), 0);
    }
}

impl Transaction<'_> {
    /// Deletes letters that are due, with their keys, up to the limits of a transaction.
    pub(super) fn expire(&mut self, expiry: &mut Expiry) -> Result<()> {
        let head: Vec<(i64, i64, u32)> = self
            .conn
            .prepare_cached(
                "SELECT id, refused_at, length(call) FROM dead_letters WHERE id >= ?1 ORDER BY id LIMIT ?2",
            )?
            .query_map((expiry.from, MAX_LETTERS as i64), |row| row.try_into())?
            .collect::<Result<_>>()?;
        let mut bytes = 0;
        expiry.due_at = (head.len() == MAX_LETTERS).then_some(i64::MIN);
        for (id, refused_at, length) in head {
            let due_at = refused_at.saturating_add(expiry.retention.unwrap_or(i64::MAX));
            if refused_at <= self.now {
                if due_at > self.now {
                    expiry.due_at = Some(due_at);
                    break;
                }
                if bytes >= MAX_TRANSACTION_BYTES {
                    expiry.due_at = Some(i64::MIN);
                    break;
                }
                bytes += ROW_OVERHEAD + length as usize;
                self.effects.expired += u64::from(self.delete_with_key(id)?);
            }
            expiry.from = id.saturating_add(1);
        }
        Ok(())
    }
}
