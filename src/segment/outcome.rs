//! The outcome of a call that did not fail, and the final outcome of a stored call.

use std::fmt;

/// Returned for a call that Segment accepted, or that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The `messageId` under which Segment got the call, or will get it.
    pub message_id: String,
    /// How far the call has come.
    pub state: DeliveryState,
    /// The idempotency key was used before: this is the receipt of the first call, and no second one was made.
    pub replayed: bool,
}

/// How far a call that did not fail has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Segment accepted it.
    Accepted,
    /// It is on disk, synced, and will be delivered.
    Stored,
}

impl Receipt {
    /// The receipt of a call that Segment accepted.
    pub fn accepted(message_id: String) -> Self {
        Self { message_id, state: DeliveryState::Accepted, replayed: false }
    }
}

/// The final outcome of a stored call that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledCall {
    /// The id of the call in the outbox.
    pub id: i64,
    /// Accepted, or refused for good.
    pub outcome: Result<(), Refusal>,
}

/// Segment refused a call for good.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status of Segment's answer.
    pub status: u16,
    /// Segment's words. They may name the customer and are never logged.
    pub reason: String,
    /// The number of requests that held the call.
    pub attempts: u32,
}

impl fmt::Debug for Refusal {
    /// Leaves out the words, which may name the customer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Refusal");
        shown.field("status", &self.status).field("attempts", &self.attempts).finish_non_exhaustive()
    }
}
