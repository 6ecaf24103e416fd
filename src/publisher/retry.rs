//! What an answer of Segment's means, and how long to wait. Pure: time and chance come in as arguments.
//!
//! Three kinds of trouble are kept apart: about *this call* (it is refused), *passing* (it is tried again) and about *us*
//! (no call is at fault). What Segment answers and what its SDKs do about it was read from their sources.

use std::time::{Duration, SystemTime};

use crate::segment::{ErrorCode, SegmentError};

/// Segment's `Retry-After` is believed up to here, as its SDKs do.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The first backoff's upper bound, as in Segment's server SDKs.
const BACKOFF: Duration = Duration::from_millis(500);

/// A backoff's upper bound while somebody waits, as in Segment's server SDKs.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A backoff's upper bound for calls that can wait: an outage of hours is asked about a dozen times an hour, as often as
/// Segment's longest `Retry-After` would have it.
const MAX_PATIENT_BACKOFF: Duration = MAX_RETRY_AFTER;

/// How long to wait when Segment judged that it was asked too often (422), before starting over without a retry count.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(60);

/// How many characters of Segment's words are passed on. Its longest known are under a hundred.
const MAX_WORDS: usize = 500;

/// How an attempt ended. No `Debug`: Segment's words are not for logs.
pub(super) enum Answer {
    /// Segment answered.
    Status {
        status: u16,
        /// The `Retry-After` header, if it is text.
        retry_after: Option<String>,
        /// The body's beginning.
        body: Vec<u8>,
    },
    /// No connection: nothing was sent.
    NotSent(String),
    /// The request was under way when it failed: it may have been accepted.
    Lost(String),
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// This request for good: if it holds one call, that call.
    Refused {
        why: SegmentError,
        status: u16,
    },
    /// Try this request again; the error is for those who cannot wait. `unknown`: it may have been accepted.
    Passing {
        why: SegmentError,
        retry_after: Option<Duration>,
        unknown: bool,
    },
    /// Try again after a long pause, as if for the first time.
    Exhausted {
        why: SegmentError,
        pause: Duration,
    },
    /// Nothing may be sent until then.
    RateLimited {
        why: SegmentError,
        retry_after: Option<Duration>,
    },
    /// Credentials or endpoint: nothing may be sent for a while, and no call is at fault.
    AboutUs(SegmentError),
}

impl Verdict {
    /// The `result` label of `segment_relay_segment_attempts_total`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused { .. } => "refused",
            Self::Passing { unknown: false, .. } => "unavailable",
            Self::Passing { unknown: true, .. } => "unknown",
            Self::Exhausted { .. } => "exhausted",
            Self::RateLimited { .. } => "rate_limited",
            Self::AboutUs(why) if why.code == ErrorCode::Unauthorized => "unauthorized",
            Self::AboutUs(_) => "misconfigured",
        }
    }
}

/// What an answer means.
pub(super) fn judge(answer: &Answer, now: SystemTime) -> Verdict {
    let (status, retry_after, body) = match answer {
        Answer::Status { status, retry_after, body } => (*status, retry_after.as_deref(), body),
        Answer::NotSent(why) => return passing(format!("Segment could not be reached: {why}"), None, false),
        Answer::Lost(why) => return passing(format!("Segment did not answer: {why}"), None, true),
    };
    let words = words(body);
    let retry_after = retry_after.and_then(|header| parse_retry_after(header, now));
    match status {
        200..=299 if says_failure(body) => Verdict::Refused { why: refused(status, &words), status },
        200..=299 => Verdict::Accepted,
        429 => Verdict::RateLimited {
            why: SegmentError::new(ErrorCode::RateLimited, said("Segment told us to wait", status, &words)),
            retry_after,
        },
        422 => Verdict::Exhausted {
            why: SegmentError::new(ErrorCode::Unavailable, said("Segment was asked too often", status, &words)),
            pause: a_pause(retry_after).unwrap_or(EXHAUSTED_PAUSE),
        },
        401 | 403 => Verdict::AboutUs(SegmentError::new(
            ErrorCode::Unauthorized,
            said("Segment refused the relay's credentials", status, &words),
        )),
        100..=199 | 300..=399 | 404 | 501 | 505 => Verdict::AboutUs(SegmentError::new(
            ErrorCode::Misconfigured,
            said("what answers at the endpoint is not Segment's API", status, &words),
        )),
        408 | 410 | 460 | 500.. => passing(said("Segment failed", status, &words), retry_after, false),
        _ => Verdict::Refused { why: refused(status, &words), status },
    }
}

/// How long to wait before the next attempt, after `failures` failed ones, when whoever waits longest does so for `left`
/// (`None`: as long as it takes): full jitter, `chance` in 0..1. None: there is no time for another attempt.
pub(super) fn backoff(failures: u32, left: Option<Duration>, chance: f64) -> Option<Duration> {
    let bound = match left {
        None => doubled(failures, MAX_PATIENT_BACKOFF),
        Some(left) if left >= BACKOFF => doubled(failures, MAX_BACKOFF).min(left),
        Some(_) => return None,
    };
    Some(bound.mul_f64(chance.clamp(0.0, 1.0)))
}

/// 0.5 s, 1 s, 2 s ... `longest`, by how often in a row.
pub(super) fn doubled(times: u32, longest: Duration) -> Duration {
    BACKOFF.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(longest)
}

/// What Segment named, unless it is so short that it would be no pause at all (0, or a date that is over).
pub(super) fn a_pause(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.filter(|pause| *pause >= BACKOFF)
}

fn passing(message: String, retry_after: Option<Duration>, unknown: bool) -> Verdict {
    Verdict::Passing { why: SegmentError::new(ErrorCode::Unavailable, message), retry_after, unknown }
}

fn refused(status: u16, words: &str) -> SegmentError {
    SegmentError::new(ErrorCode::Rejected, said("Segment refused this call", status, words))
}

fn said(what: &str, status: u16, words: &str) -> String {
    if words.is_empty() { format!("{what} ({status})") } else { format!("{what} ({status}): {words}") }
}

/// Segment's words: the JSON `message`, else the text itself; one line, bounded.
fn words(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json
        .as_ref()
        .and_then(|json| ["/message", "/error", "/error/message"].iter().find_map(|at| json.pointer(at)?.as_str()));
    let text = match (message, &json) {
        (Some(message), _) => message.into(),
        // JSON without words, such as {"success":false}, says nothing to a reader.
        (None, Some(serde_json::Value::Object(_))) => return String::new(),
        (None, _) => String::from_utf8_lossy(body),
    };
    let one_line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    one_line.collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
}

/// Whether a 2xx says `"success": false`. Of one that cannot be read as a whole, what there is has to do.
fn says_failure(body: &[u8]) -> bool {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(whole) => whole.get("success") == Some(&serde_json::Value::Bool(false)),
        Err(_) => {
            let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let failure = br#""success":false"#;
            text.windows(failure.len()).any(|window| window == failure)
        }
    }
}

/// `Retry-After` as seconds or as an HTTP date, at most [`MAX_RETRY_AFTER`]. A date in the past is no pause at all.
fn parse_retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    let pause = if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // So many digits that they are no number of seconds any more are still a long time.
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
