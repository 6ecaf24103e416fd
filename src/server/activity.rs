//! What happens on a connection, counted: reads, requests begun and ended, answers under way, writes.
//!
//! Each connection has counts of its own, and all that touch them run on its own thread, so that counting costs a few plain
//! additions and no other core ever waits for them. How long what they tell is borne is decided in `patience`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::patience::Found;

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4), as far as no method of HTTP/1 does.
const PREFACE: &[u8] = b"PRI ";

/// The counts of one connection.
#[derive(Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Reads that brought something.
    heard: AtomicU64,
    /// The same when the last request ended.
    heard_by_end: AtomicU64,
    /// Writes of which the peer took something.
    written: AtomicU64,
    /// The peer has not taken what was to be written last.
    is_blocked: AtomicBool,
    is_http2: AtomicBool,
    /// Of HTTP/2, those that are open.
    streams: AtomicU64,
}

impl Activity {
    /// A request begins.
    pub(super) fn begin(&self) -> RequestUnderWay<'_> {
        self.begun.fetch_add(1, Relaxed);
        RequestUnderWay(self)
    }

    /// A stream of HTTP/2 begins.
    pub(super) fn open(self: Arc<Self>) -> OpenStream {
        let is_alone = self.streams.fetch_add(1, Relaxed) == 0;
        OpenStream { of: self, is_alone }
    }

    /// How it stands now.
    ///
    /// In HTTP/1, what comes after a request ended is the head of the next one. A head of which a part came together with
    /// the request before it is not seen. In HTTP/2 a peer has much to say without asking for anything; but a stream that
    /// is open when no request is being answered has an answer that its peer does not take.
    pub(super) fn found(&self) -> Found {
        let is_http2 = self.is_http2.load(Relaxed);
        let heard = self.heard.load(Relaxed) != self.heard_by_end.load(Relaxed);
        let is_half_done = if is_http2 { self.streams.load(Relaxed) > 0 } else { heard };
        Found {
            begun: self.begun.load(Relaxed),
            ended: self.ended.load(Relaxed),
            written: self.written.load(Relaxed),
            is_http2,
            is_half_done,
            is_blocked: self.is_blocked.load(Relaxed),
        }
    }

    fn hear(&self, bytes: &[u8]) {
        let heard = self.heard.load(Relaxed);
        if heard == 0 && bytes.starts_with(PREFACE) {
            self.is_http2.store(true, Relaxed);
        }
        // Only the connection itself reads and writes: nothing is lost between a load and a store.
        self.heard.store(heard + 1, Relaxed);
    }

    fn write<T>(&self, outcome: Poll<T>) -> Poll<T> {
        self.is_blocked.store(outcome.is_pending(), Relaxed);
        if outcome.is_ready() {
            self.written.store(self.written.load(Relaxed) + 1, Relaxed);
        }
        outcome
    }
}

/// A request that is being answered, ended when this is dropped.
pub(super) struct RequestUnderWay<'a>(&'a Activity);

impl Drop for RequestUnderWay<'_> {
    fn drop(&mut self) {
        self.0.heard_by_end.store(self.0.heard.load(Relaxed), Relaxed);
        self.0.ended.fetch_add(1, Relaxed);
    }
}

/// A stream of HTTP/2, closed when this is dropped.
pub(super) struct OpenStream {
    of: Arc<Activity>,
    /// There was no other on its connection when it began.
    pub(super) is_alone: bool,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.of.streams.fetch_sub(1, Relaxed);
    }
}

/// A stream of bytes whose reads and writes are counted.
pub(super) struct Counted<S> {
    pub(super) stream: S,
    pub(super) activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
            self.activity.hear(bytes);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.write(outcome)
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
        self.activity.write(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
