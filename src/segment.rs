//! The seam between this program and Segment: client traits, receipt, error, call, message id and settlement.
//!
//! A [`SegmentClient`] serves one caller: `identify` hands a call over, and `flush` returns when that call is settled, with
//! this caller's own outcome.
//!
//! How calls are sent is not in here: `publisher` sends them to Segment, and `outbox` stores them first.

mod call;
mod client;
mod error;
mod failure_reason;
mod message_id;
mod outcome;
mod send_fence;

pub use call::{Call, MAX_CALL_BYTES};
pub(crate) use call::{rfc3339_milliseconds, write_json_string};
pub use client::{GroupTerms, SegmentClient, SegmentClients, SegmentGroup};
pub use error::{ErrorCode, MIN_RETRY_AFTER, SegmentError};
pub use failure_reason::FailureReason;
pub use message_id::{IdempotencyKey, KeyKind, MessageIds, Origin, is_made_without_key, time_of_id};
pub use outcome::{CallOutcome, DeliveryState, Receipt, Refusal, SettledCall, Trouble};
pub use send_fence::{SendFence, boot_time};
