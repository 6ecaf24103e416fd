//! Why a call was not accepted, in one value: words for a reader, a code for a program.

use std::fmt;
use std::time::Duration;

/// What a caller is told to wait when nobody can say how long the trouble lasts: the smallest whole number of seconds.
pub const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A call that Segment did not accept, or may not have accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentError {
    /// What happened, in words; Segment's own are kept where it gave any. May name the customer: never logged.
    pub message: String,
    /// What happened, for programs.
    pub code: ErrorCode,
    /// When trying again makes sense, if it does.
    pub retry_after: Option<Duration>,
}

/// The codes of the contract that a client can end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The payload breaks a rule that is checked before anything is sent.
    InvalidPayload,
    /// The call is over 32,768 bytes as sent.
    MessageTooLarge,
    /// No write key is set.
    NotConfigured,
    /// There was no room, or no time, to send the call. It was not sent.
    Overloaded,
    /// Segment refused this call for good.
    Rejected,
    /// Segment refused our credentials.
    Unauthorized,
    /// What answers is not Segment's API.
    Misconfigured,
    /// Segment failed or could not be reached; the call was certainly not accepted.
    Unavailable,
    /// Segment told us to wait for longer than the deadline; the call was certainly not accepted.
    RateLimited,
    /// An attempt ended without an answer: the call may have been accepted.
    Timeout,
    /// The relay is going down. The call was not accepted.
    ShuttingDown,
    /// The idempotency key came with another payload before.
    KeyReused,
    /// The commit was not confirmed in time: the call may have been stored.
    OutboxTimeout,
}

impl ErrorCode {
    /// As it stands in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::MessageTooLarge => "message_too_large",
            Self::NotConfigured => "not_configured",
            Self::Overloaded => "overloaded",
            Self::Rejected => "segment_rejected",
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
    /// An error after which trying again has no set time.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, retry_after: None }
    }

    /// The same error, worth another try after `pause`.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }
}

impl fmt::Debug for SegmentError {
    /// Without the message, which may name the customer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SegmentError");
        shown.field("code", &self.code).field("retry_after", &self.retry_after).finish_non_exhaustive()
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SegmentError {}
