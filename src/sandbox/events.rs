//! The accepted calls in order of arrival, and how many of them repeat a `messageId`.
//!
//! The calls of one request are the lines of `GET /events` in one allocation. They are removed together, the oldest request
//! first. A call with a repeated `messageId` is kept too, and counted. Ids are compared by a 64-bit hash: among two million
//! ids the chance that two share a hash is one in ten million.
//!
//! `call.rs` decides which calls are kept; `history.rs` has the other counters.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::vec_deque::VecDeque;
use std::hash::BuildHasher;

use bytes::Bytes;

use super::call::ReceivedCall;

/// Maps that the ids are spread over, so that the growth of one map does not delay a request by tens of milliseconds.
const SHARDS: usize = 64;

/// About what `GET /events` copies while it holds the lock once: some ten microseconds.
const PAGE_BYTES: usize = 64 << 10;

/// How much is kept before the oldest request is removed.
#[derive(Clone, Copy, Debug)]
struct EventLimits {
    calls: usize,
    /// Bytes of their lines.
    bytes: usize,
}

/// Twenty seconds of the fastest bench (100,000 calls/s), with calls of 500 bytes.
const LIMITS: EventLimits = EventLimits { calls: 2_000_000, bytes: 1 << 30 };

/// The calls of one request as lines, made outside the lock.
#[derive(Debug, Default)]
pub(super) struct EventLines {
    text: Vec<u8>,
    calls: Vec<EventLine>,
}

#[derive(Clone, Copy, Debug)]
struct EventLine {
    start: usize,
    /// Hash of the `messageId`.
    id: Option<u64>,
}

impl EventLines {
    /// The lines of those `calls` that Segment would not drop.
    pub(super) fn from_calls(calls: &[ReceivedCall<'_>], hasher: &impl BuildHasher) -> Self {
        let kept = || calls.iter().filter(|call| call.dropped.is_none());
        let mut text = Vec::with_capacity(kept().map(|call| call.text.len() + 1).sum());
        let mut lines = Vec::with_capacity(calls.len());
        for call in kept() {
            lines.push(EventLine { start: text.len(), id: call.message_id.as_deref().map(|id| hasher.hash_one(id)) });
            // Raw line breaks in JSON stand only between tokens, where a space means the same.
            text.extend(call.text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            text.push(b'\n');
        }
        Self { text, calls: lines }
    }

    /// Number of calls.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    fn line(&self, start: usize) -> Option<&[u8]> {
        self.text.get(start..)?.split(|byte| *byte == b'\n').next()
    }
}

/// Numbers of calls whose `messageId` was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeats {
    pub(super) all: u64,
    /// Those of them whose text differs from the first call with the id.
    pub(super) differing: u64,
}

/// The kept calls.
#[derive(Debug)]
pub(super) struct EventLog {
    limits: EventLimits,
    requests: VecDeque<EventLines>,
    /// Number of the oldest request kept. Numbers are not reused.
    oldest: u64,
    /// Calls kept now.
    pub(super) kept: usize,
    bytes: usize,
    /// Calls that were kept and then removed because of a limit.
    pub(super) forgotten: u64,
    first_positions: [HashMap<u64, Position>; SHARDS],
}

