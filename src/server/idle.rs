//! When a connection is closed because its peer makes no progress.
//!
//! One coarse clock per connection compares its counts (`activity`) at each tick. hyper's own timers, one for each request, are
//! off. While a request is being answered nothing is closed: the service has deadlines of its own.

use std::time::Duration;

use super::activity::ActivitySnapshot;
use crate::supervisor::MIN_IDLE_AT_STOP;

/// How often a connection is looked at while the process serves, if it may be idle for so long.
const TICK: Duration = Duration::from_secs(5);

/// The same once the process stops.
const STOP_TICK: Duration = Duration::from_millis(500);

/// The same for a connection that makes room for others: a round trip on most lines, in which an HTTP/2 peer hears of the end.
const ROOM_TICK: Duration = Duration::from_millis(100);

/// How often a connection is looked at, and when it is closed. A state is noticed up to a tick after it began.
#[derive(Clone, Copy)]
pub(super) struct IdlePolicy {
    pub(super) tick: Duration,
    /// The most time in which a head is incomplete, or a peer gives open streams no room for their answers.
    slow: Duration,
    /// The most time in which the system has no room for what the server wants to write.
    unread: Duration,
    /// The least time in which nothing happens.
    idle: Duration,
}

impl IdlePolicy {
    /// The policy while the process serves.
    ///
    /// - A head has 10 to 15 s. It is one or two packets, and a slow line may lose several.
    /// - An unread answer has 25 to 30 s. Linux asks for more when a third of its buffer of up to 4 MiB (tcp_wmem) is free,
    ///   which takes that long at 45 kB/s.
    /// - An idle connection has `keep_alive` and up to a tick more.
    pub(super) fn serving(keep_alive: Duration) -> Self {
        Self {
            tick: TICK.min(keep_alive),
            slow: Duration::from_secs(15),
            unread: Duration::from_secs(30),
            idle: keep_alive,
        }
    }

    /// The same with shorter ticks, for a process that stops.
    pub(super) fn stopping(self) -> Self {
        Self { tick: STOP_TICK.min(self.tick), ..self }
    }

    /// The same for the time in which the process takes no new connections: an idle one is closed as soon as its peer would
    /// hardly use it any more.
    pub(super) fn closing(self) -> Self {
        Self { idle: MIN_IDLE_AT_STOP.min(self.idle), ..self }
    }
}

/// The policy for a connection that is ending: long enough to read a request that is on its way, and no longer.
pub(super) const ENDING: IdlePolicy =
    IdlePolicy { tick: STOP_TICK, slow: Duration::from_secs(1), unread: Duration::from_secs(1), idle: STOP_TICK };

/// The policy for a connection that makes room for others: it asks for nothing, and the next tick ends it. Only an answer that
/// its peer still reads has the time that it has in [`ENDING`].
pub(super) const MAKING_ROOM: IdlePolicy =
    IdlePolicy { tick: ROOM_TICK, slow: ROOM_TICK, unread: ENDING.unread, idle: ROOM_TICK };

/// What becomes of a connection after a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stays,
    /// There was no request for so long that the connection ends.
    Idle,
    /// The peer neither ended a head nor read an answer for so long that the connection ends.
    Stuck,
}

/// What the ticks of one connection found so far.
#[derive(Default)]
pub(super) struct IdleTracker {
    requests: (u64, u64),
    writes: u64,
    slow: Duration,
    idle: Duration,
}

