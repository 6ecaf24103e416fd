//! The store after one of its files is lost: it stores nothing more, what can still be read is delivered, and then the
//! process ends.
//!
//! The process ends when no call is left, or after a while without success, because it stores calls again after a
//! restart.

use std::time::{Duration, Instant};

use super::watch::{Loss, LossExtent};
use crate::outbox::OutboxStats;

/// The process ends if no call was settled for so long: the longest pause between two attempts (300 seconds, which Segment may
/// name; for a parked call an eighth more), and the attempts before and after it. The calls have no other copy.
const MAX_IDLE: Duration = Duration::from_secs(360);

/// The process ends after this time in any case: at some 1,000 calls a second, most backlogs are delivered by then.
const MAX_DURATION: Duration = Duration::from_secs(600);

pub(super) struct LostFiles {
    pub(super) loss: Loss,
    found: Instant,
    /// When a call was settled last, and how many waited then.
    settled: Instant,
    waiting: u64,
    /// All calls were copied into the outbox's file.
    pub(super) is_copied: bool,
    /// A copy that failed was logged.
    is_logged: bool,
    /// The process drains.
    pub(super) is_ending: bool,
}

impl LostFiles {
    /// Logs the loss.
    pub(super) fn new(loss: Loss, waiting: u64) -> Self {
        let now = Instant::now();
        let Loss { path, what, now: place, .. } = &loss;
        let place = place.as_ref().map(|place| place.display().to_string());
        tracing::error!(
            file = %path.display(), now = place, calls = waiting,
            "a file of the outbox {what}; nothing more is stored, the stored calls are delivered as far as they can be \
             read, then the process ends"
        );
        Self { loss, found: now, settled: now, waiting, is_copied: false, is_logged: false, is_ending: false }
    }

    /// Whether the process should end now.
    pub(super) fn is_over(&mut self, waiting: u64, now: Instant) -> bool {
        if waiting < self.waiting {
            (self.waiting, self.settled) = (waiting, now);
        }
        self.is_copied
            // Dead letters and keys are not in the file yet.
            || waiting == 0 && self.loses_calls()
            || now.duration_since(self.settled) >= MAX_IDLE
            || now.duration_since(self.found) >= MAX_DURATION
    }

    /// Whether the calls that wait are lost with this process: they cannot be copied into the file.
    pub(super) fn loses_calls(&self) -> bool {
        self.loss.extent != LossExtent::Beside
    }

    /// Logs once that the calls could not be copied. `reader` is the process that hinders it, if one does.
    pub(super) fn log_copy(&mut self, reader: Option<u32>) {
        if !self.is_copied && !self.is_logged {
            self.is_logged = true;
            tracing::warn!(
                pid = reader,
                "the stored calls cannot be copied into the outbox's file yet; this is tried once a second, and calls are \
                 delivered meanwhile"
            );
        }
    }

    /// Logs how it ended: the last line of the store. `is_kept` means that all calls are in the file, and the file
    /// in its place.
    pub(super) fn log_end(&self, stats: &OutboxStats, is_kept: bool) {
        let file = self.loss.path.display();
        let OutboxStats { waiting, dead_letters, .. } = *stats;
        if !self.loses_calls() && is_kept {
            tracing::error!(%file, lost = 0, calls = waiting, dead_letters, "the outbox has ended; its file holds all calls");
        } else {
            let place = self.loss.now.as_ref().map(|place| place.display().to_string());
            tracing::error!(
                %file, now = place, lost = waiting, dead_letters,
                "the outbox has ended; lost is the number of stored calls that were not delivered"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LostFiles, MAX_DURATION, MAX_IDLE};
    use crate::outbox::sqlite::watch::{Loss, LossExtent};

    fn lost(extent: LossExtent) -> LostFiles {
        LostFiles::new(Loss { path: "outbox.db".into(), what: "was deleted", now: None, extent }, 1000)
    }

    #[test]
    fn it_ends_when_nothing_waits_or_nothing_is_settled_any_more() {
        let mut lost = lost(LossExtent::File);
        let start = lost.found;
        let second = Duration::from_secs(1);
        assert!(!lost.is_over(1000, start + 59 * second));
        // A call was settled.
        let settled = start + 60 * second;
        assert!(!lost.is_over(999, settled));
        assert!(!lost.is_over(999, settled + MAX_IDLE - second));
        assert!(lost.is_over(999, settled + MAX_IDLE));
        assert!(lost.is_over(0, settled));
    }

    #[test]
    fn it_ends_after_a_while_although_calls_are_settled() {
        let mut lost = lost(LossExtent::Content);
        let start = lost.found;
        let step = MAX_DURATION / 20;
        let over = (1..).find(|n| lost.is_over(1000 - u64::from(*n), start + *n * step)).unwrap();
        assert_eq!(over * step, MAX_DURATION);
    }

    #[test]
    fn it_waits_for_the_longest_pause_that_segment_may_name() {
        let mut lost = lost(LossExtent::File);
        let attempt = Duration::from_secs(5);
        assert!(!lost.is_over(1000, lost.found + attempt + Duration::from_secs(300) + attempt));
    }

    #[test]
    fn it_ends_at_once_when_the_file_holds_all_calls() {
        let mut lost = lost(LossExtent::Beside);
        assert!(!lost.is_over(1000, lost.found) && !lost.is_over(0, lost.found));
        lost.is_copied = true;
        assert!(lost.is_over(1000, lost.found) && !lost.loses_calls());
    }
}
