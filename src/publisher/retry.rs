//! Classifies the result of a request to Segment, and computes pauses. Pure: time and jitter are arguments.
//!
//! A failure concerns one of three things: the request's calls (they are refused), Segment or the network (the request is
//! retried), or the relay's configuration (no call is at fault). Segment's answers, and what its SDKs do about them, were
//! read from the SDKs' sources. A proxy or a gateway may answer in Segment's place. Only a status that Segment uses for a
//! call at fault refuses calls, and only a 2xx in Segment's form accepts them.

mod body;
mod retry_after;

use std::time::{Duration, SystemTime};

use super::failure::Failure;
use super::secret_forms::{SecretForms, without_codes};
use crate::segment::{ErrorCode, FailureReason, SegmentError};
use body::Verdict;

/// Longest `Retry-After` that is honoured, as in Segment's SDKs.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Upper bound of the first backoff, as in Segment's server SDKs.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);

/// Upper bound of a backoff while a caller waits, as in Segment's server SDKs.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Upper bound of a backoff for calls without a deadline: as often as an outage is probed. A call that fails on its own is
/// parked, and tried less often.
const MAX_BACKOFF_WITHOUT_DEADLINE: Duration = Duration::from_secs(5);

/// Pause after Segment reports too many retries (422): as long as the longest backoff of Segment's SDKs. Then the retry
/// count starts over.
const RETRIES_EXHAUSTED_PAUSE: Duration = Duration::from_secs(60);

/// The result of one request. No `Debug`: Segment's messages are not for logs.
pub(super) enum SendResult {
    /// There is an answer. `retry_after` holds the headers that are text. `body` is not whole if it is too long or broke off.
    Response { status: u16, retry_after: Vec<String>, body: Vec<u8>, is_whole: bool },
    /// The connection failed: nothing was sent.
    NotSent(Failure),
    /// The request failed after it was sent: Segment may have accepted it.
    NoResponse(Failure),
}

impl SendResult {
    /// The status of the answer, if there is one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Response { status, .. } => Some(*status),
            Self::NotSent(_) | Self::NoResponse(_) => None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResponseClass {
    Accepted,
    /// Segment refuses this request for good. If it holds one call, that call is refused.
    Refused {
        error: SegmentError,
        status: u16,
    },
    /// The request can be retried. The error is for callers who cannot wait. If `outcome_unknown`, Segment may have accepted
    /// the request.
    Retryable {
        error: SegmentError,
        retry_after: Option<Duration>,
        outcome_unknown: bool,
    },
    /// The request can be retried after a long pause, with a retry count of 0.
    RetriesExhausted {
        error: SegmentError,
        pause: Duration,
    },
    /// No request may be sent for that time.
    RateLimited {
        error: SegmentError,
        retry_after: Option<Duration>,
    },
    /// The credentials or the endpoint are wrong. No request is sent for a while, and no call is at fault.
    ConfigurationError(SegmentError),
}

impl ResponseClass {
    /// A label for metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused { .. } => "refused",
            Self::Retryable { outcome_unknown: false, .. } => "unavailable",
            Self::Retryable { outcome_unknown: true, .. } => "unknown",
            Self::RetriesExhausted { .. } => "exhausted",
            Self::RateLimited { .. } => "rate_limited",
            Self::ConfigurationError(error) if error.code == ErrorCode::Unauthorized => "unauthorized",
            Self::ConfigurationError(_) => "misconfigured",
        }
    }
}