/// Position of the first call with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    request: u64,
    start: usize,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl EventLog {
    fn new(limits: EventLimits) -> Self {
        let first_positions = std::array::from_fn(|_| HashMap::new());
        Self { limits, requests: VecDeque::new(), oldest: 0, kept: 0, bytes: 0, forgotten: 0, first_positions }
    }

    /// Removes everything and returns it, so that the caller can free it without holding the lock.
    pub(super) fn clear(&mut self) -> Self {
        let mut fresh = Self::new(self.limits);
        fresh.oldest = self.end();
        std::mem::replace(self, fresh)
    }

    /// Keeps the calls of one request.
    pub(super) fn keep(&mut self, lines: EventLines) -> Repeats {
        let mut repeats = Repeats::default();
        if lines.calls.is_empty() {
            return repeats;
        }
        let request = self.end();
        for &EventLine { start, id } in &lines.calls {
            let Some(id) = id else { continue };
            let position = Position { request, start };
            let first = *self.first_positions[shard(id)].entry(id).or_insert(position);
            if first != position {
                repeats.all += 1;
                let earlier = self.request(first.request).unwrap_or(&lines);
                repeats.differing += u64::from(earlier.line(first.start) != lines.line(start));
            }
        }
        self.kept += lines.len();
        self.bytes += lines.text.len();
        self.requests.push_back(lines);
        while self.kept > self.limits.calls || self.bytes > self.limits.bytes {
            self.remove_oldest();
        }
        repeats
    }

    /// The number that the next request will get. A reader of the present calls stops there.
    pub(super) fn end(&self) -> u64 {
        self.oldest + self.requests.len() as u64
    }

    /// About 64 KiB of lines from request `from` on, before `end`, and the number of the next request. `None` at the end.
    pub(super) fn page(&self, from: u64, end: u64) -> Option<(Bytes, u64)> {
        let mut next = from.max(self.oldest);
        let mut page = Vec::new();
        while next < end.min(self.end()) && page.len() < PAGE_BYTES {
            let Some(kept) = self.request(next) else { break };
            page.extend_from_slice(&kept.text);
            next += 1;
        }
        (!page.is_empty()).then(|| (Bytes::from(page), next))
    }

    fn request(&self, number: u64) -> Option<&EventLines> {
        self.requests.get(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }

    fn remove_oldest(&mut self) {
        let Some(removed) = self.requests.pop_front() else { return };
        for id in removed.calls.iter().filter_map(|line| line.id) {
            // The ids that came first in this request are removed with it.
            if let Entry::Occupied(first) = self.first_positions[shard(id)].entry(id)
                && first.get().request == self.oldest
            {
                first.remove();
            }
        }
        self.oldest += 1;
        self.kept -= removed.len();
        self.bytes -= removed.text.len();
        self.forgotten += removed.len() as u64;
    }
}

fn shard(id: u64) -> usize {
    (id % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::{EventLimits, EventLines, EventLog, PAGE_BYTES, Repeats};
    use crate::sandbox::parse::parse_batch;

    struct Fixture {
        events: EventLog,
        hasher: RandomState,
    }

    impl Fixture {
        fn new(calls: usize, bytes: usize) -> Self {
            Self { events: EventLog::new(EventLimits { calls, bytes }), hasher: RandomState::new() }
        }

        fn keep(&mut self, items: &[&str]) -> Repeats {
            let body = format!(r#"{{"batch":[{}]}}"#, items.join(","));
            let parsed = parse_batch(body.as_bytes()).unwrap();
            self.events.keep(EventLines::from_calls(&parsed.calls, &self.hasher))
        }

        fn listing(&self) -> String {
            let (mut text, mut from) = (Vec::new(), 0);
            while let Some((page, next)) = self.events.page(from, self.events.end()) {
                text.extend_from_slice(&page);
                from = next;
            }
            String::from_utf8(text).unwrap()
        }
    }

    const A: &str = r#"{"type":"track","userId":"a","messageId":"1"}"#;
    const A_DIFFERING: &str = r#"{"type":"track","userId":"A","messageId":"1"}"#;
    const B: &str = r#"{"type":"track","userId":"b","messageId":"2"}"#;

    #[test]
    fn calls_are_listed_in_order_one_a_line() {
        let mut fixture = Fixture::new(10, 1_000);
        fixture.keep(&["{\"type\":\r\n\"track\",\n\"userId\":\"x\\n\"}", B]);
        fixture.keep(&[r#"{"type":"track"}"#]);
        fixture.keep(&[A]);
        assert_eq!(fixture.listing(), format!("{{\"type\":  \"track\", \"userId\":\"x\\n\"}}\n{B}\n{A}\n"));
        assert_eq!(fixture.events.kept, 3);
    }

    #[test]
    fn a_repeated_id_is_kept_counted_and_compared_with_the_first() {
        let mut fixture = Fixture::new(10, 1_000);
        assert_eq!(fixture.keep(&[A, B]), Repeats::default());
        assert_eq!(fixture.keep(&[B, A_DIFFERING]), Repeats { all: 2, differing: 1 });
        assert_eq!(fixture.keep(&[A]), Repeats { all: 1, differing: 0 });
        assert_eq!(fixture.events.kept, 5);
    }

    #[test]
    fn a_repeated_id_within_one_request_is_counted() {
        let mut fixture = Fixture::new(10, 1_000);
        assert_eq!(fixture.keep(&[A, A_DIFFERING]), Repeats { all: 1, differing: 1 });
    }

    #[test]
    fn the_oldest_request_is_removed_first_with_its_ids() {
        let mut by_calls = Fixture::new(2, 1_000);
        by_calls.keep(&[A]);
        by_calls.keep(&[B]);
        by_calls.keep(&[B]);
        assert_eq!(by_calls.listing(), format!("{B}\n{B}\n"));
        assert_eq!((by_calls.events.kept, by_calls.events.forgotten), (2, 1));
        assert_eq!(by_calls.keep(&[A]), Repeats::default());

        let mut by_bytes = Fixture::new(10, 2 * (A.len() + 1));
        by_bytes.keep(&[A, B]);
        by_bytes.keep(&[A]);
        assert_eq!(by_bytes.listing(), format!("{A}\n"));
    }

    #[test]
    fn clear_removes_the_ids_and_ends_the_listing_of_a_slow_reader() {
        let mut fixture = Fixture::new(10, 1_000);
        fixture.keep(&[A]);
        let end = fixture.events.end();
        drop(fixture.events.clear());
        assert_eq!(fixture.keep(&[A]), Repeats::default());
        assert_eq!(fixture.events.page(0, end), None);
        assert_eq!(fixture.listing(), format!("{A}\n"));
    }

    #[test]
    fn all_pages_together_are_the_whole_log() {
        let mut fixture = Fixture::new(100_000, 100_000_000);
        for _ in 0..2 * PAGE_BYTES / A.len() {
            fixture.keep(&[A]);
        }
        let (first, _) = fixture.events.page(0, fixture.events.end()).unwrap();
        assert!(first.len() < PAGE_BYTES + A.len() + 1);
        assert_eq!(fixture.listing().lines().count(), fixture.events.kept);
    }
}
