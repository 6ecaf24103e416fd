//! When a connection is closed because its peer makes no progress.
//!
//! Each connection counts its reads, writes and requests. One coarse clock per connection compares the counts at each
//! tick. hyper's own timers, one for each request, are off. All code that touches the counts of a connection runs on
//! the connection's thread, so counting is a few plain additions. While a request is being answered nothing is closed:
//! the service has deadlines of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use crate::supervisor::MIN_IDLE_AT_STOP;

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4). They come in one packet or in several.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// [`ActivityCounts::preface`] of a connection that began in another way.
const NO_PREFACE: u64 = u64::MAX;

/// How often a connection is looked at while the process serves, if it may be idle for so long.
const TICK: Duration = Duration::from_secs(5);

/// The same once the process stops.
const STOP_TICK: Duration = Duration::from_millis(500);

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
    /// The same while the limit of connections is reached.
    idle_when_full: Duration,
}

impl IdlePolicy {
    /// The policy while the process serves.
    ///
    /// - A head has 10 to 15 s. It is one or two packets, and a slow line may lose several.
    /// - An unread answer has 25 to 30 s. Linux asks for more when a third of its buffer of up to 4 MiB (tcp_wmem) is free,
    ///   which takes that long at 45 kB/s.
    /// - An idle connection has `keep_alive` and up to a tick more.
    /// - An idle connection has 5 to 10 s while the limit of connections is reached. A caller may still send its next
    ///   request.
    pub(super) fn serving(keep_alive: Duration) -> Self {
        Self {
            tick: TICK.min(keep_alive),
            slow: Duration::from_secs(15),
            unread: Duration::from_secs(30),
            idle: keep_alive,
            idle_when_full: TICK.min(keep_alive),
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
pub(super) const ENDING: IdlePolicy = IdlePolicy {
    tick: STOP_TICK,
    slow: Duration::from_secs(1),
    unread: Duration::from_secs(1),
    idle: STOP_TICK,
    idle_when_full: STOP_TICK,
};

/// What becomes of a connection after a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stays,
    /// There was no request for so long that the connection ends.
    Idle,
    /// The peer neither ended a head nor read an answer for so long that the connection ends.
    Stuck,
}

/// The counts of a connection at one tick.
#[derive(Clone, Copy)]
pub(super) struct ActivitySnapshot {
    requests_begun: u64,
    requests_ended: u64,
    writes: u64,
    /// HTTP/2 peers can make the server write without asking for anything, so writes are no progress there.
    is_http2: bool,
    /// A head is incomplete, or an HTTP/2 stream is open. Unless a request is being answered, it is the peer's turn.
    is_half_done: bool,
    /// The system has no room for what the server wants to write, because the peer does not read.
    is_blocked: bool,
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
    /// Records a tick, and says what becomes of the connection. `is_full`: the limit of connections is reached.
    pub(super) fn judge(&mut self, now: ActivitySnapshot, policy: &IdlePolicy, is_full: bool) -> Verdict {
        let requests = (now.requests_begun, now.requests_ended);
        let (has_requests, has_writes) = (requests != self.requests, now.writes != self.writes);
        (self.requests, self.writes) = (requests, now.writes);
        if now.requests_begun != now.requests_ended {
            (self.slow, self.idle) = (Duration::ZERO, Duration::ZERO);
            return Verdict::Stays;
        }
        let is_active = has_requests || (has_writes && !now.is_http2);
        self.idle = if is_active { Duration::ZERO } else { self.idle + policy.tick };
        // The first tick that finds no progress counts in full: the state may have lasted for a whole tick.
        self.slow = match (now.is_half_done || now.is_blocked, has_requests || has_writes) {
            (true, true) => policy.tick,
            (true, false) => self.slow + policy.tick,
            (false, _) => Duration::ZERO,
        };
        let slow = if now.is_half_done || is_full { policy.slow } else { policy.unread };
        let idle = if is_full { policy.idle_when_full } else { policy.idle };
        match (self.slow >= slow, self.idle >= idle) {
            (true, _) => Verdict::Stuck,
            (false, true) => Verdict::Idle,
            (false, false) => Verdict::Stays,
        }
    }
}

/// The counts of one connection.
#[derive(Default)]
pub(super) struct ActivityCounts {
    requests_begun: AtomicU64,
    requests_ended: AtomicU64,
    /// Reads that brought bytes.
    reads: AtomicU64,
    /// `reads` when the last request ended.
    reads_at_end: AtomicU64,
    /// Writes of which the peer took something.
    writes: AtomicU64,
    is_blocked: AtomicBool,
    /// How many bytes of the HTTP/2 preface have come, or [`NO_PREFACE`].
    preface: AtomicU64,
    open_streams: AtomicU64,
}

impl ActivityCounts {
    /// Counts a request, which ends when the guard is dropped.
    pub(super) fn begin_request(&self) -> RequestGuard<'_> {
        self.requests_begun.fetch_add(1, Relaxed);
        RequestGuard(self)
    }

    /// Counts an HTTP/2 stream, which is closed when the value is dropped.
    pub(super) fn open_stream(self: Arc<Self>) -> OpenStream {
        let is_only_one = self.open_streams.fetch_add(1, Relaxed) == 0;
        OpenStream { counts: self, is_only_one }
    }

    /// Whether the peer speaks HTTP/2. hyper finds out from the same bytes.
    pub(super) fn is_http2(&self) -> bool {
        self.preface.load(Relaxed) == PREFACE.len() as u64
    }

    /// Whether the peer has sent anything.
    pub(super) fn has_read(&self) -> bool {
        self.reads.load(Relaxed) > 0
    }

    /// Whether a request was answered.
    pub(super) fn has_answered(&self) -> bool {
        self.requests_ended.load(Relaxed) > 0
    }

    /// Whether a request is being answered over HTTP/1.
    pub(super) fn is_answering_http1(&self) -> bool {
        self.requests_begun.load(Relaxed) != self.requests_ended.load(Relaxed) && !self.is_http2()
    }

    /// The counts now.
    ///
    /// In HTTP/1 the bytes after a request ended are the head of the next one. A part of a head that came in one read with
    /// the request before it is not seen. In HTTP/2 a peer may send much without asking for anything, but a stream that is
    /// open while no request is being answered has an answer that its peer does not take.
    pub(super) fn snapshot(&self) -> ActivitySnapshot {
        let is_http2 = self.is_http2();
        let has_new_bytes = self.reads.load(Relaxed) != self.reads_at_end.load(Relaxed);
        ActivitySnapshot {
            requests_begun: self.requests_begun.load(Relaxed),
            requests_ended: self.requests_ended.load(Relaxed),
            writes: self.writes.load(Relaxed),
            is_http2,
            is_half_done: if is_http2 { self.open_streams.load(Relaxed) > 0 } else { has_new_bytes },
            is_blocked: self.is_blocked.load(Relaxed),
        }
    }

    pub(super) fn count_read(&self, bytes: &[u8]) {
        let preface = self.preface.load(Relaxed);
        // No method of HTTP/1 begins as the preface does, so what differs from it is no HTTP/2.
        if let Some(rest) =
            usize::try_from(preface).ok().and_then(|seen| PREFACE.get(seen..)).filter(|rest| !rest.is_empty())
        {
            let length = rest.len().min(bytes.len());
            let is_preface = rest.get(..length) == bytes.get(..length);
            self.preface.store(if is_preface { preface + length as u64 } else { NO_PREFACE }, Relaxed);
        }
        // Only the connection itself reads and writes: nothing is lost between a load and a store.
        self.reads.store(self.reads.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn count_write<T>(&self, outcome: Poll<T>) -> Poll<T> {
        self.is_blocked.store(outcome.is_pending(), Relaxed);
        if outcome.is_ready() {
            self.writes.store(self.writes.load(Relaxed) + 1, Relaxed);
        }
        outcome
    }
}

/// A request that is being answered.
pub(super) struct RequestGuard<'a>(&'a ActivityCounts);

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        self.0.reads_at_end.store(self.0.reads.load(Relaxed), Relaxed);
        self.0.requests_ended.fetch_add(1, Relaxed);
    }
}

