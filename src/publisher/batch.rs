//! What fits into one request to Segment, and how a failed one is split. Pure.
//!
//! A [`Batch`] cannot exceed Segment's limits, and keeps its calls in the order in which they were taken.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::ticket::{Refused, Ticket};
use crate::segment::{Call, rfc3339_milliseconds, write_json_string};

/// Segment's limit for one request, in calls. More are dropped in silence after a 200.
pub(super) const MAX_CALLS: usize = 2_500;

/// What we put into one request, in bytes of uncompressed JSON. Segment's limit is 500 KB; its own SDKs stop at 475 to 480.
pub(super) const MAX_BYTES: usize = 480_000;

/// Room for all of a request that is not calls: the keys, `sentAt`, and the write key (settings allow 256 bytes of it).
const ENVELOPE_BYTES: usize = 1_024;

/// A call in hand, and the way to tell its caller.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) call: Call,
    pub(super) ticket: Ticket,
}

impl Taken {
    pub(super) fn user_id(&self) -> &Arc<str> {
        self.call.user_id()
    }
}

/// Calls for one request, within Segment's limits.
#[derive(Debug, Default)]
pub(super) struct Batch {
    calls: Vec<Taken>,
    bytes: usize,
}

/// How two parts of a split batch stand to each other.
#[derive(Debug)]
pub(super) enum Split {
    /// They share no user: each may go its own way.
    Strangers(Batch, Batch),
    /// One user's calls: the left part must be settled before the right one is sent.
    InOrder(Batch, Batch),
}

impl Batch {
    /// Whether this call would still fit.
    pub(super) fn fits(&self, call: &Call) -> bool {
        self.calls.len() < MAX_CALLS && self.bytes + call.json().len() + 1 + ENVELOPE_BYTES <= MAX_BYTES
    }

    /// Whether half of the room is used up.
    pub(super) fn is_half_full(&self) -> bool {
        self.calls.len() >= MAX_CALLS / 2 || self.bytes >= MAX_BYTES / 2
    }

    /// Adds a call at the end.
    ///
    /// # Errors
    /// Gives the call back if it does not fit.
    pub(super) fn try_push(&mut self, taken: Taken) -> Result<(), Taken> {
        if !self.fits(&taken.call) {
            return Err(taken);
        }
        self.bytes += taken.call.json().len() + 1;
        self.calls.push(taken);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Taken> {
        self.calls.iter()
    }

    /// How much longer somebody waits for one of these calls: `None`, if it may take as long as it takes.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let mut deadlines = self.calls.iter().map(|taken| taken.ticket.deadline());
        // One without a deadline is `None`, and so is the whole then.
        let last = deadlines.try_fold(now, |last, deadline| Some(last.max(deadline?)))?;
        Some(last - now)
    }

    pub(super) fn into_calls(self) -> Vec<Taken> {
        self.calls
    }

    /// Removes and returns the calls for which `leaves` is true; the others stay in order.
    pub(super) fn extract(&mut self, leaves: impl Fn(&Taken) -> bool) -> Vec<Taken> {
        let left: Vec<Taken> = self.calls.extract_if(.., |taken| leaves(taken)).collect();
        self.bytes -= left.iter().map(|taken| taken.call.json().len() + 1).sum::<usize>();
        left
    }

    /// Two parts with about the same number of users, neither empty; a batch of fewer than two calls comes back whole. Users are kept
    /// together, so that the parts are strangers; only one user's own calls are cut in the middle.
    pub(super) fn split(mut self) -> Result<Split, Self> {
        if self.calls.len() < 2 {
            return Err(self);
        }
        let first = self.calls[0].user_id().clone();
        if self.calls.iter().all(|taken| *taken.user_id() == first) {
            let right = self.calls.split_off(self.calls.len() / 2);
            return Ok(Split::InOrder(Self::of(self.calls), Self::of(right)));
        }
        let mut users: Vec<Arc<str>> = self.calls.iter().map(|taken| taken.user_id().clone()).collect();
        users.sort_unstable();
        users.dedup();
        let right_users = users.split_off(users.len() / 2);
        let (left, right) =
            self.calls.into_iter().partition(|taken| right_users.binary_search(taken.user_id()).is_err());
        Ok(Split::Strangers(Self::of(left), Self::of(right)))
    }

    fn of(calls: Vec<Taken>) -> Self {
        let bytes = calls.iter().map(|taken| taken.call.json().len() + 1).sum();
        Self { calls, bytes }
    }

