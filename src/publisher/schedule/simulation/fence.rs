//! The fence: its time ends, the store hears of it a while later, and opens it again when it has all calls back.

use std::sync::Arc;
use std::time::Duration;

use super::{Event, Simulation};
use crate::publisher::schedule::Request;
use crate::segment::SendFence;

/// From the end of the fence's time until all calls are back: the timeout of a request, and settlements. A request whose calls
/// hang is over by then.
const RETURN: Duration = Duration::from_secs(8);

/// How often the store looks whether it has all calls back.
const LOOK: Duration = Duration::from_millis(10);

/// After the last planned end.
const NEVER: Duration = Duration::from_secs(1 << 30);

pub(super) struct Fence {
    pub(super) fence: Arc<SendFence>,
    tenure: i64,
    pub(super) until: Duration,
    /// Whether the store knows that it is shut.
    pub(super) is_known_shut: bool,
}

impl Default for Fence {
    fn default() -> Self {
        let fence = Arc::new(SendFence::new_shut());
        Self { fence, tenure: 0, until: Duration::ZERO, is_known_shut: true }
    }
}

impl Simulation {
    /// Opens the fence until the next planned end, if the store has all calls back.
    pub(super) fn open_fence(&mut self) {
        if !self.store.has_all_back() {
            let since = self.now.saturating_sub(self.fence.until);
            assert!(since < RETURN, "at {:?}: calls are out {since:?} after the fence was shut", self.now);
            return self.plan_event(self.now + LOOK, Event::FenceOpens);
        }
        let next = self.plan.fences.iter().find(|(end, _)| *end > self.now).copied();
        let (until, _) = next.unwrap_or((NEVER, NEVER));
        let Fence { fence, tenure, .. } = &mut self.fence;
        *tenure += 1;
        fence.allow(*tenure, until);
        assert!(fence.open(*tenure));
        self.fence.until = until;
        self.fence.is_known_shut = false;
        self.schedule.set_fence(self.fence.fence.clone());
        if let Some((end, unheard)) = next {
            self.plan_event(end + unheard, Event::FenceShut);
        }
    }

    pub(super) fn hear_of_fence(&mut self) {
        self.fence.fence.shut();
        self.schedule.look_at_fence();
        self.fence.is_known_shut = true;
        self.is_notified = true;
        self.gather();
        self.plan_event(self.now + LOOK, Event::FenceOpens);
    }

    /// Starts a request as `dispatch` does: only before the end of the fence's time.
    pub(super) fn start(&mut self, request: Request) -> Option<Request> {
        let started = self.schedule.start(request, self.now, self.start + self.now);
        match &started {
            Some(_) => {
                assert!(self.now < self.fence.until, "at {:?}: a request starts though the fence is shut", self.now);
            }
            None => {
                assert!(self.now >= self.fence.until, "at {:?}: a request is held though the fence is open", self.now);
                self.log.held += 1;
            }
        }
        started
    }
}
