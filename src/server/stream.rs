//! The byte stream of a connection: its reads and writes are counted, a reset of it ends a request that is being answered,
//! and it is closed so that its peer can read everything.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::activity::ActivityCounts;
use super::head_bounds::Frames;

/// How long a closed connection is still read: a round trip on any line.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// The same while places are short, of which the connection still has one: a round trip on most lines.
pub(super) const SHORT_LINGER: Duration = Duration::from_millis(100);

/// How many pieces are still read from a closed connection, so that nobody keeps the thread busy: 1 MiB.
const MAX_LINGER_READS: usize = 1024;
const LINGER_PIECE: usize = 1024;

/// What a connection can be served on.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Resolves when the peer has reset the connection, or the system has given it up. A peer that only ends its own
    /// direction may still wait for an answer (RFC 9112, section 9.6).
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<io::Error>;
}

impl Transport for TcpStream {
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // The next request and the end of the peer's direction make the socket readable too.
        match self.poll_read_ready(cx).map(|_readable| self.take_error()) {
            Poll::Ready(Ok(Some(error)) | Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(None)) | Poll::Pending => Poll::Pending,
        }
    }
}

/// A byte stream whose reads and writes are counted. When it is dropped, it goes back to whoever holds the other end of
/// `owner`.
pub(super) struct CountedStream<T> {
    /// Present until it is dropped.
    stream: Option<T>,
    owner: Option<oneshot::Sender<T>>,
    activity: Arc<ActivityCounts>,
    frames: Frames,
    open_blocks: Arc<Semaphore>,
    /// The permit for the block of headers that lacks further frames.
    open_block: Option<OwnedSemaphorePermit>,
}

impl<T: Transport> CountedStream<T> {
    pub(super) fn new(
        stream: T,
        owner: oneshot::Sender<T>,
        activity: Arc<ActivityCounts>,
        open_blocks: Arc<Semaphore>,
    ) -> Self {
        Self {
            stream: Some(stream),
            owner: Some(owner),
            activity,
            frames: Frames::new(),
            open_blocks,
            open_block: None,
        }
    }

    /// Polls the stream. It is never absent while it can be polled.
    fn poll<O>(&mut self, poll: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<O>>) -> Poll<io::Result<O>> {
        let absent = || Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        self.stream.as_mut().map_or_else(absent, |stream| poll(Pin::new(stream)))
    }

    /// Counts what was read.
    ///
    /// # Errors
    /// If too many blocks of headers, on all connections, lack further frames. The connection then ends.
    fn count_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.activity.count_read(bytes);
        let is_block_open = self.activity.may_be_http2() && self.frames.follow(bytes);
        if is_block_open != self.open_block.is_some() {
            self.activity.set_block_open(is_block_open);
            self.open_block = if is_block_open {
                let permit = self.open_blocks.clone().try_acquire_owned();
                Some(permit.map_err(|_| io::ErrorKind::ConnectionAborted)?)
            } else {
                None
            };
        }
        Ok(())
    }
}

impl<T> Drop for CountedStream<T> {
    fn drop(&mut self) {
        if let (Some(stream), Some(owner)) = (self.stream.take(), self.owner.take()) {
            // Without an owner the stream is dropped, which closes it.
            let _ = owner.send(stream);
        }
    }
}

impl<T: Transport> AsyncRead for CountedStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.poll(|stream| stream.poll_read(cx, buf));
        match buf.filled().get(before..) {
            Some(bytes @ [_, ..]) => Poll::Ready(self.count_read(bytes)),
            _ => read,
        }
    }
}

impl<T: Transport> AsyncWrite for CountedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.poll(|stream| stream.poll_write(cx, buf));
        self.activity.count_write(outcome)
    }

    /// hyper does not read while a request is answered, because its peer may have ended its direction. It flushes whenever it
    /// is polled, so this is where a reset is noticed.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_answering = self.activity.is_answering_http1();
        self.poll(|stream| match is_answering.then(|| stream.poll_reset(cx)) {
            Some(Poll::Ready(error)) => Poll::Ready(Err(error)),
            _ => stream.poll_flush(cx),
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.poll(|stream| stream.poll_write_vectored(cx, bufs));
        self.activity.count_write(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

/// Closes a connection as RFC 9112, section 9.6, recommends: the own direction ends, and what the peer has on its way is read
/// and discarded. Otherwise the system would answer it with a reset, which destroys answers that the peer has not read yet.
pub(super) async fn close<T: Transport>(mut stream: T, linger: Duration) {
    let mut discarded = [0; LINGER_PIECE];
    let read_on = async {
        stream.shutdown().await?;
        for _ in 0..MAX_LINGER_READS {
            if stream.read(&mut discarded).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // A peer that is gone is closed as well.
    let _ = timeout(linger, read_on).await;
}