/// An open HTTP/2 stream.
pub(super) struct OpenStream {
    counts: Arc<ActivityCounts>,
    /// No other stream was open on the connection when this one began.
    pub(super) is_only_one: bool,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.counts.open_streams.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{ActivityCounts, ActivitySnapshot, ENDING, IdlePolicy, IdleTracker, PREFACE, Verdict};
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
    fn closed_at(now: ActivitySnapshot, policy: &IdlePolicy, is_full: bool) -> Option<u128> {
        let mut tracker = IdleTracker::default();
        assert_eq!(tracker.judge(QUIET, policy, is_full), Verdict::Stays);
        let tick = (1..1_000).find(|_| tracker.judge(now, policy, is_full) != Verdict::Stays);
        tick.map(|tick: u32| (tick * policy.tick).as_millis())
    }

    #[test]
    fn an_idle_connection_is_closed_after_the_setting_a_slow_head_after_10_s_and_an_unread_answer_after_25_s() {
        assert_eq!(closed_at(QUIET, &serving(), false), Some(620_000));
        assert_eq!(closed_at(HALF_DONE, &serving(), false), Some(15_000));
        assert_eq!(closed_at(UNREAD, &serving(), false), Some(30_000));
    }

    #[test]
    fn an_idle_connection_is_never_closed_before_the_setting() {
        for millis in [1_000, 1_001, 4_999, 5_000, 5_001, 7_500, 60_000, 86_400_000] {
            let policy = IdlePolicy::serving(Duration::from_millis(millis));
            let mut tracker = IdleTracker::default();
            tracker.judge(QUIET, &policy, false);
            let ticks = (1..).find(|_| tracker.judge(QUIET, &policy, false) == Verdict::Idle).unwrap();
            let after = u64::try_from((policy.tick * ticks).as_millis()).unwrap();
            assert!((millis..millis + 5_000).contains(&after), "{millis}: {after}");
        }
    }

