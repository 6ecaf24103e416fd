//! Pending calls for the unit tests of this module.

use std::cell::RefCell;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::PendingCall;
use super::completion::{Completion, CompletionHandle, completion};
use crate::customer::{SegmentIdentifyPayload, UserTraits};
use crate::segment::{Call, SettledCall};

thread_local! {
    /// Handles of callers who wait until the test ends.
    static HANDLES: RefCell<Vec<CompletionHandle>> = const { RefCell::new(Vec::new()) };
}

/// A call whose traits hold `size` bytes, and whose caller waits.
pub(super) fn pending_call(user_id: &str, message_id: &str, size: usize) -> PendingCall {
    let (pending, handle) = pending_call_with_handle(user_id, message_id, size);
    HANDLES.with_borrow_mut(|handles| handles.push(handle));
    pending
}

/// A call and its caller's handle.
pub(super) fn pending_call_with_handle(
    user_id: &str,
    message_id: &str,
    size: usize,
) -> (PendingCall, CompletionHandle) {
    let (completion, handle) = completion(Instant::now() + Duration::from_secs(10));
    (PendingCall::new(call(user_id, message_id, size), completion), handle)
}

/// A call that is in the outbox.
pub(super) fn stored_call(user_id: &str, message_id: &str) -> PendingCall {
    let (delivered, _) = mpsc::unbounded_channel();
    PendingCall::new(call(user_id, message_id, 0), Completion::Stored { id: 0, delivered })
}

/// A call that is in the outbox under this id. Its outcome goes to `delivered`.
pub(super) fn stored_call_to(user_id: &str, id: i64, delivered: &mpsc::UnboundedSender<SettledCall>) -> PendingCall {
    let completion = Completion::Stored { id, delivered: delivered.clone() };
    PendingCall::new(call(user_id, &format!("m-{id}"), 0), completion)
}

fn call(user_id: &str, message_id: &str, size: usize) -> Call {
    let traits = UserTraits::from_serialize(&serde_json::json!({ "a": "x".repeat(size) })).unwrap();
    let payload = SegmentIdentifyPayload::new(user_id, traits);
    Call::new(&payload, message_id, Timestamp::UNIX_EPOCH).unwrap()
}
