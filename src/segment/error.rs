//! Why a call failed: a message for people and a code for programs.

use std::fmt;
use std::time::Duration;

use super::failure_reason::FailureReason;

/// The `retry_after` of a failure whose duration is unknown: the smallest whole number of seconds.
pub const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The failure of a call that Segment did not accept, or may not have accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentError {
    /// What happened. For [`ErrorCode::Rejected`] in Segment's words, which may name the customer and are never logged.
    pub message: String,
    /// What happened, for programs.
    pub code: ErrorCode,
    /// The pause before a retry makes sense, if a retry makes sense at all.
    pub retry_after: Option<Duration>,
    /// The idempotency key was used before: this is the outcome of the first call, and no second one was made.
    pub replayed: bool,
    /// Why the request to Segment failed, if there was one. For logs.
    pub reason: Option<FailureReason>,
}

/// The error codes of the interface that a client can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The payload breaks a rule. Nothing was sent.
    InvalidPayload,
    /// The call has more than 32,768 bytes as sent.
    MessageTooLarge,
    /// No write key is set.
    NotConfigured,
    /// There was no capacity or no time to send the call. It was not sent.
    Overloaded,
    /// Segment refused this call for good.
    Rejected,
    /// The relay gave this call up: it failed on its own for too long, or an operator decided so.
    GaveUp,
    /// The relay's credentials were refused, by Segment or by a proxy.
    Unauthorized,
    /// What answers at the endpoint is not Segment's API.
    Misconfigured,
    /// Segment failed or could not be reached. The call was not accepted, as far as Segment said.
    Unavailable,
    /// Segment asked for a pause that ends after the deadline. The call was certainly not accepted.
    RateLimited,
    /// An attempt ended without Segment's own answer. The call may have been accepted.
    Timeout,
    /// The relay is shutting down. The call was not accepted.
    ShuttingDown,
    /// The idempotency key was used with another payload before.
    KeyReused,
    /// The commit was not confirmed in time. The call may have been stored.
    OutboxTimeout,
}

impl ErrorCode {
    /// The code as it is written in JSON and documented in the README.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::MessageTooLarge => "message_too_large",
            Self::NotConfigured => "not_configured",
            Self::Overloaded => "overloaded",
            Self::Rejected => "segment_rejected",
            Self::GaveUp => "gave_up",
            Self::Unauthorized => "segment_unauthorized",
            Self::Misconfigured => "segment_misconfigured",
            Self::Unavailable => "segment_unavailable",
            Self::RateLimited => "segment_rate_limited",
            Self::Timeout => "segment_timeout",
            Self::ShuttingDown => "shutting_down",
            Self::KeyReused => "idempotency_key_reused",
            Self::OutboxTimeout => "outbox_timeout",
        }
    }
}

impl SegmentError {
    /// An error without `retry_after` and without a reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, retry_after: None, replayed: false, reason: None }
    }

    /// The same error with `retry_after` set to `pause`.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// The same error with the reason of the failed request.
    #[must_use]
    pub fn because(self, reason: FailureReason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The status of the answer to the failed request, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.reason.and_then(FailureReason::status)
    }
}

impl fmt::Debug for SegmentError {
    /// Leaves out the message, which may name the customer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SegmentError");
        shown.field("code", &self.code).field("retry_after", &self.retry_after).field("reason", &self.reason);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SegmentError {}
