//! The history of requests: counters, the last requests, the kept events. Each part is bounded.
//!
//! A request is counted in `requests` when it arrives, and in accepted, refused or faulted when it is decided. A peer that
//! leaves between the two, while the body is read or delayed, is counted in `requests` alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::call::DropReason;
use super::events::{EventLines, EventLog};
use super::parse::ParsedBody;
use super::request_log::RequestLog;

/// The outcome of a request, as `GET /stats` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered as Segment answers what it accepts.
    Accepted,
    /// Refused for its content, or for a poisoned user.
    Refused,
    /// Answered by a fault, whatever its content.
    Faulted,
}

/// The counters of `GET /stats`, since the start or the last `POST /reset`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    /// All POSTs to `/v1/*`.
    requests: u64,
    accepted_requests: u64,
    refused_requests: u64,
    faulted_requests: u64,
    /// Calls that were added to `/events`, including repeats.
    accepted_calls: u64,
    /// Calls that Segment would drop after its 200, by reason. A reason without calls is left out.
    dropped: BTreeMap<DropReason, u64>,
    duplicates: u64,
    duplicates_that_differ: u64,
    largest_batch: LargestBatch,
    events_kept: usize,
    events_forgotten: u64,
}

/// The maxima over all well-formed requests, whatever their outcome. The two may be of different requests.
#[derive(Clone, Debug, Default, Serialize)]
struct LargestBatch {
    calls: usize,
    /// Size of the uncompressed body.
    bytes: usize,
}

/// Everything that the sandbox keeps.
#[derive(Debug, Default)]
pub(super) struct History {
    stats: Stats,
    pub(super) events: EventLog,
    pub(super) requests: RequestLog,
}

impl History {
    /// Removes everything and returns it, so that the caller can free it without holding the lock.
    pub(super) fn clear(&mut self) -> impl Sized + use<> {
        self.stats = Stats::default();
        (self.events.clear(), std::mem::take(&mut self.requests))
    }

    /// Counts a POST to `/v1/*` that has begun.
    pub(super) fn count_arrival(&mut self) {
        self.stats.requests += 1;
    }

    /// Adds a request with its outcome. `line` is for `GET /requests`; `parsed` is the body if it was well-formed; `kept` has
    /// the lines of its calls if they are to be kept.
    pub(super) fn add(
        &mut self,
        outcome: Outcome,
        line: Bytes,
        parsed: Option<&ParsedBody<'_>>,
        kept: Option<EventLines>,
    ) {
        match outcome {
            Outcome::Accepted => self.stats.accepted_requests += 1,
            Outcome::Refused => self.stats.refused_requests += 1,
            Outcome::Faulted => self.stats.faulted_requests += 1,
        }
        if let Some(parsed) = parsed {
            let largest = &mut self.stats.largest_batch;
            largest.calls = largest.calls.max(parsed.calls.len());
            largest.bytes = largest.bytes.max(parsed.bytes);
        }
        if let Some(lines) = kept {
            let calls = parsed.iter().flat_map(|parsed| &parsed.calls);
            for reason in calls.filter_map(|call| call.dropped) {
                *self.stats.dropped.entry(reason).or_default() += 1;
            }
            self.stats.accepted_calls += lines.len() as u64;
            let repeats = self.events.keep(lines);
            self.stats.duplicates += repeats.all;
            self.stats.duplicates_that_differ += repeats.differing;
        }
        self.requests.push(line);
    }

    /// What `GET /stats` answers.
    pub(super) fn stats(&self) -> impl Serialize + use<> {
        Stats { events_kept: self.events.kept, events_forgotten: self.events.forgotten, ..self.stats.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::{History, Outcome};
    use crate::sandbox::events::EventLines;
    use crate::sandbox::parse::parse_batch;

    fn add(history: &mut History, body: &str, outcome: Outcome) {
        let parsed = parse_batch(body.as_bytes()).ok();
        let parsed = parsed.as_ref();
        let kept = parsed
            .filter(|_| outcome == Outcome::Accepted)
            .map(|parsed| EventLines::from_calls(&parsed.calls, &RandomState::new()));
        history.count_arrival();
        history.add(outcome, Bytes::from_static(b"{}\n"), parsed, kept);
    }

    fn stats(history: &History) -> Value {
        serde_json::to_value(history.stats()).unwrap()
    }

    #[test]
    fn every_request_is_counted_once_by_its_outcome() {
        let mut history = History::default();
        let body = r#"{"batch":[{"type":"track","userId":"u"},{"type":"track"},{"type":"track","userId":"0"}]}"#;
        add(&mut history, body, Outcome::Accepted);
        add(&mut history, body, Outcome::Faulted);
        add(&mut history, "garbage that is longer than any batch".repeat(10).as_str(), Outcome::Refused);
        let expected = json!({
            "requests": 3, "acceptedRequests": 1, "refusedRequests": 1, "faultedRequests": 1, "acceptedCalls": 1,
            "dropped": {"noId": 1, "idPlaceholder": 1}, "duplicates": 0, "duplicatesThatDiffer": 0,
            "largestBatch": {"calls": 3, "bytes": body.len()}, "eventsKept": 1, "eventsForgotten": 0,
        });
        assert_eq!(stats(&history), expected);
        drop(history.clear());
        assert_eq!(stats(&history), stats(&History::default()));
        assert!(history.requests.lines().is_empty());
    }
}
