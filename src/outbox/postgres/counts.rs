//! The counts of the outbox, by source: what a row of `tallies` and of `totals` holds.

use std::ops::{AddAssign, Neg};

use tokio_postgres::Row;

use crate::outbox::OutboxStats;
use crate::outbox::limits::ROW_OVERHEAD;

// The statements count a row as the bytes of its values and 128 more.
const _: () = assert!(ROW_OVERHEAD == 128);

/// The columns of `tallies` and `totals` beside the source.
pub(super) const COUNT_COLUMNS: &str =
    "waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys, parked_users, parked_calls, parked_bytes";

/// Counts, or how they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) waiting: i64,
    pub(super) waiting_bytes: i64,
    pub(super) dead_letters: i64,
    pub(super) dead_letter_bytes: i64,
    pub(super) keys: i64,
    pub(super) parked_users: i64,
    pub(super) parked_calls: i64,
    pub(super) parked_bytes: i64,
}

impl Counts {
    /// From the [columns](COUNT_COLUMNS) of a row, the first of which has this number.
    pub(super) fn from_row(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            waiting: row.try_get(first)?,
            waiting_bytes: row.try_get(first + 1)?,
            dead_letters: row.try_get(first + 2)?,
            dead_letter_bytes: row.try_get(first + 3)?,
            keys: row.try_get(first + 4)?,
            parked_users: row.try_get(first + 5)?,
            parked_calls: row.try_get(first + 6)?,
            parked_bytes: row.try_get(first + 7)?,
        })
    }

    /// Fills in the counts among the statistics.
    pub(super) fn write_to(&self, stats: &mut OutboxStats) {
        let count = |count: i64| count.max(0).unsigned_abs();
        stats.waiting = count(self.waiting);
        stats.waiting_bytes = count(self.waiting_bytes);
        stats.dead_letters = count(self.dead_letters);
        stats.dead_letter_bytes = count(self.dead_letter_bytes);
        stats.keys = count(self.keys);
        stats.parked_users = count(self.parked_users);
        stats.parked_calls = count(self.parked_calls);
        stats.parked_bytes = count(self.parked_bytes);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.waiting_bytes += other.waiting_bytes;
        self.dead_letters += other.dead_letters;
        self.dead_letter_bytes += other.dead_letter_bytes;
        self.keys += other.keys;
        self.parked_users += other.parked_users;
        self.parked_calls += other.parked_calls;
        self.parked_bytes += other.parked_bytes;
    }
}

impl Neg for Counts {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            waiting: -self.waiting,
            waiting_bytes: -self.waiting_bytes,
            dead_letters: -self.dead_letters,
            dead_letter_bytes: -self.dead_letter_bytes,
            keys: -self.keys,
            parked_users: -self.parked_users,
            parked_calls: -self.parked_calls,
            parked_bytes: -self.parked_bytes,
        }
    }
}
