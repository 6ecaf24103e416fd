//! The right to send one request to Segment: a free slot, an open gate, and the pace.
//!
//! The pace is the rate limit and the batching in one: the next request may start a fixed time after the last one, and
//! takes all that waits by then. There is no linger: a request that comes when nothing went out lately goes at once.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::gate::{Gate, Pass};

/// All slots, and the pace they share.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    gate: Arc<Gate>,
    interval: Duration,
    next: Mutex<Instant>,
}

/// One request's right to be sent. The slot is free again when this is dropped.
pub(super) struct Slot {
    pub(super) pass: Pass,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new(count: NonZeroUsize, requests_per_second: NonZeroU32, gate: Arc<Gate>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.get())),
            gate,
            interval: Duration::from_secs(1) / requests_per_second.get(),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until a request may be sent. Who asks first, goes first.
    pub(super) async fn acquire(&self) -> Slot {
        // The semaphore is never closed; if it were, waiting is the safe answer.
        let Ok(permit) = self.free.clone().acquire_owned().await else { return std::future::pending().await };
        let pass = self.gate.pass().await;
        tokio::time::sleep_until(self.reserve()).await;
        Slot { pass, _permit: permit }
    }

    /// The next free point in time, which is taken by this.
    fn reserve(&self) -> Instant {
        let mut next = self.next.lock();
        let mine = (*next).max(Instant::now());
        *next = mine + self.interval;
        mine
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
    async fn the_first_goes_at_once_and_the_rest_at_the_pace() {
        let (slots, start) = (slots(256, 100), Instant::now());
        let mut starts = Vec::new();
        for _ in 0..4 {
            drop(slots.acquire().await);
            starts.push(start.elapsed().as_millis());
        }
        assert_eq!(starts, [0, 10, 20, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_are_under_way_than_there_are_slots() {
        let slots = slots(1, 100);
        let held = slots.acquire().await;
        let waited = tokio::time::timeout(Duration::from_secs(60), slots.acquire()).await;
        assert!(waited.is_err());
        drop(held);
        slots.acquire().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for_by_a_burst() {
        let (slots, start) = (slots(256, 100), Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..3 {
            drop(slots.acquire().await);
        }
        assert_eq!(start.elapsed().as_millis(), 1_020);
    }
}
