//! The permit to send one request to Segment: a free slot, an open gate, and the pace.
//!
//! The pace is both the rate limit and the batching: a request may start a fixed interval after the last one, and takes all
//! calls that wait by then. There is no linger: if no request went out lately, the next one starts at once.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::gate::{Gate, GatePermit};

pub(super) struct Slots {
    free: Arc<Semaphore>,
    gate: Arc<Gate>,
    /// Minimum time between the starts of two requests.
    interval: Duration,
    /// Earliest start of the next request. Whoever holds the lock is next; the others wait for the lock, in order.
    next_start: Arc<Mutex<Instant>>,
}

/// A slot whose request may start now. If it is dropped instead, the next request may start now.
pub(super) struct FreeSlot {
    slot: Slot,
    next_start: OwnedMutexGuard<Instant>,
    /// Earliest start of the request after this one.
    after: Instant,
}

/// The permit of a request that has started. Dropping it frees the slot.
pub(super) struct Slot {
    pub(super) gate_permit: GatePermit,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new(count: NonZeroUsize, requests_per_second: NonZeroU32, gate: Arc<Gate>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.get())),
            gate,
            interval: Duration::from_secs(1) / requests_per_second.get(),
            next_start: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Waits until a request may start. Slots are granted in the order of the requests. A request for a slot that is dropped
    /// delays no other one.
    pub(super) async fn acquire(&self) -> FreeSlot {
        // The semaphore is never closed. If it were, waiting would be the safe answer.
        let Ok(permit) = self.free.clone().acquire_owned().await else { return std::future::pending().await };
        let asked_at = Instant::now();
        let next_start = self.next_start.clone().lock_owned().await;
        let mut start = asked_at.max(*next_start);
        tokio::time::sleep_until(start).await;
        // The gate comes last: it may have been shut while the request waited.
        let gate_permit = match self.gate.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let permit = self.gate.acquire().await;
                start = Instant::now();
                permit
            }
        };
        FreeSlot { slot: Slot { gate_permit, _permit: permit }, next_start, after: start + self.interval }
    }
}

impl FreeSlot {
    /// The request starts now.
    pub(super) fn start(self) -> Slot {
        let Self { slot, mut next_start, after } = self;
        *next_start = after;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;
    use crate::publisher::gate::Gate;
    use crate::segment::{ErrorCode, SegmentError};
    use std::num::{NonZeroU32, NonZeroUsize};
    use std::time::Duration;
    use tokio::time::Instant;

    fn slots(count: usize, requests_per_second: u32) -> Slots {
        Slots::new(NonZeroUsize::new(count).unwrap(), NonZeroU32::new(requests_per_second).unwrap(), Gate::new())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_starts_at_once_and_the_others_at_the_pace() {
        let (slots, start) = (slots(256, 100), Instant::now());
        let mut starts = Vec::new();
        for _ in 0..4 {
            drop(slots.acquire().await.start());
            starts.push(start.elapsed().as_millis());
        }
        assert_eq!(starts, [0, 10, 20, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_request_per_slot_is_in_flight() {
        let slots = slots(1, 100);
        let held = slots.acquire().await.start();
        let waited = tokio::time::timeout(Duration::from_secs(60), slots.acquire()).await;
        assert!(waited.is_err());
        drop(held);
        slots.acquire().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_followed_by_a_burst() {
        let (slots, start) = (slots(256, 100), Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..3 {
            drop(slots.acquire().await.start());
        }
        assert_eq!(start.elapsed().as_millis(), 1_020);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_for_a_slot_that_is_cancelled_delays_nobody() {
        let (slots, start) = (slots(256, 10), Instant::now());
        drop(slots.acquire().await.start());
        let mut cancelled: Vec<_> = (0..100).map(|_| Box::pin(slots.acquire())).collect();
        for waiting in &mut cancelled {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        drop(cancelled);
        drop(slots.acquire().await.start());
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_not_used_delays_nobody() {
        let (slots, start) = (slots(256, 10), Instant::now());
        drop(slots.acquire().await.start());
        for _ in 0..100 {
            drop(slots.acquire().await);
        }
        drop(slots.acquire().await.start());
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_starts_after_the_gate_was_shut_while_it_waited() {
        let (slots, start) = (slots(256, 1), Instant::now());
        let first = slots.acquire().await.start();
        let second = Box::pin(slots.acquire());
        let answered = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let error = SegmentError::new(ErrorCode::RateLimited, "wait");
            first.gate_permit.shut(&error, Some(Duration::from_secs(30)));
        };
        let (second, ()) = tokio::join!(second, answered);
        drop(second.start());
        assert_eq!(start.elapsed().as_millis(), 30_500);
        // The wait at the gate is not made up for by a burst.
        drop(slots.acquire().await.start());
        assert_eq!(start.elapsed().as_millis(), 31_500);
    }
}
