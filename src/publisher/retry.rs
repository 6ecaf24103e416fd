//! Classifies the result of a request to Segment, and computes pauses. Pure: time and jitter are arguments.
//!
//! A failure concerns one of three things: the request's calls (they are refused), Segment or the network (the request is
//! retried), or the relay's configuration (no call is at fault). Segment's answers, and what its SDKs do about them, were
//! read from the SDKs' sources.

use std::time::{Duration, SystemTime};

use crate::segment::{ErrorCode, SegmentError};

/// Longest `Retry-After` that is honoured, as in Segment's SDKs.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Upper bound of the first backoff, as in Segment's server SDKs.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);

/// Upper bound of a backoff while a caller waits, as in Segment's server SDKs.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Upper bound of a backoff for calls without a deadline. During a long outage Segment gets about a dozen attempts an hour,
/// as often as its longest `Retry-After` allows.
const MAX_BACKOFF_WITHOUT_DEADLINE: Duration = MAX_RETRY_AFTER;

/// Pause after Segment reports too many retries (422): as long as the longest backoff of Segment's SDKs. Then the retry
/// count starts over.
const RETRIES_EXHAUSTED_PAUSE: Duration = Duration::from_secs(60);

/// Longest part of Segment's message that is passed on, in characters. Its longest known messages are under a hundred.
const MAX_MESSAGE_CHARS: usize = 500;

/// The result of one request. No `Debug`: Segment's messages are not for logs.
pub(super) enum SendResult {
    /// Segment answered. `retry_after` is the header, if it is text; `body` is the beginning of the body.
    Response { status: u16, retry_after: Option<String>, body: Vec<u8> },
    /// The connection failed: nothing was sent.
    NotSent(String),
    /// The request failed after it was sent: Segment may have accepted it.
    NoResponse(String),
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

pub(super) fn classify(result: &SendResult, now: SystemTime) -> ResponseClass {
    let (status, retry_after, body) = match result {
        SendResult::Response { status, retry_after, body } => (*status, retry_after.as_deref(), body),
        SendResult::NotSent(cause) => return retryable(format!("Segment could not be reached: {cause}"), None, false),
        SendResult::NoResponse(cause) => return retryable(format!("Segment did not answer: {cause}"), None, true),
    };
    let message = response_message(body);
    let retry_after = retry_after.and_then(|header| parse_retry_after(header, now));
    let error = |code, summary: &str| SegmentError::new(code, with_status(summary, status, &message));
    let refused = || ResponseClass::Refused { error: error(ErrorCode::Rejected, "Segment refused this call"), status };
    match status {
        200..=299 if says_failure(body) => refused(),
        200..=299 => ResponseClass::Accepted,
        429 => ResponseClass::RateLimited {
            error: error(ErrorCode::RateLimited, "Segment asked the relay to wait"),
            retry_after,
        },
        422 => ResponseClass::RetriesExhausted {
            error: error(ErrorCode::Unavailable, "Segment reported too many retries"),
            pause: usable_retry_after(retry_after).unwrap_or(RETRIES_EXHAUSTED_PAUSE),
        },
        401 | 403 => {
            ResponseClass::ConfigurationError(error(ErrorCode::Unauthorized, "Segment refused the relay's credentials"))
        }
        100..=199 | 300..=399 | 404 | 501 | 505 => ResponseClass::ConfigurationError(error(
            ErrorCode::Misconfigured,
            "what answers at the endpoint is not Segment's API",
        )),
        408 | 410 | 460 | 500.. => retryable(with_status("Segment failed", status, &message), retry_after, false),
        _ => refused(),
    }
}

/// The pause before the next attempt, after `failures` failed ones. `time_left` is the time until the last caller's deadline
/// (`None`: no deadline). Full jitter, with `jitter` in 0..1. `None`: no time is left for another attempt.
pub(super) fn backoff(failures: u32, time_left: Option<Duration>, jitter: f64) -> Option<Duration> {
    let bound = match time_left {
        None => exponential_pause(failures, MAX_BACKOFF_WITHOUT_DEADLINE),
        Some(time_left) if time_left >= INITIAL_BACKOFF => exponential_pause(failures, MAX_BACKOFF).min(time_left),
        Some(_) => return None,
    };
    Some(bound.mul_f64(jitter.clamp(0.0, 1.0)))
}

/// 0.5 s, 1 s, 2 s ... `max`, for the first, second, third ... time in a row.
pub(super) fn exponential_pause(times: u32, max: Duration) -> Duration {
    INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(max)
}

/// The pause that Segment named. `None` if it is shorter than the first backoff, such as 0 or a date in the past.
pub(super) fn usable_retry_after(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.filter(|pause| *pause >= INITIAL_BACKOFF)
}

fn retryable(message: String, retry_after: Option<Duration>, outcome_unknown: bool) -> ResponseClass {
    let error = SegmentError::new(ErrorCode::Unavailable, message);
    ResponseClass::Retryable { error, retry_after, outcome_unknown }
}

fn with_status(summary: &str, status: u16, message: &str) -> String {
    if message.is_empty() { format!("{summary} ({status})") } else { format!("{summary} ({status}): {message}") }
}

/// Segment's message: the JSON `message` or `error`, otherwise the text of the body. One line, bounded.
fn response_message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json
        .as_ref()
        .and_then(|json| ["/message", "/error", "/error/message"].iter().find_map(|at| json.pointer(at)?.as_str()));
    let text = match (message, &json) {
        (Some(message), _) => message.into(),
        // An object without a message, such as {"success":false}, tells a reader nothing.
        (None, Some(serde_json::Value::Object(_))) => return String::new(),
        (None, _) => String::from_utf8_lossy(body),
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_MESSAGE_CHARS).collect()
}

/// Whether the body of a 2xx says `"success": false`. A body that is not valid JSON, such as a truncated one, is searched as
/// text.
fn says_failure(body: &[u8]) -> bool {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => json.get("success") == Some(&serde_json::Value::Bool(false)),
        Err(_) => {
            let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let failure = br#""success":false"#;
            text.windows(failure.len()).any(|window| window == failure)
        }
    }
}

/// `Retry-After` as seconds or as an HTTP date, at most [`MAX_RETRY_AFTER`]. A date in the past is a pause of 0.
fn parse_retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    let pause = if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large to parse is still a long pause.
        header.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        httpdate::parse_http_date(header).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
