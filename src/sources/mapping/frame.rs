//! What the relay and a worker send each other over the worker's standard input and output.
//!
//! A frame is the length of its content (4 bytes, little-endian), its kind (1 byte) and its content. The relay sends one request
//! at a time, and the worker answers each with one frame.

use bytes::Bytes;

use super::Event;
use crate::customer::MAX_CUSTOMERS;

/// Bytes of length and kind.
pub(super) const HEAD: usize = 5;

/// The largest request: an event has a body of at most 1 MiB and 16 KiB of headers. A filter is smaller.
pub(super) const MAX_REQUEST: usize = 2 * 1024 * 1024;

/// The largest answer: the customers of one event may be as large as those of one request.
pub(super) const MAX_ANSWER: usize = 1024 * 1024;

/// The most customers of one event: as many as one request may have.
pub(super) const MAX_OUTPUTS: usize = MAX_CUSTOMERS;

/// Of a request: compile the filter that follows the number of its slot.
pub(super) const COMPILE: u8 = b'c';
/// Of a request: run the filter of a slot on an event.
pub(super) const RUN: u8 = b'r';
/// Of an answer: the limits are in force, or the filter is compiled.
pub(super) const DONE: u8 = b'd';
/// Of an answer: the problems of a filter, one a line.
pub(super) const PROBLEMS: u8 = b'p';
/// Of an answer: JSON texts, each after its length.
pub(super) const OUTPUTS: u8 = b'o';
/// Of an answer: the filter failed, in its own words.
pub(super) const FAILED: u8 = b'f';
/// Of an answer: there are more outputs than [`MAX_OUTPUTS`].
pub(super) const TOO_MANY: u8 = b'm';

/// Length, kind, and the beginning of a content of which `rest` more bytes follow.
fn head(kind: u8, content: &[u8], rest: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + content.len());
    put_length(&mut head, content.len() + rest);
    head.push(kind);
    head.extend_from_slice(content);
    head
}

/// A length as it stands in frames. Nothing near 4 GiB is ever put into one.
fn put_length(to: &mut Vec<u8>, length: usize) {
    to.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(to: &mut Vec<u8>, text: &[u8]) {
    put_length(to, text.len());
    to.extend_from_slice(text);
}

/// A request to compile `filter` into `slot`.
pub(super) fn compile(slot: u8, filter: &str) -> Vec<u8> {
    let mut frame = head(COMPILE, &[slot], filter.len());
    frame.extend_from_slice(filter.as_bytes());
    frame
}

/// A request to run the filter of `slot`, without the event's body, which follows.
pub(super) fn run(slot: u8, event: &Event) -> Vec<u8> {
    let mut content = vec![slot];
    content.extend_from_slice(&event.received_at.to_le_bytes());
    put_length(&mut content, event.headers.len());
    for (name, value) in &event.headers {
        put(&mut content, name.as_bytes());
        put(&mut content, value);
    }
    head(RUN, &content, event.body.len())
}

/// A frame with this content.
pub(super) fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    head(kind, content, 0)
}

/// What a worker fills with outputs: a frame of the kind [`OUTPUTS`] whose length is not known yet.
pub(super) struct OutputFrame(Vec<u8>);

impl OutputFrame {
    /// A frame without outputs, in `buffer`.
    pub(super) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&[0, 0, 0, 0, OUTPUTS]);
        Self(buffer)
    }

    /// Adds an output, which `write` writes. `false`: it failed, or there is no room for what it writes.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> bool {
        let start = self.0.len();
        put_length(&mut self.0, 0);
        let is_written = write(&mut Bounded(&mut self.0)).is_ok();
        self.set_length(start, self.0.len() - start - 4);
        is_written
    }

    fn set_length(&mut self, at: usize, length: usize) {
        if let (Some(place), Ok(length)) = (self.0.get_mut(at..at + 4), u32::try_from(length)) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// The whole frame.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.set_length(0, self.0.len() - HEAD);
        self.0
    }
}

/// A writer that stops at [`MAX_ANSWER`]: a value may be small in memory and have no end as text.
struct Bounded<'a>(&'a mut Vec<u8>);

impl std::io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > HEAD + MAX_ANSWER {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Kind and length of the content of a frame with this head, if it is not longer than `max`.
pub(super) fn read_head(head: [u8; HEAD], max: usize) -> Option<(u8, usize)> {
    let [a, b, c, d, kind] = head;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    (length <= max).then_some((kind, length))
}

/// Reads a content from its beginning.
pub(super) struct Content<'a>(pub(super) &'a [u8]);

impl<'a> Content<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    pub(super) fn integer(&mut self) -> Option<i64> {
        self.take(8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes)
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }
}

/// The outputs in the content of a frame of the kind [`OUTPUTS`]. They share its memory.
pub(super) fn outputs(content: &Bytes) -> Option<Vec<Bytes>> {
    let mut outputs = Vec::new();
    let mut rest = Content(content);
    while !rest.0.is_empty() {
        outputs.push(content.slice_ref(rest.text()?));
    }
    (outputs.len() <= MAX_OUTPUTS).then_some(outputs)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{COMPILE, Content, HEAD, MAX_ANSWER, OUTPUTS, OutputFrame, RUN, compile, outputs, read_head, run};
    use crate::sources::mapping::Event;

    fn split(frame: &[u8]) -> (u8, &[u8]) {
        let (head, content) = frame.split_first_chunk().unwrap();
        let (kind, length) = read_head(*head, MAX_ANSWER).unwrap();
        assert_eq!(length, content.len());
        (kind, content)
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        assert_eq!(split(&compile(7, ".a")), (COMPILE, &b"\x07.a"[..]));
        let headers = vec![("x-a".to_owned(), b"1".to_vec()), ("x-b".to_owned(), Vec::new())];
        let event = Event { headers, body: Bytes::from_static(b"{}"), received_at: -5 };
        let mut frame = run(3, &event);
        frame.extend_from_slice(&event.body);
        let (kind, content) = split(&frame);
        let mut content = Content(content);
        assert_eq!((kind, content.byte(), content.integer(), content.length()), (RUN, Some(3), Some(-5), Some(2)));
        let texts: Vec<_> = (0..4).map(|_| content.text().unwrap()).collect();
        assert_eq!(texts, [&b"x-a"[..], b"1", b"x-b", b""]);
        assert_eq!(content.0, b"{}");
        assert_eq!((content.byte(), content.byte(), content.byte()), (Some(b'{'), Some(b'}'), None));
    }

    #[test]
    fn outputs_are_read_as_they_were_written() {
        let mut frame = OutputFrame::new(b"what was there before".to_vec());
        for output in ["{}", "", "[1]"] {
            assert!(frame.add(|to| to.write_all(output.as_bytes())));
        }
        let frame = frame.finish();
        let (kind, content) = split(&frame);
        assert_eq!(kind, OUTPUTS);
        let content = Bytes::copy_from_slice(content);
        assert_eq!(outputs(&content), Some(["{}", "", "[1]"].map(Bytes::from).to_vec()));
        assert_eq!(outputs(&content.slice(..content.len() - 1)), None);
    }

    #[test]
    fn an_output_without_end_is_stopped() {
        let mut frame = OutputFrame::new(Vec::new());
        assert!(!frame.add(|to| loop {
            to.write_all(&[b'x'; 1000])?;
        }));
        assert!(frame.finish().len() <= HEAD + MAX_ANSWER);
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused() {
        assert_eq!(read_head([1, 1, 0, 0, b'o'], 256), None);
        assert_eq!(read_head([0, 1, 0, 0, b'o'], 256), Some((b'o', 256)));
    }
}
