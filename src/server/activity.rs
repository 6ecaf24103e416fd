//! What happens on a connection: its reads, writes and requests are counted.
//!
//! All code that changes the counts of a connection runs on the connection's thread, so no count needs an order with another.
//! `idle` reads them on the same thread, `places` on another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4). They come in one packet or in several.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// [`ActivityCounts::preface`] of a connection that began in another way.
const NO_PREFACE: u64 = u64::MAX;

/// The counts of a connection at one tick.
#[derive(Clone, Copy)]
pub(super) struct ActivitySnapshot {
    pub(super) requests_begun: u64,
    pub(super) requests_ended: u64,
    pub(super) writes: u64,
    /// HTTP/2 peers can make the server write without asking for anything, so writes are no progress there.
    pub(super) is_http2: bool,
    /// A head is incomplete, or an HTTP/2 stream is open. Unless a request is being answered, it is the peer's turn.
    pub(super) is_half_done: bool,
    /// The system has no room for what the server wants to write, because the peer does not read.
    pub(super) is_blocked: bool,
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
    /// The block of headers that an HTTP/2 peer has begun lacks further frames.
    is_block_open: AtomicBool,
    /// Requests that cannot go on before more of their body comes.
    bodies_awaited: AtomicU64,
    /// When the connection was accepted, or a request on it last began or ended, by the clock of `places`.
    last_used: AtomicU64,
    /// Somebody on this connection has shown a secret.
    is_known: AtomicBool,
}

impl ActivityCounts {
    /// The counts of a connection that is accepted at this time.
    pub(super) fn accepted(time: u64) -> Self {
        Self { last_used: AtomicU64::new(time), ..Self::default() }
    }

    /// Counts a request, which ends when the guard is dropped.
    pub(super) fn begin_request<'a>(&'a self, clock: &'a AtomicU64) -> RequestGuard<'a> {
        self.requests_begun.fetch_add(1, Relaxed);
        self.last_used.store(clock.load(Relaxed), Relaxed);
        RequestGuard { counts: self, clock }
    }

    /// Counts a request that cannot go on before more of its body comes, until the guard is dropped.
    pub(super) fn await_body(&self) -> AwaitedBody<'_> {
        self.bodies_awaited.fetch_add(1, Relaxed);
        AwaitedBody(self)
    }

    /// What the connection waits for, as `places` sees it from another thread: it may change at any time.
    pub(super) fn turn(&self) -> Turn {
        let ended = self.requests_ended.load(Relaxed);
        match self.requests_begun.load(Relaxed).saturating_sub(ended) {
            0 if ended > 0 => Turn::Idle,
            under_way if under_way == self.bodies_awaited.load(Relaxed) => Turn::Peer,
            _ => Turn::Server,
        }
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Relaxed)
    }

    pub(super) fn set_known(&self) {
        self.is_known.store(true, Relaxed);
    }

    pub(super) fn set_block_open(&self, is_open: bool) {
        self.is_block_open.store(is_open, Relaxed);
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

    /// Whether the bytes so far may be those of an HTTP/2 peer.
    pub(super) fn may_be_http2(&self) -> bool {
        self.preface.load(Relaxed) != NO_PREFACE
    }

    /// Whether the peer has sent anything.
    pub(super) fn has_read(&self) -> bool {
        self.reads.load(Relaxed) > 0
    }

    /// Whether a request has come.
    pub(super) fn has_begun(&self) -> bool {
        self.requests_begun.load(Relaxed) > 0
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
    /// open while no request is being answered has an answer that its peer does not take, and a block of headers is one or two
    /// packets as well.
    pub(super) fn snapshot(&self) -> ActivitySnapshot {
        let is_http2 = self.is_http2();
        let has_new_bytes = self.reads.load(Relaxed) != self.reads_at_end.load(Relaxed);
        ActivitySnapshot {
            requests_begun: self.requests_begun.load(Relaxed),
            requests_ended: self.requests_ended.load(Relaxed),
            writes: self.writes.load(Relaxed),
            is_http2,
            is_half_done: if is_http2 {
                self.open_streams.load(Relaxed) > 0 || self.is_block_open.load(Relaxed)
            } else {
                has_new_bytes
            },
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

/// Whose turn it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// A request was answered, and the next one has not come.
    Idle,
    /// The first request, or the rest of a body, has not come.
    Peer,
    /// A request is being answered.
    Server,
}

/// A request that is being answered.
pub(super) struct RequestGuard<'a> {
    counts: &'a ActivityCounts,
    clock: &'a AtomicU64,
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        self.counts.reads_at_end.store(self.counts.reads.load(Relaxed), Relaxed);
        self.counts.last_used.store(self.clock.load(Relaxed), Relaxed);
        self.counts.requests_ended.fetch_add(1, Relaxed);
    }
}

/// A request whose body is awaited.
pub struct AwaitedBody<'a>(&'a ActivityCounts);

impl Drop for AwaitedBody<'_> {
    fn drop(&mut self) {
        self.0.bodies_awaited.fetch_sub(1, Relaxed);
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
    use super::{ActivityCounts, PREFACE, Turn};
    use std::sync::atomic::AtomicU64;

    #[test]
    fn the_turn_is_the_peers_before_the_first_request_and_while_every_request_lacks_a_part_of_its_body() {
        let (counts, clock) = (ActivityCounts::accepted(1), AtomicU64::new(7));
        assert_eq!((counts.turn(), counts.last_used()), (Turn::Peer, 1));
        let (first, second) = (counts.begin_request(&clock), counts.begin_request(&clock));
        assert_eq!((counts.turn(), counts.last_used()), (Turn::Server, 7));
        let body = counts.await_body();
        assert_eq!(counts.turn(), Turn::Server);
        drop(second);
        assert_eq!(counts.turn(), Turn::Peer);
        drop(body);
        assert_eq!(counts.turn(), Turn::Server);
        drop(first);
        assert_eq!(counts.turn(), Turn::Idle);
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
