//! How much memory the heads of HTTP/2 requests take, on one connection and on all of them.
//!
//! In HTTP/1 a connection has one head, in a buffer of bounded size. An HTTP/2 peer may have a hundred streams, each with a head,
//! and a byte of a compressed head becomes about a hundred bytes of memory. So further bounds hold:
//!
//! - A request with too many headers is refused, as in HTTP/1.
//! - The heads of all requests that are answered share a number of bytes. Small ones are free: streams are bounded in number.
//! - Blocks of headers that lack further frames are bounded in number. A head of less than 16 KiB is one frame.

use std::sync::Arc;

use hyper::Request;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::activity::PREFACE;

/// The most headers of a request, which is hyper's own default in HTTP/1.
pub(super) const MAX_HEADERS: usize = 100;

/// A head that takes no more is free: what browsers, SDKs and proxies send.
const FREE_HEAD: usize = 4 * 1024;

/// The bytes that the other heads on all connections of a listener take together: 512 of the largest.
const MAX_HEADS: usize = 16 * 1024 * 1024;

/// Blocks of headers, on all connections of a listener, that lack further frames. Each takes up to 100 KB.
const MAX_OPEN_BLOCKS: usize = 64;

/// What a header takes in memory beside its name and value, about.
const HEADER_OVERHEAD: usize = 100;

/// Kinds of frames and a flag (RFC 9113, section 6).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What the heads on all connections of a listener may take.
pub(super) struct HeadBounds {
    bytes: Semaphore,
    pub(super) open_blocks: Arc<Semaphore>,
}

/// The head is too large, by itself or beside all others.
pub(super) struct HeadTooLarge;

impl HeadBounds {
    pub(super) fn new() -> Self {
        Self { bytes: Semaphore::new(MAX_HEADS), open_blocks: Arc::new(Semaphore::new(MAX_OPEN_BLOCKS)) }
    }

    /// Takes room for the head of an HTTP/2 request, for as long as it is answered.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<Option<SemaphorePermit<'_>>, HeadTooLarge> {
        let headers = request.headers();
        if headers.len() > MAX_HEADERS {
            return Err(HeadTooLarge);
        }
        let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let size = |name: &str, value: &[u8]| name.len() + value.len() + HEADER_OVERHEAD;
        let size = path + headers.iter().map(|(name, value)| size(name.as_str(), value.as_bytes())).sum::<usize>();
        if size <= FREE_HEAD {
            return Ok(None);
        }
        let size = u32::try_from(size).map_err(|_| HeadTooLarge)?;
        self.bytes.try_acquire_many(size).map(Some).map_err(|_| HeadTooLarge)
    }
}

/// Follows the frames that an HTTP/2 peer sends, to know whether a block of headers lacks further ones.
pub(super) struct Frames {
    /// The head of the next frame, as far as it has come.
    head: [u8; 9],
    head_length: usize,
    /// Bytes of the present frame that have not come.
    rest: usize,
    is_block_open: bool,
    /// The present frame is the last one of the open block.
    is_last: bool,
}

impl Frames {
    /// Before the first byte of a connection. The preface comes before the first frame.
    pub(super) fn new() -> Self {
        Self { head: [0; 9], head_length: 0, rest: PREFACE.len(), is_block_open: false, is_last: false }
    }

    /// Follows the bytes that come next. Returns whether a block of headers lacks further frames now.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            while self.rest == 0
                && let Some((byte, further)) = bytes.split_first()
            {
                if self.is_last {
                    (self.is_block_open, self.is_last) = (false, false);
                }
                if let Some(place) = self.head.get_mut(self.head_length) {
                    *place = *byte;
                }
                self.head_length += 1;
                bytes = further;
                if self.head_length == self.head.len() {
                    self.begin_frame();
                }
            }
        }
        self.is_block_open && !(self.is_last && self.rest == 0)
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.head_length = 0;
        self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let is_last = flags & END_HEADERS != 0;
        match kind {
            HEADERS => self.is_block_open = !is_last,
            CONTINUATION => self.is_last = self.is_block_open && is_last,
            // Another kind within a block breaks the protocol, which ends the connection.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, HeadBounds, PREFACE};
    use hyper::Request;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![1; usize::from(length)]].concat()
    }

    #[test]
    fn a_block_is_open_until_the_last_byte_of_the_frame_that_ends_it_however_the_bytes_are_cut() {
        let settings = frame(4, 0, 0);
        let begin = [&PREFACE[..], &settings, &frame(1, 4, 5), &frame(0, 1, 200), &frame(1, 1, 3)].concat();
        let middle = [frame(9, 0, 0), frame(9, 0, 7)].concat();
        let end = frame(9, 4, 6);
        for cut in 1..40 {
            let mut frames = Frames::new();
            let mut follow = |bytes: &[u8]| bytes.chunks(cut).fold(false, |_, piece| frames.follow(piece));
            assert!(follow(&begin), "{cut}");
            assert!(follow(&middle), "{cut}");
            assert!(follow(&end[..end.len() - 1]), "{cut}");
            assert!(!follow(&end[end.len() - 1..]), "{cut}");
            assert!(!follow(&[frame(1, 4, 5), frame(0, 0, 9)].concat()), "{cut}");
            assert!(follow(&frame(1, 0, 0)), "{cut}");
            assert!(!follow(&frame(9, 4, 0)), "{cut}");
            assert!(!follow(&frame(4, 1, 0)), "{cut}");
        }
    }

    fn request(count: usize, length: usize) -> Request<()> {
        let request =
            (0..count).fold(Request::builder(), |request, n| request.header(format!("x-{n}"), "x".repeat(length)));
        request.body(()).unwrap()
    }

    #[test]
    fn a_request_may_have_100_headers() {
        let bounds = HeadBounds::new();
        assert!(bounds.admit(&request(100, 1)).is_ok());
        assert!(bounds.admit(&request(101, 1)).is_err());
        let repeated = (0..101).fold(Request::builder(), |request, _| request.header("x", "y"));
        assert!(bounds.admit(&repeated.body(()).unwrap()).is_err());
    }

    #[test]
    fn large_heads_share_16_mib_and_small_ones_are_free() {
        let bounds = HeadBounds::new();
        let large = request(10, 2_000);
        let mut held: Vec<_> = std::iter::from_fn(|| bounds.admit(&large).ok()).collect();
        assert_eq!(held.len(), 16 * 1024 * 1024 / (10 * (3 + 2_000 + 100)));
        assert!(bounds.admit(&request(10, 200)).is_ok());
        held.pop();
        assert!(bounds.admit(&large).is_ok());
    }
}
