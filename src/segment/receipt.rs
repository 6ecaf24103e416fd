//! The outcome of a call that did not fail.

/// The outcome of a call that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The `messageId` under which Segment got the call, or will get it.
    pub message_id: String,
    /// How far the call has come.
    pub standing: DeliveryState,
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
        Self { message_id, standing: DeliveryState::Accepted, replayed: false }
    }
}
