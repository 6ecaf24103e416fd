//! When a connection is closed because its peer makes no progress.
//!
//! Each connection counts its reads, writes and requests. One coarse clock per connection compares the counts at each
//! tick. hyper's own timers, one for each request, are off. All code that touches the counts of a connection runs on
//! the connection's thread, so counting is a few plain additions. While a request is being answered nothing is closed:
//! the service has deadlines of its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4). No method of HTTP/1 begins with them.
const PREFACE: &[u8] = b"PRI ";

/// How often a connection is looked at, and after how many ticks without progress it is closed.
pub(super) struct IdlePolicy {
    pub(super) tick: Duration,
    /// Ticks during which a head was incomplete, or a peer gave open streams no room for their answers.
    slow_ticks: u32,
    /// Ticks during which the system had no room for what the server wants to write.
    unread_ticks: u32,
    /// Ticks during which nothing happened.
    idle_ticks: u32,
    /// The same while the limit of connections is reached.
    idle_ticks_when_full: u32,
}

/// The policy while the process serves.
///
/// - A head has 10 to 15 s. It is one or two packets, and a slow line may lose several.
/// - An unread answer has 25 to 30 s. Linux asks for more when a third of its buffer of up to 4 MiB (tcp_wmem) is free,
///   which takes that long at 45 kB/s.
/// - An idle connection has 75 to 80 s. Load balancers commonly keep theirs for a minute, so they end it first.
/// - An idle connection has 5 to 10 s while the limit of connections is reached. A caller may still send its next
///   request.
pub(super) const SERVING: IdlePolicy = IdlePolicy {
    tick: Duration::from_secs(5),
    slow_ticks: 3,
    unread_ticks: 6,
    idle_ticks: 15,
    idle_ticks_when_full: 1,
};

/// The policy while the process drains: long enough to read a request that is on its way, and no longer.
pub(super) const DRAINING: IdlePolicy = IdlePolicy {
    tick: Duration::from_millis(500),
    slow_ticks: 2,
    unread_ticks: 2,
    idle_ticks: 1,
    idle_ticks_when_full: 1,
};

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
    slow_ticks: u32,
    idle_ticks: u32,
}

impl IdleTracker {
    /// Records a tick and tells whether the connection is to be closed. `is_full`: the limit of connections is reached.
    pub(super) fn should_close(&mut self, now: ActivitySnapshot, policy: &IdlePolicy, is_full: bool) -> bool {
        let requests = (now.requests_begun, now.requests_ended);
        let (has_requests, has_writes) = (requests != self.requests, now.writes != self.writes);
        (self.requests, self.writes) = (requests, now.writes);
        if now.requests_begun != now.requests_ended {
            (self.slow_ticks, self.idle_ticks) = (0, 0);
            return false;
        }
        self.idle_ticks = if has_requests || (has_writes && !now.is_http2) { 0 } else { self.idle_ticks + 1 };
        // The first tick that finds no progress counts in full: the state may have lasted for a whole tick.
        self.slow_ticks = match (now.is_half_done || now.is_blocked, has_requests || has_writes) {
            (true, true) => 1,
            (true, false) => self.slow_ticks + 1,
            (false, _) => 0,
        };
        let slow_ticks = if now.is_half_done || is_full { policy.slow_ticks } else { policy.unread_ticks };
        let idle_ticks = if is_full { policy.idle_ticks_when_full } else { policy.idle_ticks };
        self.slow_ticks >= slow_ticks || self.idle_ticks >= idle_ticks
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
    is_http2: AtomicBool,
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

    /// The counts now.
    ///
    /// In HTTP/1 the bytes after a request ended are the head of the next one. A part of a head that came in one read with
    /// the request before it is not seen. In HTTP/2 a peer may send much without asking for anything, but a stream that is
    /// open while no request is being answered has an answer that its peer does not take.
    pub(super) fn snapshot(&self) -> ActivitySnapshot {
        let is_http2 = self.is_http2.load(Relaxed);
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

    fn count_read(&self, bytes: &[u8]) {
        let reads = self.reads.load(Relaxed);
        if reads == 0 && bytes.starts_with(PREFACE) {
            self.is_http2.store(true, Relaxed);
        }
        // Only the connection itself reads and writes: nothing is lost between a load and a store.
        self.reads.store(reads + 1, Relaxed);
    }

    fn count_write<T>(&self, outcome: Poll<T>) -> Poll<T> {
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

/// A byte stream whose reads and writes are counted.
pub(super) struct CountedStream<S> {
    pub(super) stream: S,
    pub(super) activity: Arc<ActivityCounts>,
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
            self.activity.count_read(bytes);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.count_write(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.count_write(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::{ActivitySnapshot, DRAINING, IdlePolicy, IdleTracker, SERVING};

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

    /// The tick that closes the connection if every tick finds the same, after one that found a request begun and ended.
    fn closed_at(now: ActivitySnapshot, policy: &IdlePolicy, is_full: bool) -> Option<u32> {
        let mut tracker = IdleTracker::default();
        assert!(!tracker.should_close(QUIET, policy, is_full));
        (1..1_000).find(|_| tracker.should_close(now, policy, is_full))
    }

    #[test]
    fn an_idle_connection_is_closed_after_75_seconds_a_slow_head_after_10_and_an_unread_answer_after_25() {
        assert_eq!(closed_at(QUIET, &SERVING, false), Some(15));
        assert_eq!(closed_at(HALF_DONE, &SERVING, false), Some(3));
        assert_eq!(closed_at(UNREAD, &SERVING, false), Some(6));
    }

    #[test]
    fn an_idle_connection_is_closed_after_5_seconds_while_the_limit_of_connections_is_reached() {
        assert_eq!(closed_at(QUIET, &SERVING, true), Some(1));
    }

    #[test]
    fn a_connection_whose_request_is_being_answered_is_never_closed() {
        for (policy, is_full) in [(&SERVING, false), (&SERVING, true), (&DRAINING, false)] {
            assert_eq!(closed_at(ANSWERING, policy, is_full), None);
        }
    }

    #[test]
    fn an_idle_connection_is_closed_at_once_while_the_process_drains() {
        assert_eq!(closed_at(QUIET, &DRAINING, false), Some(1));
    }

    #[test]
    fn a_peer_that_makes_progress_is_not_slow() {
        let (mut asking, mut reading) = (IdleTracker::default(), IdleTracker::default());
        for n in 1..100 {
            let asked = ActivitySnapshot { requests_begun: n, requests_ended: n, ..HALF_DONE };
            assert!(!asking.should_close(asked, &SERVING, true), "{n}");
            assert!(!reading.should_close(ActivitySnapshot { writes: n, ..HALF_DONE }, &SERVING, true), "{n}");
        }
    }

    #[test]
    fn writes_to_an_http2_peer_are_no_requests() {
        let mut tracker = IdleTracker::default();
        let quiet = |n| ActivitySnapshot { writes: n, is_http2: true, ..QUIET };
        assert_eq!((1..1_000).find(|n| tracker.should_close(quiet(*n), &SERVING, false)), Some(16));
    }
}
