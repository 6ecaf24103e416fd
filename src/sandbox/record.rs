//! What the sandbox remembers: counters, the last requests, the kept events. Bounded in every part.
//!
//! Every request counts once in `requests` when it arrives and once in accepted, refused or faulted when its fate is
//! decided. (In between it is being read or delayed; a peer that leaves then is in neither.)

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::call::Call;
use super::dropped::Dropped;
use super::events::{Events, Limits, Lines};
use super::requests::{Requests, Seen};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Answered as Segment answers what it accepts.
    Accepted,
    /// Refused for what is in it, or for a poisoned user.
    Refused,
    /// Got the fault that was set, whatever is in it.
    Faulted,
}

/// The counters of `GET /stats`, since the start or the last `POST /reset`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    /// All POSTs to `/v1/*`.
    requests: u64,
    accepted_requests: u64,
    refused_requests: u64,
    faulted_requests: u64,
    /// Calls that went to `/events`, repeats among them.
    accepted_calls: u64,
    /// Calls that Segment would drop after its 200, by reason; reasons that never came up are left out.
    dropped: BTreeMap<Dropped, u64>,
    duplicates: u64,
    duplicates_that_differ: u64,
    largest_batch: LargestBatch,
}

/// The most that one well-formed request held, whatever became of it; the two need not be of the same request.
#[derive(Debug, Default, Serialize)]
struct LargestBatch {
    calls: usize,
    /// Of the uncompressed body.
    bytes: usize,
}

/// All that is remembered.
#[derive(Debug)]
pub struct Record {
    stats: Stats,
    events: Events,
    requests: Requests,
}

impl Record {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { stats: Stats::default(), events: Events::new(limits), requests: Requests::default() }
    }

    /// Forgets everything. Returns what has to be freed, which is better done without a lock.
    pub fn clear(&mut self) -> impl Sized + use<> {
        self.stats = Stats::default();
        (self.events.clear(), std::mem::take(&mut self.requests))
    }

    /// A POST to `/v1/*` has begun.
    pub fn arrived(&mut self) {
        self.stats.requests += 1;
    }

    /// Notes a request whose fate is decided. `line` is [`Seen::line`] of it; `calls` are its calls with their lines if
    /// they are to be kept.
    pub fn decided(&mut self, seen: &Seen<'_>, line: Bytes, fate: Fate, kept: Option<(&[Call<'_>], Lines)>) {
        match fate {
            Fate::Accepted => self.stats.accepted_requests += 1,
            Fate::Refused => self.stats.refused_requests += 1,
            Fate::Faulted => self.stats.faulted_requests += 1,
        }
        if let Some(received) = seen.received {
            let largest = &mut self.stats.largest_batch;
            largest.calls = largest.calls.max(received.calls.len());
            largest.bytes = largest.bytes.max(seen.bytes);
        }
        if let Some((calls, lines)) = kept {
            for reason in calls.iter().filter_map(|call| call.dropped) {
                *self.stats.dropped.entry(reason).or_default() += 1;
            }
            self.stats.accepted_calls += lines.len() as u64;
            let repeats = self.events.keep(lines);
            self.stats.duplicates += repeats.all;
            self.stats.duplicates_that_differ += repeats.differing;
        }
        self.requests.push(line);
    }

    /// The kept events.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The lines of the last requests, oldest first.
    pub fn requests(&self) -> Vec<Bytes> {
        self.requests.lines()
    }

    /// What `GET /stats` answers.
    pub fn stats(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Shown<'a> {
            #[serde(flatten)]
            stats: &'a Stats,
            events_kept: usize,
            events_forgotten: u64,
        }
        let (events_kept, events_forgotten) = (self.events.kept(), self.events.forgotten());
        serde_json::to_vec(&Shown { stats: &self.stats, events_kept, events_forgotten })
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use axum::http::HeaderMap;
    use serde_json::{Value, json};

    use super::{Fate, Record};
    use crate::sandbox::events::{Limits, Lines};
    use crate::sandbox::intake::{Endpoint, read};
    use crate::sandbox::requests::Seen;

    fn decide(record: &mut Record, body: &str, fate: Fate) {
        let received = read(Endpoint::Batch, body.as_bytes()).ok();
        let headers = HeaderMap::new();
        let status = (fate != Fate::Faulted).then_some(200);
        let seen =
            Seen { path: "/v1/batch", headers: &headers, status, bytes: body.len(), received: received.as_ref() };
        let kept = received
            .as_ref()
            .filter(|_| fate == Fate::Accepted)
            .map(|received| (&received.calls[..], Lines::of(&received.calls, &RandomState::new())));
        record.arrived();
        record.decided(&seen, seen.line(), fate, kept);
    }

    fn stats(record: &Record) -> Value {
        serde_json::from_slice(&record.stats().unwrap()).unwrap()
    }

    #[test]
    fn every_request_counts_once_by_its_fate() {
        let mut record = Record::new(Limits::default());
        let body = r#"{"batch":[{"type":"track","userId":"u"},{"type":"track"},{"type":"track","userId":"0"}]}"#;
        decide(&mut record, body, Fate::Accepted);
        decide(&mut record, body, Fate::Faulted);
        decide(&mut record, "garbage that is longer than any batch".repeat(10).as_str(), Fate::Refused);
        let expected = json!({
            "requests": 3, "acceptedRequests": 1, "refusedRequests": 1, "faultedRequests": 1, "acceptedCalls": 1,
            "dropped": {"noId": 1, "idPlaceholder": 1}, "duplicates": 0, "duplicatesThatDiffer": 0,
            "largestBatch": {"calls": 3, "bytes": body.len()}, "eventsKept": 1, "eventsForgotten": 0,
        });
        assert_eq!(stats(&record), expected);
        drop(record.clear());
        assert_eq!(stats(&record), stats(&Record::new(Limits::default())));
        assert!(record.requests().is_empty());
    }
}
