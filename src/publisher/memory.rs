//! The memory of the calls that the publisher holds, and how much of the outbox it takes. Pure.

use super::batch::PendingCall;
use crate::segment::MAX_CALL_BYTES;

/// Memory of all unsettled calls, in bytes. The default of 2,048 requests in flight can bring 64 MiB. Twice that leaves room
/// for calls whose callers have left and that are still in the queue.
pub(super) const MAX_BYTES: usize = 128 * 1024 * 1024;

/// Memory of the calls of the outbox among them, in bytes: about 8,000 calls of the usual 500 bytes. With Segment 50 ms away
/// these are 150,000 calls a second, more than Segment accepts.
const MAX_STORED_BYTES: usize = 8 * 1024 * 1024;

/// What calls of the outbox that never failed may take beyond it, while the rest is in trouble: enough for strangers to be
/// asked, who show whose trouble it is.
const MAX_UNTRIED_BYTES: usize = 1024 * 1024;

/// Suspects of the outbox that are kept in memory. Beyond this half, one is parked at its next failure, whosever trouble it is.
const MAX_SUSPECT_BYTES: usize = MAX_STORED_BYTES / 2;

/// Memory of a waiting call beside its JSON, in bytes, roughly: completion, handle, map entry.
const CALL_OVERHEAD: usize = 512;

/// Bytes of calls in memory, waiting or in a request, until they are settled.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) all: usize,
    /// Of calls of the outbox.
    stored: usize,
    /// Of those among them that failed, and that failed alone.
    failed: usize,
    failed_alone: usize,
}

impl Memory {
    /// False if there is no room.
    pub(super) fn add(&mut self, pending: &PendingCall) -> bool {
        let bytes = memory_of(pending);
        if self.all + bytes > MAX_BYTES {
            return false;
        }
        self.all += bytes;
        self.count_stored(pending, |sum| sum + bytes);
        true
    }

    pub(super) fn remove(&mut self, pending: &PendingCall) {
        let bytes = memory_of(pending);
        // After the grace period the queue is dropped, and a call that is settled later is not counted any more.
        self.all = self.all.saturating_sub(bytes);
        self.count_stored(pending, |sum| sum.saturating_sub(bytes));
    }

    /// A request that held the call failed. `is_alone`: it held nothing else.
    pub(super) fn mark_failed(&mut self, pending: &mut PendingCall, is_alone: bool) {
        self.remove(pending);
        pending.has_failed = true;
        pending.has_failed_alone |= is_alone;
        let bytes = memory_of(pending);
        self.all += bytes;
        self.count_stored(pending, |sum| sum + bytes);
    }

    fn count_stored(&mut self, pending: &PendingCall, count: impl Fn(usize) -> usize) {
        if pending.completion.is_stored() {
            self.stored = count(self.stored);
            if pending.has_failed {
                self.failed = count(self.failed);
            }
            if pending.has_failed_alone {
                self.failed_alone = count(self.failed_alone);
            }
        }
    }

    /// Room for more calls of the outbox, in bytes of their JSON. `None` if the largest call would not fit. In an outage there is
    /// more: perhaps only calls that fail on their own are here, and those of strangers come behind them.
    pub(super) fn room(&self, is_outage: bool) -> Option<usize> {
        let untried = self.stored.saturating_sub(self.failed);
        let most = MAX_STORED_BYTES + if is_outage { MAX_UNTRIED_BYTES } else { 0 };
        let room = most.saturating_sub(self.stored).max(MAX_UNTRIED_BYTES.saturating_sub(untried));
        // Half of it, because a small call takes as much beside its JSON.
        Some(room / 2).filter(|room| *room > MAX_CALL_BYTES)
    }

    pub(super) fn has_too_many_suspects(&self) -> bool {
        self.failed_alone > MAX_SUSPECT_BYTES
    }
}

fn memory_of(pending: &PendingCall) -> usize {
    pending.call.json().len() + CALL_OVERHEAD
}