    /// The body of a request in the official shape, keys in the official order: the stored bytes joined, nothing parsed.
    pub(super) fn body(&self, write_key: &str, sent_at: Timestamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + ENVELOPE_BYTES);
        out.extend_from_slice(br#"{"batch":["#);
        for (index, taken) in self.calls.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(taken.call.json());
        }
        out.extend_from_slice(br#"],"writeKey":"#);
        write_json_string(&mut out, write_key);
        out.extend_from_slice(br#","sentAt":""#);
        out.extend_from_slice(rfc3339_milliseconds(sent_at).as_bytes());
        out.extend_from_slice(br#""}"#);
        out
    }

    /// The request came back, and these calls were certainly not accepted by it.
    pub(super) fn not_accepted(&self) {
        self.calls.iter().for_each(|taken| taken.ticket.not_accepted());
    }

    /// The request ended without an answer.
    pub(super) fn unknown(&self) {
        self.calls.iter().for_each(|taken| taken.ticket.unknown());
    }

    /// Tells everybody the same.
    pub(super) fn settle(&mut self, outcome: &Result<(), Refused>) {
        self.calls.iter_mut().for_each(|taken| taken.ticket.settle(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, MAX_BYTES, MAX_CALLS, Split, Taken};
    use crate::publisher::test_calls::taken;
    use jiff::Timestamp;
    use proptest::prelude::{Strategy, prop, proptest};
    use proptest::{prop_assert, prop_assert_eq};

    fn of(users: &[u8]) -> Batch {
        let mut batch = Batch::default();
        for (index, user) in users.iter().enumerate() {
            batch.try_push(taken(&format!("u-{user}"), &format!("m-{index}"), 0)).unwrap();
        }
        batch
    }

    fn ids(batch: &Batch, user: &str) -> Vec<Vec<u8>> {
        batch.iter().filter(|t| &**t.user_id() == user).map(|t| t.call.json().to_vec()).collect()
    }

    fn users() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0_u8..6, 2..40)
    }

    proptest! {
        #[test]
        fn a_split_loses_nothing_and_keeps_each_users_order(users in users()) {
            let whole = of(&users);
            let before: Vec<_> = users.iter().map(|user| ids(&whole, &format!("u-{user}"))).collect();
            let (left, right, strangers) = match whole.split().unwrap() {
                Split::Strangers(left, right) => (left, right, true),
                Split::InOrder(left, right) => (left, right, false),
            };
            prop_assert!(!left.is_empty() && !right.is_empty());
            for (user, before) in users.iter().zip(before) {
                let user = format!("u-{user}");
                let (in_left, in_right) = (ids(&left, &user), ids(&right, &user));
                prop_assert!(!strangers || in_left.is_empty() || in_right.is_empty());
                prop_assert_eq!([in_left, in_right].concat(), before);
            }
        }

        #[test]
        fn a_body_is_json_and_never_over_the_limits(sizes in prop::collection::vec(0_usize..32_000, 1..60)) {
            let mut batch = Batch::default();
            let mut pushed = 0;
            for size in sizes {
                pushed += usize::from(batch.try_push(taken("u", "m", size)).is_ok());
            }
            let body = batch.body("a\"key", Timestamp::UNIX_EPOCH);
            prop_assert!(body.len() <= MAX_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(json["batch"].as_array().unwrap().len(), pushed);
            prop_assert_eq!(json["writeKey"].as_str().unwrap(), "a\"key");
            prop_assert_eq!(json["sentAt"].as_str().unwrap(), "1970-01-01T00:00:00.000Z");
        }
    }

    #[test]
    fn a_batch_holds_at_most_segments_limit_of_calls() {
        let mut batch = Batch::default();
        while batch.try_push(taken("u", "m", 0)).is_ok() {}
        assert_eq!(batch.len(), MAX_CALLS);
    }

    #[test]
    fn a_call_alone_cannot_be_split() {
        assert_eq!(of(&[1]).split().unwrap_err().len(), 1);
    }

    #[test]
    fn what_is_extracted_makes_room_again() {
        let mut batch = of(&[1, 2, 1, 3]);
        let left: Vec<Taken> = batch.extract(|taken| &**taken.user_id() == "u-1");
        assert_eq!((left.len(), batch.len()), (2, 2));
        let bytes = batch.bytes;
        assert_eq!(bytes, Batch::of(batch.into_calls()).bytes);
    }
}
