//! The integration service: it sends a validated customer to Segment and returns one result.
//!
//! It calls `identify`, then `flush`. It calls no client for an id that must not be sent, does not flush after `identify`
//! failed, and returns the client's error unchanged. The client is injected, or made from the environment.

mod environment;
mod report;
mod service;

#[cfg(test)]
mod tests;

pub use crate::segment::{
    DeliveryState, ErrorCode, IdempotencyKey, KeyKind, MAX_CALL_BYTES, MIN_RETRY_AFTER, Receipt, SegmentClient,
    SegmentClients, SegmentError,
};
pub use environment::{client_from_environment, send_customer_to_segment};
pub use report::ResultReport;
pub use service::{SegmentIntegrationResult, send_customer_to_segment_with_client};