impl IdleTracker {
    /// Records a tick, and says what becomes of the connection.
    pub(super) fn judge(&mut self, now: ActivitySnapshot, policy: &IdlePolicy) -> Verdict {
        let requests = (now.requests_begun, now.requests_ended);
        let (has_requests, has_writes) = (requests != self.requests, now.writes != self.writes);
        (self.requests, self.writes) = (requests, now.writes);
        if now.requests_begun != now.requests_ended {
            (self.slow, self.idle) = (Duration::ZERO, Duration::ZERO);
            return Verdict::Stays;
        }
        let is_active = has_requests || (has_writes && !now.is_http2);
        self.idle = if is_active || now.is_blocked { Duration::ZERO } else { self.idle + policy.tick };
        // The first tick that finds no progress counts in full: the state may have lasted for a whole tick.
        self.slow = match (now.is_half_done || now.is_blocked, has_requests || has_writes) {
            (true, true) => policy.tick,
            (true, false) => self.slow + policy.tick,
            (false, _) => Duration::ZERO,
        };
        let slow = if now.is_half_done { policy.slow } else { policy.unread };
        match (self.slow >= slow, self.idle >= policy.idle) {
            (true, _) => Verdict::Stuck,
            (false, true) => Verdict::Idle,
            (false, false) => Verdict::Stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ActivitySnapshot, ENDING, IdlePolicy, IdleTracker, MAKING_ROOM, Verdict};
    use std::time::Duration;

    const QUIET: ActivitySnapshot = ActivitySnapshot {
        requests_begun: 1,
        requests_ended: 1,
        writes: 1,
        is_http2: false,
        is_half_done: false,
        is_blocked: false,
    };
    const HALF_DONE: ActivitySnapshot = ActivitySnapshot { is_half_done: true, ..QUIET };
    const UNREAD: ActivitySnapshot = ActivitySnapshot { is_blocked: true, ..QUIET };
    const ANSWERING: ActivitySnapshot = ActivitySnapshot { requests_begun: 2, ..HALF_DONE };

    fn serving() -> IdlePolicy {
        IdlePolicy::serving(Duration::from_secs(620))
    }

    /// When the connection is closed if every tick finds the same, after one that found a request begun and ended. In
    /// milliseconds after that tick.
    fn closed_at(now: ActivitySnapshot, policy: &IdlePolicy) -> Option<u128> {
        let mut tracker = IdleTracker::default();
        assert_eq!(tracker.judge(QUIET, policy), Verdict::Stays);
        let tick = (1..1_000).find(|_| tracker.judge(now, policy) != Verdict::Stays);
        tick.map(|tick: u32| (tick * policy.tick).as_millis())
    }

    #[test]
    fn an_idle_connection_is_closed_after_the_setting_a_slow_head_after_10_s_and_an_unread_answer_after_25_s() {
        assert_eq!(closed_at(QUIET, &serving()), Some(620_000));
        assert_eq!(closed_at(HALF_DONE, &serving()), Some(15_000));
        assert_eq!(closed_at(UNREAD, &serving()), Some(30_000));
    }

    #[test]
    fn an_idle_connection_is_never_closed_before_the_setting() {
        for millis in [1_000, 1_001, 4_999, 5_000, 5_001, 7_500, 60_000, 86_400_000] {
            let policy = IdlePolicy::serving(Duration::from_millis(millis));
            let mut tracker = IdleTracker::default();
            tracker.judge(QUIET, &policy);
            let ticks = (1..).find(|_| tracker.judge(QUIET, &policy) == Verdict::Idle).unwrap();
            let after = u64::try_from((policy.tick * ticks).as_millis()).unwrap();
            assert!((millis..millis + 5_000).contains(&after), "{millis}: {after}");
        }
    }

    #[test]
    fn an_idle_connection_is_closed_after_5_seconds_when_the_process_closes() {
        assert_eq!(closed_at(QUIET, &serving().stopping().closing()), Some(5_000));
    }

    #[test]
    fn a_connection_whose_request_is_being_answered_is_never_closed() {
        for policy in [serving(), ENDING, MAKING_ROOM] {
            assert_eq!(closed_at(ANSWERING, &policy), None);
        }
    }

    #[test]
    fn a_connection_that_makes_room_is_closed_at_once_unless_its_peer_still_reads_an_answer() {
        assert_eq!(closed_at(QUIET, &MAKING_ROOM), Some(100));
        assert_eq!(closed_at(HALF_DONE, &MAKING_ROOM), Some(100));
        assert_eq!(closed_at(ANSWERING, &MAKING_ROOM), None);
        let mut reading = IdleTracker::default();
        for n in 1..100 {
            let read = ActivitySnapshot { writes: n, ..UNREAD };
            assert_eq!(reading.judge(read, &MAKING_ROOM), Verdict::Stays, "{n}");
        }
    }

    #[test]
    fn an_idle_connection_is_closed_at_once_while_it_is_ending() {
        assert_eq!(closed_at(QUIET, &ENDING), Some(500));
    }

    #[test]
    fn a_peer_that_makes_progress_is_not_slow() {
        let (mut asking, mut reading) = (IdleTracker::default(), IdleTracker::default());
        for n in 1..100 {
            let asked = ActivitySnapshot { requests_begun: n, requests_ended: n, ..HALF_DONE };
            assert_eq!(asking.judge(asked, &serving()), Verdict::Stays, "{n}");
            let read = ActivitySnapshot { writes: n, ..HALF_DONE };
            assert_eq!(reading.judge(read, &serving()), Verdict::Stays, "{n}");
        }
    }

    #[test]
    fn writes_to_an_http2_peer_are_no_requests() {
        let mut tracker = IdleTracker::default();
        let quiet = |n| ActivitySnapshot { writes: n, is_http2: true, ..QUIET };
        assert_eq!((1..1_000).find(|n| tracker.judge(quiet(*n), &serving()) == Verdict::Idle), Some(125));
    }
}