    #[test]
    fn an_idle_connection_is_closed_after_5_seconds_while_the_limit_of_connections_is_reached_and_when_the_process_closes()
     {
        assert_eq!(closed_at(QUIET, &serving(), true), Some(5_000));
        assert_eq!(closed_at(QUIET, &serving().stopping().closing(), false), Some(5_000));
    }

    #[test]
    fn a_connection_whose_request_is_being_answered_is_never_closed() {
        for (policy, is_full) in [(serving(), false), (serving(), true), (ENDING, false)] {
            assert_eq!(closed_at(ANSWERING, &policy, is_full), None);
        }
    }

    #[test]
    fn an_idle_connection_is_closed_at_once_while_it_is_ending() {
        assert_eq!(closed_at(QUIET, &ENDING, false), Some(500));
    }

    #[test]
    fn a_peer_that_makes_progress_is_not_slow() {
        let (mut asking, mut reading) = (IdleTracker::default(), IdleTracker::default());
        for n in 1..100 {
            let asked = ActivitySnapshot { requests_begun: n, requests_ended: n, ..HALF_DONE };
            assert_eq!(asking.judge(asked, &serving(), true), Verdict::Stays, "{n}");
            let read = ActivitySnapshot { writes: n, ..HALF_DONE };
            assert_eq!(reading.judge(read, &serving(), true), Verdict::Stays, "{n}");
        }
    }

    #[test]
    fn writes_to_an_http2_peer_are_no_requests() {
        let mut tracker = IdleTracker::default();
        let quiet = |n| ActivitySnapshot { writes: n, is_http2: true, ..QUIET };
        assert_eq!((1..1_000).find(|n| tracker.judge(quiet(*n), &serving(), false) == Verdict::Idle), Some(125));
    }

    #[test]
    fn a_preface_is_known_however_it_is_cut_and_nothing_else_is_one() {
        for cut in 1..=PREFACE.len() {
            let counts = ActivityCounts::default();
            for piece in PREFACE.chunks(cut) {
                assert!(!counts.is_http2());
                counts.count_read(piece);
            }
            assert!(counts.is_http2(), "{cut}");
            counts.count_read(b"\0\0\0\x04\0\0\0\0\0");
            assert!(counts.is_http2(), "{cut}");
        }
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/1.1\r\n", b"PUT"] {
            let counts = ActivityCounts::default();
            other.chunks(2).for_each(|piece| counts.count_read(piece));
            counts.count_read(PREFACE);
            assert!(!counts.is_http2());
        }
    }
}
