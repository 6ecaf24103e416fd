//! The calls of one request to Segment, within its limits. Pure.
//!
//! A [`Batch`] cannot exceed Segment's limits, and keeps the order of its calls.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::completion::Completion;
use crate::segment::{Call, rfc3339_milliseconds, write_json_string};
use crate::telemetry::DeliverySpan;

/// Segment's limit for one request, in calls. Segment answers 200 to a larger request, and silently drops calls.
pub(super) const MAX_CALLS: usize = 2_500;

/// Largest request, in bytes of uncompressed JSON. Segment's limit is 500 KB; its own SDKs stop at 475 to 480.
pub(super) const MAX_BATCH_BYTES: usize = 480_000;

/// Room for the parts of a request that are not calls: the keys, `sentAt`, and the write key (at most 256 bytes in the
/// settings).
const ENVELOPE_BYTES: usize = 1_024;

/// A call in memory that is not settled, and the channel to its caller.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) call: Call,
    pub(super) completion: Completion,
    /// Number of requests that held it.
    pub(super) attempts: u32,
    /// Number of retries since it was first sent, or since its batch was split: the header `x-retry-count`.
    pub(super) retries: u32,
    /// A request that held it failed.
    pub(super) has_failed: bool,
    /// A request that held nothing else failed: the call is a suspect.
    pub(super) has_failed_alone: bool,
    /// It was parked: it comes back after one attempt.
    pub(super) is_parked: bool,
    /// From here to the outcome.
    pub(super) span: DeliverySpan,
}

impl PendingCall {
    /// A call that was never sent.
    pub(super) fn new(call: Call, completion: Completion) -> Self {
        let span = DeliverySpan::start(call.trace());
        Self {
            call,
            completion,
            attempts: 0,
            retries: 0,
            has_failed: false,
            has_failed_alone: false,
            is_parked: false,
            span,
        }
    }

    /// A call that failed on its own before.
    pub(super) fn parked(self) -> Self {
        Self { has_failed: true, has_failed_alone: true, is_parked: true, ..self }
    }
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    calls: Vec<PendingCall>,
    /// The calls' JSON, with a comma each.
    bytes: usize,
}

impl Batch {
    pub(super) fn fits(&self, call: &Call) -> bool {
        self.calls.len() < MAX_CALLS && self.bytes + call.json().len() + 1 + ENVELOPE_BYTES <= MAX_BATCH_BYTES
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.calls.len() >= MAX_CALLS / 2 || self.bytes >= MAX_BATCH_BYTES / 2
    }

    /// False if the call does not fit: it is dropped.
    pub(super) fn push(&mut self, pending: PendingCall) -> bool {
        if !self.fits(&pending.call) {
            return false;
        }
        self.bytes += pending.call.json().len() + 1;
        self.calls.push(pending);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PendingCall> {
        self.calls.iter()
    }

    /// The time until the last deadline. `None` if a call has no deadline.
    pub(super) fn time_left(&self, now: Instant) -> Option<Duration> {
        let mut deadlines = self.calls.iter().map(|pending| pending.completion.deadline());
        let last = deadlines.try_fold(now, |last, deadline| Some(last.max(deadline?)))?;
        Some(last - now)
    }

    /// Removes and returns the calls with a waiting caller for which `predicate` is true. The other calls stay in order.
    pub(super) fn extract_callers(&mut self, predicate: impl Fn(&PendingCall) -> bool) -> Vec<PendingCall> {
        let is_extracted = |pending: &mut PendingCall| !pending.completion.is_stored() && predicate(pending);
        let extracted: Vec<PendingCall> = self.calls.extract_if(.., is_extracted).collect();
        self.bytes -= extracted.iter().map(|pending| pending.call.json().len() + 1).sum::<usize>();
        extracted
    }

    pub(super) fn into_calls(self) -> Vec<PendingCall> {
        self.calls
    }

    /// The number of retries that the request says.
    pub(super) fn retries(&self) -> u32 {
        self.calls.iter().map(|pending| pending.retries).max().unwrap_or_default()
    }

    /// The request had no answer, and is sent once more.
    pub(super) fn mark_second_try(&mut self) {
        for pending in &mut self.calls {
            pending.completion.mark_unknown();
            pending.retries = pending.retries.saturating_add(1);
            pending.attempts = pending.attempts.saturating_add(1);
        }
    }

    /// The body of a request in the official shape, with the keys in the official order. The serialized calls are joined;
    /// nothing is parsed.
    pub(super) fn request_body(&self, write_key: &str, sent_at: Timestamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + ENVELOPE_BYTES);
        out.extend_from_slice(br#"{"batch":["#);
        for (index, pending) in self.calls.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(pending.call.json());
        }
        out.extend_from_slice(br#"],"writeKey":"#);
        write_json_string(&mut out, write_key);
        out.extend_from_slice(br#","sentAt":""#);
        out.extend_from_slice(rfc3339_milliseconds(sent_at).as_bytes());
        out.extend_from_slice(br#""}"#);
        out
    }

    /// The request has an answer, and these calls were certainly not accepted.
    pub(super) fn mark_not_accepted(&self) {
        self.calls.iter().for_each(|pending| pending.completion.mark_not_accepted());
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, MAX_BATCH_BYTES, MAX_CALLS};
    use crate::publisher::test_calls::pending_call;
    use jiff::Timestamp;
    use proptest::prelude::{prop, proptest};
    use proptest::{prop_assert, prop_assert_eq};

    proptest! {
        #[test]
        fn a_request_body_is_json_within_the_limits(sizes in prop::collection::vec(0_usize..32_000, 1..60)) {
            let mut batch = Batch::default();
            let mut pushed = 0;
            for size in sizes {
                pushed += usize::from(batch.push(pending_call("u", "m", size)));
            }
            let body = batch.request_body("a\"key", Timestamp::UNIX_EPOCH);
            prop_assert!(body.len() <= MAX_BATCH_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(json["batch"].as_array().unwrap().len(), pushed);
            prop_assert_eq!(json["writeKey"].as_str().unwrap(), "a\"key");
            prop_assert_eq!(json["sentAt"].as_str().unwrap(), "1970-01-01T00:00:00.000Z");
        }
    }

    #[test]
    fn a_batch_holds_at_most_segments_limit_of_calls() {
        let mut batch = Batch::default();
        while batch.push(pending_call("u", "m", 0)) {}
        assert_eq!(batch.len(), MAX_CALLS);
    }
}
