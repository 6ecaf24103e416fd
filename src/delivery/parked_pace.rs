//! The pace of the parked calls: when the next ones are taken from the outbox, and how many. Pure.
//!
//! Two calls a second, for all parked users together, find out whether the cause is mended. Each accepted call doubles the
//! pace, so that thousands of users return within a minute. A failed one sets it back.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// Between two calls, until one is accepted: two calls a second are few beside the usual 900 requests.
const START_INTERVAL: Duration = Duration::from_millis(500);

/// Parked calls get at most this part of the requests to Segment.
const SHARE_DIVISOR: u32 = 4;

/// Parked calls that are out at once. With 1 MiB of the largest calls and an answer after 140 ms they are 225 a second, which
/// is the share of the usual 900 requests.
pub(super) const MAX_OUT: usize = 32;

/// What a late timer may catch up with. A loaded machine is late by some 10 ms.
const MAX_CATCH_UP: Duration = Duration::from_millis(100);

/// The pace, and the number of parked calls that are out.
pub(super) struct ParkedPace {
    interval: Duration,
    start_interval: Duration,
    min_interval: Duration,
    /// The last parked call that Segment accepted came after the last one that failed.
    is_mended: bool,
    /// The pace counts from here.
    taken_at: Instant,
    /// Fewer calls were due than were asked for: nothing is taken before.
    paused_until: Instant,
    out: usize,
}

impl ParkedPace {
    pub(super) fn new(max_requests_per_second: NonZeroU32, now: Instant) -> Self {
        let min_interval = Duration::from_secs(1) * SHARE_DIVISOR / max_requests_per_second.get();
        let start_interval = START_INTERVAL.max(min_interval);
        Self {
            interval: start_interval,
            start_interval,
            min_interval,
            is_mended: false,
            taken_at: now,
            paused_until: now,
            out: 0,
        }
    }

    /// When calls may be taken. `None`: not before one of those that are out has ended.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (self.out < MAX_OUT).then(|| self.paused_until.max(self.taken_at + self.interval))
    }

    /// How many calls to take at [`next_at`](Self::next_at) or later.
    pub(super) fn take(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.taken_at).min(self.interval.max(MAX_CATCH_UP)).as_nanos();
        // Neither is zero, and a remainder has less nanoseconds than the interval.
        let interval = self.interval.as_nanos().max(1);
        self.taken_at = now - Duration::from_nanos(u64::try_from(elapsed % interval).unwrap_or(0));
        let due = usize::try_from(elapsed / interval).unwrap_or(MAX_OUT);
        due.clamp(1, MAX_OUT.saturating_sub(self.out).max(1))
    }

    /// Whether users count who are not due yet: the cause of all may be mended.
    pub(super) fn is_early(&self) -> bool {
        self.is_mended
    }

    /// The outbox had `taken` calls when it was asked for `asked`.
    pub(super) fn taken(&mut self, taken: usize, asked: usize, now: Instant) {
        self.out += taken;
        if taken < asked {
            self.paused_until = now + self.start_interval;
        }
    }

    /// Segment accepted a parked call.
    pub(super) fn accepted(&mut self) {
        self.returned();
        self.is_mended = true;
        self.interval = (self.interval / 2).max(self.min_interval);
    }

    /// A parked call failed again.
    pub(super) fn failed(&mut self) {
        self.returned();
        self.is_mended = false;
        self.interval = self.start_interval;
    }

    /// A parked call is out no more. If Segment refused it for good, that tells nothing of the others.
    pub(super) fn returned(&mut self) {
        self.out = self.out.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