/// `secrets` are left out of Segment's message.
pub(super) fn classify(result: &SendResult, secrets: &SecretForms, now: SystemTime) -> ResponseClass {
    let (status, retry_after, body, is_whole) = match result {
        SendResult::Response { status, retry_after, body, is_whole } => (*status, retry_after, body, *is_whole),
        SendResult::NotSent(failure) => return not_sent(failure.reason),
        SendResult::NoResponse(Failure { reason, .. }) => {
            let message = format!("Segment did not answer: {}", reason.sentence());
            return retryable(SegmentError::new(ErrorCode::Unavailable, message).because(*reason), None, true);
        }
    };
    let retry_after = retry_after::longest(retry_after, now).map(|pause| pause.min(MAX_RETRY_AFTER));
    let error = |code, summary: &str| {
        SegmentError::new(code, format!("{summary} ({status})")).because(FailureReason::Status(status))
    };
    let refused = || {
        let mut error = error(ErrorCode::Rejected, "Segment refused this call");
        error.message.push_str(&shown_message(body, secrets));
        ResponseClass::Refused { error, status }
    };
    let unauthorized = |summary| ResponseClass::ConfigurationError(error(ErrorCode::Unauthorized, summary));
    let misconfigured = |summary| ResponseClass::ConfigurationError(error(ErrorCode::Misconfigured, summary));
    let failed = || error(ErrorCode::Unavailable, "Segment failed");
    match status {
        200..=299 => match body::verdict(body, is_whole) {
            Verdict::Accepted => ResponseClass::Accepted,
            Verdict::Refused => refused(),
            Verdict::NotSegments => {
                let error = error(ErrorCode::Misconfigured, "the body of the answer is not Segment's");
                ResponseClass::ConfigurationError(error.because(FailureReason::Body(status)))
            }
        },
        400 | 413 => refused(),
        401 | 403 => unauthorized("Segment refused the relay's credentials"),
        407 => unauthorized("the proxy refused the relay's credentials"),
        422 => ResponseClass::RetriesExhausted {
            error: error(ErrorCode::Unavailable, "Segment reported too many retries"),
            pause: usable_retry_after(retry_after).unwrap_or(RETRIES_EXHAUSTED_PAUSE),
        },
        429 => ResponseClass::RateLimited {
            error: error(ErrorCode::RateLimited, "Segment asked the relay to wait"),
            retry_after,
        },
        // A gateway did not hear Segment's answer in time.
        502 | 504 => retryable(failed(), retry_after, true),
        // A status of 600 or more is treated as a 5xx (RFC 9110, 15).
        408 | 410 | 460 | 500 | 503 | 506.. => retryable(failed(), retry_after, false),
        // 501 and 505 among them.
        _ => misconfigured("what answers at the endpoint is not Segment's API"),
    }
}

fn not_sent(reason: FailureReason) -> ResponseClass {
    match reason {
        FailureReason::Proxy(Some(status)) if refuses_credentials(status) => {
            let message = format!("the proxy refused the relay's credentials ({status})");
            ResponseClass::ConfigurationError(SegmentError::new(ErrorCode::Unauthorized, message).because(reason))
        }
        _ => {
            let message = format!("Segment could not be reached: {}", reason.sentence());
            retryable(SegmentError::new(ErrorCode::Unavailable, message).because(reason), None, false)
        }
    }
}

/// Whether a proxy refuses the relay's credentials if it answers CONNECT with this status.
pub(super) fn refuses_credentials(status: u16) -> bool {
    matches!(status, 401 | 403 | 407)
}

/// The pause before the next attempt, after `failures` failed ones. `time_left` is the time until the last caller's deadline
/// (`None`: no deadline). Full jitter, with `jitter` in 0..1. `None`: no time is left for another attempt.
pub(super) fn backoff(failures: u32, time_left: Option<Duration>, jitter: f64) -> Option<Duration> {
    let bound = match time_left {
        None => exponential_pause(failures, MAX_BACKOFF_WITHOUT_DEADLINE),
        // The last attempt has some time for its answer.
        Some(time_left) if time_left >= INITIAL_BACKOFF => {
            exponential_pause(failures, MAX_BACKOFF).min(time_left - INITIAL_BACKOFF / 2)
        }
        Some(_) => return None,
    };
    Some(bound.mul_f64(jitter.clamp(0.0, 1.0)))
}

/// 0.5 s, 1 s, 2 s ... `max`, for the first, second, third ... time in a row.
fn exponential_pause(times: u32, max: Duration) -> Duration {
    INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(max)
}

/// The pause that Segment named. `None` if it is shorter than the first backoff, such as 0 or a date in the past.
pub(super) fn usable_retry_after(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.filter(|pause| *pause >= INITIAL_BACKOFF)
}

fn retryable(error: SegmentError, retry_after: Option<Duration>, outcome_unknown: bool) -> ResponseClass {
    ResponseClass::Retryable { error, retry_after, outcome_unknown }
}

/// Segment's message as it follows the relay's sentence. It is left out as a whole if it repeats a secret, and `[...]` stands
/// for what may be an encoded one.
fn shown_message(body: &[u8], secrets: &SecretForms) -> String {
    match body::message(body) {
        message if message.is_empty() => message,
        message if secrets.are_in(&message) => ": its message repeats a secret and is left out".to_owned(),
        message => format!(": {}", body::cut(&without_codes(&message))),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
