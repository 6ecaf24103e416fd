//! Calls for the unit tests of this module.

use std::cell::RefCell;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::batch::Taken;
use super::ticket::{Claim, ticket};
use crate::customer::{SegmentIdentifyPayload, UserTraits};
use crate::segment::Call;

thread_local! {
    /// Claims of callers who stay until the test ends.
    static PATIENT: RefCell<Vec<Claim>> = const { RefCell::new(Vec::new()) };
}

/// A call of about `size` bytes more than the smallest, whose caller waits.
pub(super) fn taken(user_id: &str, message_id: &str, size: usize) -> Taken {
    let (taken, claim) = claimed(user_id, message_id, size);
    PATIENT.with_borrow_mut(|patient| patient.push(claim));
    taken
}

/// A call and its caller's claim.
pub(super) fn claimed(user_id: &str, message_id: &str, size: usize) -> (Taken, Claim) {
    let traits = UserTraits::from_serialize(&serde_json::json!({ "a": "x".repeat(size) })).unwrap();
    let payload = SegmentIdentifyPayload::new(user_id, traits);
    let call = Call::new(&payload, message_id, Timestamp::UNIX_EPOCH).unwrap();
    let (ticket, claim) = ticket(Instant::now() + Duration::from_secs(10));
    (Taken { call, ticket }, claim)
}
