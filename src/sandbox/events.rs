//! The calls that were kept, in order of arrival, and which of them repeat an earlier one.
//!
//! The calls of one request are kept together as the lines that `GET /events` shows, in one piece of memory, and are
//! forgotten together, the oldest request first. A repeated `messageId` is kept too, and counted; it is known by a 64-bit
//! hash (two different ids in two million share one with a chance of one in ten million).
//!
//! Not here: which calls deserve to be kept (`call.rs`), the other counters (`record.rs`).

use std::collections::hash_map::{Entry, HashMap};
use std::collections::vec_deque::VecDeque;
use std::hash::BuildHasher;

use bytes::Bytes;

use super::call::Call;

/// The ids seen are spread over this many maps, so that no single growth of one stops a request for tens of milliseconds.
const SHARDS: usize = 64;

/// `GET /events` copies about this much at a time while it holds the lock: some ten microseconds.
const PAGE_BYTES: usize = 64 << 10;

/// How much is kept before the oldest is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls.
    pub calls: usize,
    /// Bytes of their lines.
    pub bytes: usize,
}

impl Default for Limits {
    /// Twenty seconds of the fastest bench (100,000 calls/s), with room for calls of 500 bytes.
    fn default() -> Self {
        Self { calls: 2_000_000, bytes: 1 << 30 }
    }
}

/// The calls of one request made ready to be kept, outside the lock.
#[derive(Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    calls: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    start: usize,
    /// Hash of the `messageId`.
    id: Option<u64>,
}

impl Lines {
    /// Lines of those `calls` that Segment would not drop.
    pub fn of(calls: &[Call<'_>], hashes: &impl BuildHasher) -> Self {
        let kept = || calls.iter().filter(|call| call.dropped.is_none());
        let mut text = Vec::with_capacity(kept().map(|call| call.text.len() + 1).sum());
        let mut lines = Vec::with_capacity(calls.len());
        for call in kept() {
            lines.push(Line { start: text.len(), id: call.message_id.as_deref().map(|id| hashes.hash_one(id)) });
            // JSON has raw line breaks only between tokens, where a space means the same.
            text.extend(call.text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            text.push(b'\n');
        }
        Self { text, calls: lines }
    }

    /// How many calls these are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }
}

/// Calls whose `messageId` was seen before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    pub all: u64,
    /// Those of them whose bytes are not those of the first one.
    pub differing: u64,
}

/// All that is kept.
#[derive(Debug)]
pub struct Events {
    limits: Limits,
    requests: VecDeque<Kept>,
    /// The number of the oldest request kept; numbers are never used again.
    oldest: u64,
    calls: usize,
    bytes: usize,
    forgotten: u64,
    seen: Vec<HashMap<u64, Place>>,
}

#[derive(Debug)]
struct Kept {
    text: Vec<u8>,
    calls: usize,
    /// The ids that were first seen in this request: forgotten with it.
    first_seen: Vec<u64>,
}

/// Where the first call with an id is.
#[derive(Clone, Copy, Debug)]
struct Place {
    request: u64,
    start: usize,
}

impl Events {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            requests: VecDeque::new(),
            oldest: 0,
            calls: 0,
            bytes: 0,
            forgotten: 0,
            seen: vec![HashMap::new(); SHARDS],
        }
    }

    /// Forgets everything, as if it had never come. Returns what has to be freed, which is better done without a lock.
    pub fn clear(&mut self) -> Self {
        let mut fresh = Self::new(self.limits);
        fresh.oldest = self.end();
        std::mem::replace(self, fresh)
    }

    /// Calls kept now.
    pub fn kept(&self) -> usize {
        self.calls
    }

    /// Calls kept once and forgotten since.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Keeps the calls of one request.
    pub fn keep(&mut self, lines: Lines) -> Repeats {
        let mut repeats = Repeats::default();
        if lines.calls.is_empty() {
            return repeats;
        }
        let request = self.end();
        self.calls += lines.calls.len();
        self.bytes += lines.text.len();
        self.requests.push_back(Kept { text: lines.text, calls: lines.calls.len(), first_seen: Vec::new() });
        let mut first_seen = Vec::with_capacity(lines.calls.len());
        for line in lines.calls {
            let Some(id) = line.id else { continue };
            let place = Place { request, start: line.start };
            match self.seen.get_mut(shard(id)).map(|seen| seen.entry(id)) {
                Some(Entry::Occupied(first)) => {
                    let first = *first.get();
                    repeats.all += 1;
                    repeats.differing += u64::from(self.line(first) != self.line(place));
                }
                Some(Entry::Vacant(vacant)) => {
                    vacant.insert(place);
                    first_seen.push(id);
                }
                None => {}
            }
        }
        if let Some(kept) = self.requests.back_mut() {
            kept.first_seen = first_seen;
        }
        while self.calls > self.limits.calls || self.bytes > self.limits.bytes {
            self.forget_oldest();
        }
        repeats
    }

    /// The number after that of the newest request: where a reader who wants what is there now has to stop.
    pub fn end(&self) -> u64 {
        self.oldest + self.requests.len() as u64
    }

    /// About 64 KiB of lines from request number `from` on, before `end`, and the number to go on from. None at the end.
    pub fn page(&self, from: u64, end: u64) -> Option<(Bytes, u64)> {
        let mut next = from.max(self.oldest);
        let mut page = Vec::new();
        while next < end.min(self.end()) && page.len() < PAGE_BYTES {
            let Some(kept) = self.request(next) else { break };
            page.extend_from_slice(&kept.text);
            next += 1;
        }
        (!page.is_empty()).then(|| (Bytes::from(page), next))
    }

    fn request(&self, number: u64) -> Option<&Kept> {
        self.requests.get(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }

    fn line(&self, place: Place) -> Option<&[u8]> {
        self.request(place.request)?.text.get(place.start..)?.split(|byte| *byte == b'\n').next()
    }

    fn forget_oldest(&mut self) {
        let Some(kept) = self.requests.pop_front() else { return };
        self.oldest += 1;
        self.calls -= kept.calls;
        self.bytes -= kept.text.len();
        self.forgotten += kept.calls as u64;
        for id in kept.first_seen {
            if let Some(seen) = self.seen.get_mut(shard(id)) {
                seen.remove(&id);
            }
        }
    }
}

