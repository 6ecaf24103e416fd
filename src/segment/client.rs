//! The client traits: one makes clients, the other is a client for one caller.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::error::SegmentError;
use super::message_id::IdempotencyKey;
use super::outcome::Receipt;
use crate::customer::SegmentIdentifyPayload;

/// Makes clients. This is what is injected wherever calls are sent.
pub trait SegmentClients: Send + Sync {
    /// Makes a client for one caller. `flush` ends by `deadline`. Under the same `key` a repeated call has the same
    /// `messageId`. Where [`DeliveryState::Stored`](super::DeliveryState::Stored) is an outcome, the client waits up to
    /// `wait` for Segment's answer first.
    fn open(&self, deadline: Instant, key: Option<IdempotencyKey>, wait: Option<Duration>) -> Box<dyn SegmentClient>;

    /// Makes a client for several customers of one request.
    fn open_group(&self, terms: GroupTerms) -> Box<dyn SegmentGroup>;

    /// Whether a flush may end with [`DeliveryState::Stored`](super::DeliveryState::Stored), so that `wait` has a meaning.
    fn stores(&self) -> bool;
}

/// What holds for the customers of one request.
#[derive(Clone)]
pub struct GroupTerms {
    /// `flush` ends by then.
    pub deadline: Instant,
    /// Makes the ids of the calls, with the user and the place of each.
    pub key: Option<IdempotencyKey>,
    /// How long to wait for Segment's answer to all calls where [`DeliveryState::Stored`](super::DeliveryState::Stored) is an
    /// outcome.
    pub wait: Option<Duration>,
    /// The name of the source by which the customers came. `None`: `POST /customers`.
    pub source: Option<Arc<str>>,
    /// All calls are stored, or none. Without an outbox it has no effect.
    pub is_all_or_nothing: bool,
}

/// A client of Segment for several customers of one request.
#[async_trait]
pub trait SegmentGroup: Send {
    /// Hands the customer at this place of the request over. Places differ, and stay the same when the request is repeated.
    ///
    /// # Errors
    /// As [`SegmentClient::identify`]. The others are not concerned.
    fn identify(&mut self, place: usize, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError>;

    /// Returns when all that were handed over are settled: the outcome of each, in that order. It is called once.
    async fn flush(&mut self) -> Vec<Result<Receipt, SegmentError>>;
}

/// A client of Segment for one caller.
#[async_trait]
pub trait SegmentClient: Send {
    /// Hands a customer over. It may wait in memory until [`flush`](Self::flush) returns.
    ///
    /// # Errors
    /// The call is too large, or it is already known that it cannot be sent before the deadline.
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError>;

    /// Returns when everything handed over through this client is settled: the last call's receipt, or the first error.
    ///
    /// # Errors
    /// Why the call failed: see [`ErrorCode`](super::ErrorCode).
    async fn flush(&mut self) -> Result<Receipt, SegmentError>;

    /// Flushes what is left and ends the client.
    ///
    /// # Errors
    /// As [`flush`](Self::flush). A client with nothing left to flush returns no error.
    async fn close_and_flush(self: Box<Self>) -> Result<(), SegmentError>;
}
