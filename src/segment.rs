//! Segment as the rest of the house sees it: clients that are opened, told of a customer and flushed.
//!
//! A [`SegmentClient`] is one caller's conversation: `identify` hands a call over, `flush` returns when that very call is
//! settled, with that caller's own outcome. Many clients share the machinery below (a queue, a fixed number of slots), so
//! a thousand overlapping pairs of identify and flush travel in a few requests, and each hears the truth about its own.
//!
//! The flow below: `live` (the handle) -> `dispatch` (who goes when, over `queue`, `slots` and `gate`) ->
//! `send` (the life of one batch, with `apply` and `part`) -> `transport` (HTTPS). `call`, `batch` and `retry` are pure.

mod call;
mod error;
mod message_id;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::customer::SegmentIdentifyPayload;

pub use call::{Call, MAX_CALL_BYTES};
pub(crate) use call::{milliseconds, string};
pub use error::{ErrorCode, MIN_RETRY_AFTER, SegmentError};
pub use message_id::{IdempotencyKey, KeyKind, MessageIds};

/// Makes clients: what is injected wherever calls are sent.
pub trait SegmentClients: Send + Sync {
    /// Opens one caller's conversation, which must be over at `deadline`. Under `key` a repeated call keeps its
    /// `messageId`. Where [`DeliveryState::Stored`] is an outcome, a caller may `wait` for so long to hear Segment's.
    fn open(&self, deadline: Instant, key: Option<IdempotencyKey>, wait: Option<Duration>) -> Box<dyn SegmentClient>;

    /// Whether a flush may end with [`DeliveryState::Stored`], so that a caller's `wait` means something.
    fn stores(&self) -> bool;
}

/// One caller's conversation with Segment.
#[async_trait]
pub trait SegmentClient: Send {
    /// Hands a customer over. It may wait in memory until [`flush`](Self::flush) returns.
    ///
    /// # Errors
    /// If the call is too large, or cannot be sent before the deadline and that is known already.
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError>;

    /// Returns when everything handed over through this client is settled: the last call's receipt, or the first error.
    ///
    /// # Errors
    /// Whatever became of the call: see [`ErrorCode`].
    async fn flush(&mut self) -> Result<Receipt, SegmentError>;

    /// Flushes what is left and ends the conversation.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); a client with nothing left to flush is no error.
    async fn close_and_flush(self: Box<Self>) -> Result<(), SegmentError>;
}

/// What became of a call that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The `messageId` under which Segment got the call, or will get it.
    pub message_id: String,
    /// How far the call has come.
    pub standing: DeliveryState,
    /// The key's call was there already: no second one was made.
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
    /// Segment accepted the call.
    pub fn accepted(message_id: String) -> Self {
        Self { message_id, standing: DeliveryState::Accepted, replayed: false }
    }
}

/// What became of a stored call that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The id under which it was handed over.
    pub id: i64,
    pub outcome: Result<(), Refusal>,
}

/// Segment refused a call for good.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of its answer.
    pub status: u16,
    /// Its words. May name the customer: never logged.
    pub reason: String,
    /// How many requests held the call.
    pub attempts: u32,
}

impl fmt::Debug for Refusal {
    /// Without the words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Refusal");
        shown.field("status", &self.status).field("attempts", &self.attempts).finish_non_exhaustive()
    }
}
