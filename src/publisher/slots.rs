//! The permit to send one request to Segment: a free slot, an open gate, and the pace.
//!
//! The pace is both the rate limit and the batching: a request may start a fixed interval after the last one, and takes all
//! calls that wait by then. There is no linger: if no request went out lately, the next one starts at once.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::gate::{Gate, GatePermit};

pub(super) struct Slots {
    free: Arc<Semaphore>,
    gate: Arc<Gate>,
    /// Minimum time between the starts of two requests.
    interval: Duration,
    /// Earliest start of the next request.
    next_start: Mutex<Instant>,
}

/// The permit to send one request. Dropping it frees the slot.
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
            next_start: Mutex::new(Instant::now()),
        }
    }

    /// Waits until a request may be sent. Slots are granted in the order of the requests.
    pub(super) async fn acquire(&self) -> Slot {
        // The semaphore is never closed. If it were, waiting would be the safe answer.
        let Ok(permit) = self.free.clone().acquire_owned().await else { return std::future::pending().await };
        let gate_permit = self.gate.acquire().await;
        tokio::time::sleep_until(self.reserve_start()).await;
        Slot { gate_permit, _permit: permit }
    }

    /// Reserves the earliest free start time.
    fn reserve_start(&self) -> Instant {
        let mut next_start = self.next_start.lock();
        let start = (*next_start).max(Instant::now());
        *next_start = start + self.interval;
        start
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;
    use crate::publisher::gate::Gate;
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
            drop(slots.acquire().await);
            starts.push(start.elapsed().as_millis());
        }
        assert_eq!(starts, [0, 10, 20, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_request_per_slot_is_in_flight() {
        let slots = slots(1, 100);
        let held = slots.acquire().await;
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
            drop(slots.acquire().await);
        }
        assert_eq!(start.elapsed().as_millis(), 1_020);
    }
}
