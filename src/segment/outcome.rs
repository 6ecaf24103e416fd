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

/// What became of a stored call that the publisher does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledCall {
    /// The id of the call in the outbox.
    pub id: i64,
    pub outcome: CallOutcome,
}

/// The end of a stored call's stay in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Segment accepted it.
    Accepted,
    /// Segment refused it for good.
    Refused(Refusal),
    /// It fails on its own, or memory has no room for calls that fail. The store parks its user.
    Parked(Trouble),
    /// It was not sent, because an earlier call of its user is parked. The store parks it behind that one.
    Behind,
    /// It is in no request, and its person is forgotten: the store deletes it. Or the fence is shut: it waits in the store.
    TakenBack,
}

/// Why a call fails on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The HTTP status of the last answer, if there was one.
    pub status: Option<u16>,
    /// The relay's own words: they hold nothing of the answer.
    pub reason: String,
    /// The number of requests that held the call since it was read from the outbox.
    pub attempts: u32,
    /// Others were accepted meanwhile, so that the failure is the call's own. Otherwise it counts for nothing.
    pub is_own: bool,
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