fn shard(id: u64) -> usize {
    (id % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::{Events, Limits, Lines, PAGE_BYTES, Repeats};
    use crate::sandbox::intake::{Endpoint, read};

    struct Fixture {
        events: Events,
        hashes: RandomState,
    }

    impl Fixture {
        fn new(calls: usize, bytes: usize) -> Self {
            Self { events: Events::new(Limits { calls, bytes }), hashes: RandomState::new() }
        }

        fn keep(&mut self, items: &[&str]) -> Repeats {
            let body = format!(r#"{{"batch":[{}]}}"#, items.join(","));
            let received = read(Endpoint::Batch, body.as_bytes()).unwrap();
            self.events.keep(Lines::of(&received.calls, &self.hashes))
        }

        fn shown(&self) -> String {
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
    fn calls_are_shown_in_order_each_on_one_line() {
        let mut fixture = Fixture::new(10, 1_000);
        fixture.keep(&["{\"type\":\r\n\"track\",\n\"userId\":\"x\\n\"}", B]);
        fixture.keep(&[r#"{"type":"track"}"#]);
        fixture.keep(&[A]);
        assert_eq!(fixture.shown(), format!("{{\"type\":  \"track\", \"userId\":\"x\\n\"}}\n{B}\n{A}\n"));
        assert_eq!(fixture.events.kept(), 3);
    }

    #[test]
    fn a_repeat_is_kept_and_counted_and_compared_with_the_first() {
        let mut fixture = Fixture::new(10, 1_000);
        assert_eq!(fixture.keep(&[A, B]), Repeats::default());
        assert_eq!(fixture.keep(&[B, A_DIFFERING]), Repeats { all: 2, differing: 1 });
        assert_eq!(fixture.keep(&[A]), Repeats { all: 1, differing: 0 });
        assert_eq!(fixture.events.kept(), 5);
    }

    #[test]
    fn a_repeat_inside_one_request_counts_too() {
        let mut fixture = Fixture::new(10, 1_000);
        assert_eq!(fixture.keep(&[A, A_DIFFERING]), Repeats { all: 1, differing: 1 });
    }

    #[test]
    fn the_oldest_request_is_forgotten_first_with_its_ids() {
        let mut by_calls = Fixture::new(2, 1_000);
        by_calls.keep(&[A]);
        by_calls.keep(&[B]);
        by_calls.keep(&[B]);
        assert_eq!(by_calls.shown(), format!("{B}\n{B}\n"));
        assert_eq!((by_calls.events.kept(), by_calls.events.forgotten()), (2, 1));
        assert_eq!(by_calls.keep(&[A]), Repeats::default());

        let mut by_bytes = Fixture::new(10, 2 * (A.len() + 1));
        by_bytes.keep(&[A, B]);
        by_bytes.keep(&[A]);
        assert_eq!(by_bytes.shown(), format!("{A}\n"));
    }

    #[test]
    fn clearing_forgets_ids_and_ends_the_page_of_a_slow_reader() {
        let mut fixture = Fixture::new(10, 1_000);
        fixture.keep(&[A]);
        let end = fixture.events.end();
        drop(fixture.events.clear());
        assert_eq!(fixture.keep(&[A]), Repeats::default());
        assert_eq!(fixture.events.page(0, end), None);
        assert_eq!(fixture.shown(), format!("{A}\n"));
    }

    #[test]
    fn pages_together_are_the_whole() {
        let mut fixture = Fixture::new(100_000, 100_000_000);
        for _ in 0..2 * PAGE_BYTES / A.len() {
            fixture.keep(&[A]);
        }
        let (first, _) = fixture.events.page(0, fixture.events.end()).unwrap();
        assert!(first.len() < PAGE_BYTES + A.len() + 1);
        assert_eq!(fixture.shown().lines().count(), fixture.events.kept());
    }
}
