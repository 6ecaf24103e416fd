//! The fence: until when stored calls may be sent.
//!
//! Several relays may have one outbox, and one of them sends at a time. It may send until a time on its own clock, which the
//! store pushes forward while it holds the lease. The publisher looks right before it starts a request. Past that time the fence shuts
//! by itself and stays shut: the publisher gives back all stored calls, and the store opens the fence again when it has them.
//!
//! The clock is the boot-time clock, which goes on while the machine sleeps.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Lets stored calls be sent for a while.
pub struct SendFence {
    state: Mutex<State>,
    /// Notified each time the fence shuts.
    shut: Notify,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// The tenure that may send, and until when.
    allowed: Option<(i64, Duration)>,
    /// The last tenure that has ended.
    ended: Option<i64>,
    is_open: bool,
}

impl SendFence {
    pub fn new_shut() -> Self {
        Self { state: Mutex::default(), shut: Notify::new() }
    }

    /// Calls may be sent under this tenure until this boot time, if the fence is open or is opened by then. A tenure is a number
    /// that is greater each time this relay becomes the one that sends. False if this one has ended: the fence was shut meanwhile.
    pub fn allow(&self, tenure: i64, until: Duration) -> bool {
        let mut state = self.state.lock();
        if state.allowed.is_some_and(|(before, _)| before != tenure) {
            self.shut_locked(&mut state);
        }
        let is_allowed = state.ended != Some(tenure);
        if is_allowed {
            state.allowed = Some((tenure, until));
        }
        is_allowed
    }

    /// Opens the fence for this tenure. The store must have all calls back that it gave out. False if the tenure has ended.
    pub fn open(&self, tenure: i64) -> bool {
        let mut state = self.state.lock();
        state.is_open = state.allowed.is_some_and(|(allowed, _)| allowed == tenure);
        state.is_open
    }

    /// Ends the tenure: nothing is sent until the fence is opened for another one.
    pub fn shut(&self) {
        self.shut_locked(&mut self.state.lock());
    }

    fn shut_locked(&self, state: &mut State) {
        let ended = state.allowed.take().map(|(tenure, _)| tenure);
        state.ended = ended.or(state.ended);
        if std::mem::take(&mut state.is_open) {
            self.shut.notify_one();
        }
    }

    /// Whether a request with stored calls may start now.
    pub fn may_send(&self) -> bool {
        self.may_send_at(boot_time())
    }

    /// The same at this boot time. The first look after the end of the allowed time shuts the fence.
    pub fn may_send_at(&self, now: Duration) -> bool {
        let mut state = self.state.lock();
        if state.allowed.is_some_and(|(_, until)| now >= until) {
            self.shut_locked(&mut state);
        }
        state.is_open
    }

    /// Whether the fence was open at the last look.
    pub fn is_open(&self) -> bool {
        self.state.lock().is_open
    }

    /// Resolves after the fence was shut: once, however often it was since the last time. One task waits for it.
    pub async fn wait_until_shut(&self) {
        self.shut.notified().await;
    }
}

impl fmt::Debug for SendFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFence").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

/// The time since the machine was started, with the time that it slept.
pub fn boot_time() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    // For development only: this clock may stand still while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    // Neither is negative.
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{SendFence, boot_time};
    use std::time::Duration;
    use tokio::time::timeout;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fence_is_shut_until_it_is_opened_for_the_tenure_that_is_allowed() {
        let fence = SendFence::new_shut();
        assert!(!fence.may_send_at(SECOND) && !fence.open(1));
        fence.allow(1, 4 * SECOND);
        assert!(!fence.may_send_at(SECOND), "the store may not have all calls back");
        assert!(!fence.open(2) && !fence.may_send_at(SECOND));
        assert!(fence.open(1) && fence.may_send_at(SECOND));
        fence.allow(2, 8 * SECOND);
        assert!(!fence.may_send_at(SECOND), "calls of the tenure before may be out");
    }

    #[test]
    fn a_fence_shuts_at_the_end_of_its_time_and_stays_shut() {
        let fence = SendFence::new_shut();
        fence.allow(1, 4 * SECOND);
        assert!(fence.open(1));
        fence.allow(1, 6 * SECOND);
        assert!(fence.may_send_at(6 * SECOND - Duration::from_nanos(1)));
        assert!(!fence.may_send_at(6 * SECOND));
        assert!(!fence.may_send_at(SECOND) && !fence.open(1));
        assert!(!fence.allow(1, 8 * SECOND) && !fence.open(1), "more time does not open it");
        assert!(fence.allow(2, 8 * SECOND) && fence.open(2) && fence.may_send_at(SECOND));
    }

    #[test]
    fn a_tenure_that_was_ended_cannot_be_opened_later() {
        let fence = SendFence::new_shut();
        fence.allow(1, 4 * SECOND);
        fence.shut();
        assert!(!fence.open(1) && !fence.may_send_at(SECOND));
    }

    #[tokio::test]
    async fn a_fence_that_shuts_is_heard_of_once_even_by_one_who_listens_later() {
        let fence = SendFence::new_shut();
        fence.shut();
        fence.allow(1, boot_time() + 60 * SECOND);
        assert!(fence.open(1) && fence.may_send());
        fence.shut();
        fence.wait_until_shut().await;
        assert!(timeout(Duration::from_millis(1), fence.wait_until_shut()).await.is_err());
    }

    #[test]
    fn the_boot_time_goes_on() {
        let before = boot_time();
        assert!(before > Duration::ZERO && boot_time() >= before);
    }
}
