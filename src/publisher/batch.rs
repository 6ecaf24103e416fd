//! The calls of one request to Segment, within its limits, and how a failed batch is split. Pure.
//!
//! A [`Batch`] cannot exceed Segment's limits, and keeps the order of its calls.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::completion::Completion;
use crate::segment::{Call, Refusal, rfc3339_milliseconds, write_json_string};

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
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    calls: Vec<PendingCall>,
    /// The calls' JSON, with a comma each.
    bytes: usize,
}

/// The two halves of a split batch.
#[derive(Debug)]
pub(super) struct Halves<T> {
    pub(super) left: T,
    pub(super) right: T,
    /// Whether both hold the same user's calls. Then the left half must be settled before the right half is sent.
    pub(super) in_order: bool,
}

impl Batch {
    pub(super) fn fits(&self, call: &Call) -> bool {
        self.calls.len() < MAX_CALLS && self.bytes + call.json().len() + 1 + ENVELOPE_BYTES <= MAX_BATCH_BYTES
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.calls.len() >= MAX_CALLS / 2 || self.bytes >= MAX_BATCH_BYTES / 2
    }

    /// # Errors
    /// Gives the call back if it does not fit.
    pub(super) fn try_push(&mut self, pending: PendingCall) -> Result<(), PendingCall> {
        if !self.fits(&pending.call) {
            return Err(pending);
        }
        self.bytes += pending.call.json().len() + 1;
        self.calls.push(pending);
        Ok(())
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

    pub(super) fn into_calls(self) -> Vec<PendingCall> {
        self.calls
    }

    /// Removes and returns the calls for which `predicate` is true. The other calls stay in order.
    pub(super) fn extract_if(&mut self, predicate: impl Fn(&PendingCall) -> bool) -> Vec<PendingCall> {
        let extracted: Vec<PendingCall> = self.calls.extract_if(.., |pending| predicate(pending)).collect();
        self.bytes -= json_bytes(&extracted);
        extracted
    }

    /// Splits the batch into halves with about the same number of users, neither of them empty. A user's calls stay in one
    /// half. If all calls are one user's, they are cut in the middle.
    ///
    /// # Errors
    /// Gives the batch back if it holds fewer than two calls.
    pub(super) fn split(mut self) -> Result<Halves<Self>, Self> {
        if self.calls.len() < 2 {
            return Err(self);
        }
        let first = self.calls[0].call.user_id().clone();
        if self.calls.iter().all(|pending| *pending.call.user_id() == first) {
            let right = self.calls.split_off(self.calls.len() / 2);
            let (left, right) = (Self::from_calls(self.calls), Self::from_calls(right));
            return Ok(Halves { left, right, in_order: true });
        }
        let mut users: Vec<Arc<str>> = self.calls.iter().map(|pending| pending.call.user_id().clone()).collect();
        users.sort_unstable();
        users.dedup();
        let right_users = users.split_off(users.len() / 2);
        let (left, right) =
            self.calls.into_iter().partition(|pending| right_users.binary_search(pending.call.user_id()).is_err());
        Ok(Halves { left: Self::from_calls(left), right: Self::from_calls(right), in_order: false })
    }

    fn from_calls(calls: Vec<PendingCall>) -> Self {
        let bytes = json_bytes(&calls);
        Self { calls, bytes }
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

    pub(super) fn settle(&mut self, outcome: &Result<(), Refusal>) {
        self.calls.iter_mut().for_each(|pending| pending.completion.settle(outcome));
    }
}

/// The size of the calls in a request, with a comma each.
fn json_bytes(calls: &[PendingCall]) -> usize {
    calls.iter().map(|pending| pending.call.json().len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::{Batch, Halves, MAX_BATCH_BYTES, MAX_CALLS, PendingCall};
    use crate::publisher::test_calls::pending_call;
    use jiff::Timestamp;
    use proptest::prelude::{Strategy, prop, proptest};
    use proptest::{prop_assert, prop_assert_eq};

    fn batch_of(users: &[u8]) -> Batch {
        let mut batch = Batch::default();
        for (index, user) in users.iter().enumerate() {
            batch.try_push(pending_call(&format!("u-{user}"), &format!("m-{index}"), 0)).unwrap();
        }
        batch
    }

    fn ids(batch: &Batch, user: &str) -> Vec<Vec<u8>> {
        batch.iter().filter(|t| &**t.call.user_id() == user).map(|t| t.call.json().to_vec()).collect()
    }

    fn users() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0_u8..6, 2..40)
    }

    proptest! {
        #[test]
        fn a_split_loses_no_call_and_keeps_each_users_order(users in users()) {
            let whole = batch_of(&users);
            let before: Vec<_> = users.iter().map(|user| ids(&whole, &format!("u-{user}"))).collect();
            let Halves { left, right, in_order } = whole.split().unwrap();
            prop_assert!(!left.is_empty() && !right.is_empty());
            for (user, before) in users.iter().zip(before) {
                let user = format!("u-{user}");
                let (in_left, in_right) = (ids(&left, &user), ids(&right, &user));
                prop_assert!(in_order || in_left.is_empty() || in_right.is_empty());
                prop_assert_eq!([in_left, in_right].concat(), before);
            }
        }

        #[test]
        fn a_request_body_is_json_within_the_limits(sizes in prop::collection::vec(0_usize..32_000, 1..60)) {
            let mut batch = Batch::default();
            let mut pushed = 0;
            for size in sizes {
                pushed += usize::from(batch.try_push(pending_call("u", "m", size)).is_ok());
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
        while batch.try_push(pending_call("u", "m", 0)).is_ok() {}
        assert_eq!(batch.len(), MAX_CALLS);
    }

    #[test]
    fn a_single_call_cannot_be_split() {
        assert_eq!(batch_of(&[1]).split().unwrap_err().len(), 1);
    }

    #[test]
    fn extracted_calls_free_their_bytes() {
        let mut batch = batch_of(&[1, 2, 1, 3]);
        let left: Vec<PendingCall> = batch.extract_if(|pending| &**pending.call.user_id() == "u-1");
        assert_eq!((left.len(), batch.len()), (2, 2));
        let bytes = batch.bytes;
        assert_eq!(bytes, Batch::from_calls(batch.into_calls()).bytes);
    }
}
