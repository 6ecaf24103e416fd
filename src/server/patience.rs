//! When a connection is closed because nobody speaks on it, or too slowly. Pure: a coarse clock asks at each of its ticks.
//!
//! One clock a connection instead of a timer for each request, which is what hyper has. While a request is being answered
//! nothing is closed: its handler has deadlines of its own.

use std::time::Duration;

/// How often a connection is looked at, and after how many looks it is closed.
pub(super) struct Patience {
    pub(super) tick: Duration,
    /// Ticks at which it was awaited that the peer ends a head, or makes room for the answers of open streams.
    slow: u32,
    /// Ticks at which the system had no room for what was to be written.
    unread: u32,
    /// Ticks at which nothing had happened since the one before.
    idle: u32,
    /// The same while others wait for a place.
    crowded: u32,
}

/// While the process serves. A head has 10 to 15 s: that is a packet or two, so it is for the slowest line with several of
/// them lost. An answer of which nothing is taken has 25 to 30 s: Linux asks for more when a third of its buffer of up to
/// 4 MiB (tcp_wmem) is free, which takes that long at 45 kB/s. An idle connection has 75 to 80 s: longer than the minute for
/// which load balancers commonly keep theirs, so that they, not we, end it. While all places are taken it has 5 to 10 s:
/// a caller who just had an answer may well ask again.
pub(super) const SERVING: Patience =
    Patience { tick: Duration::from_secs(5), slow: 3, unread: 6, idle: 15, crowded: 1 };

/// While it drains: time enough to read a request that is on its way, and no reason to wait for one that is not.
pub(super) const DRAINING: Patience =
    Patience { tick: Duration::from_millis(500), slow: 2, unread: 2, idle: 1, crowded: 1 };

/// What a tick finds.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Requests begun so far.
    pub(super) begun: u64,
    /// Requests ended so far.
    pub(super) ended: u64,
    /// Writes so far.
    pub(super) written: u64,
    /// Its peers can keep us writing without asking for anything, so that what is written is no sign of life.
    pub(super) is_http2: bool,
    /// A head is begun, or a stream of HTTP/2 open, and it is for the peer to go on, unless a request is being answered.
    pub(super) is_half_done: bool,
    /// The peer has not taken what was to be written last.
    pub(super) is_blocked: bool,
}

/// What the ticks so far found.
#[derive(Default)]
pub(super) struct Watch {
    requests: (u64, u64),
    written: u64,
    slow: u32,
    idle: u32,
}

impl Watch {
    /// Whether the connection is to be closed.
    pub(super) fn is_over(&mut self, found: Found, patience: &Patience, crowded: bool) -> bool {
        let requests = (found.begun, found.ended);
        let (moved, wrote) = (requests != self.requests, found.written != self.written);
        (self.requests, self.written) = (requests, found.written);
        if found.begun != found.ended {
            (self.slow, self.idle) = (0, 0);
            return false;
        }
        self.idle = if moved || (wrote && !found.is_http2) { 0 } else { self.idle + 1 };
        // The first tick that finds it counts: it may have been so for a whole tick.
        self.slow = match (found.is_half_done || found.is_blocked, moved || wrote) {
            (true, true) => 1,
            (true, false) => self.slow + 1,
            (false, _) => 0,
        };
        let slow = if found.is_half_done || crowded { patience.slow } else { patience.unread };
        self.slow >= slow || self.idle >= if crowded { patience.crowded } else { patience.idle }
    }
}

#[cfg(test)]
mod tests {
    use super::{DRAINING, Found, Patience, SERVING, Watch};

    const QUIET: Found =
        Found { begun: 1, ended: 1, written: 1, is_http2: false, is_half_done: false, is_blocked: false };
    const HALF_DONE: Found = Found { is_half_done: true, ..QUIET };
    const UNREAD: Found = Found { is_blocked: true, ..QUIET };
    const ANSWERING: Found = Found { begun: 2, ..HALF_DONE };

    /// The tick at which it is closed if every tick finds the same, after one that found a request begun and ended.
    fn closed_at(found: Found, patience: &Patience, crowded: bool) -> Option<u32> {
        let mut watch = Watch::default();
        assert!(!watch.is_over(QUIET, patience, crowded));
        (1..1_000).find(|_| watch.is_over(found, patience, crowded))
    }

    #[test]
    fn silence_is_closed_after_75_seconds_a_slow_head_after_10_and_who_does_not_read_after_25() {
        assert_eq!(closed_at(QUIET, &SERVING, false), Some(15));
        assert_eq!(closed_at(HALF_DONE, &SERVING, false), Some(3));
        assert_eq!(closed_at(UNREAD, &SERVING, false), Some(6));
    }

    #[test]
    fn where_others_wait_for_a_place_silence_is_closed_after_5_seconds() {
        assert_eq!(closed_at(QUIET, &SERVING, true), Some(1));
    }

    #[test]
    fn who_is_being_answered_stays() {
        for (patience, crowded) in [(&SERVING, false), (&SERVING, true), (&DRAINING, false)] {
            assert_eq!(closed_at(ANSWERING, patience, crowded), None);
        }
    }

    #[test]
    fn while_draining_silence_is_closed_at_once() {
        assert_eq!(closed_at(QUIET, &DRAINING, false), Some(1));
    }

    #[test]
    fn who_goes_on_is_not_slow() {
        let (mut asking, mut reading) = (Watch::default(), Watch::default());
        for n in 1..100 {
            assert!(!asking.is_over(Found { begun: n, ended: n, ..HALF_DONE }, &SERVING, true), "{n}");
            assert!(!reading.is_over(Found { written: n, ..HALF_DONE }, &SERVING, true), "{n}");
        }
    }

    #[test]
    fn what_is_written_to_an_http2_peer_is_no_request() {
        let mut watch = Watch::default();
        let quiet = |n| Found { written: n, is_http2: true, ..QUIET };
        assert_eq!((1..1_000).find(|n| watch.is_over(quiet(*n), &SERVING, false)), Some(16));
    }
}
