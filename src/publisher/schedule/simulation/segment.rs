//! A Segment whose answers follow from the users in a request, and from the weather.

use std::time::Duration;

use crate::publisher::retry::ResponseClass;
use crate::segment::{ErrorCode, FailureReason, SegmentError};

/// What Segment says to a request that holds a call of this user, until the user is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sound,
    /// Sound, with as many calls as 20 others.
    Hot,
    /// Status 500.
    Stuck,
    /// Status 403.
    Blocked,
    /// Status 400, for ever.
    Refused,
    /// Status 500 after 3 s.
    Slow,
    /// Status 503, with a pause of 25 s.
    Busy,
    /// No answer: the relay's timeout ends the request.
    Hanging,
}

impl Kind {
    pub(super) fn is_sound(self) -> bool {
        matches!(self, Self::Sound | Self::Hot)
    }
}

/// What Segment says to everybody.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    Unavailable,
    Busy,
    Unauthorized,
    Reset,
    Hanging,
    Limited(Option<Duration>),
    /// A proxy wants other credentials.
    Proxy,
    Exhausted,
    /// This share of the requests gets 503.
    Flaky(f64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) weather: Weather,
}

/// The relay's timeout of a request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// The answer to a request that starts at `now` with calls of users of these kinds, and how long it takes.
pub(super) fn answer(
    kinds: impl Iterator<Item = Kind>,
    now: Duration,
    phases: &[Phase],
    is_key_refused: bool,
    latency: Duration,
    random: f64,
) -> (Duration, ResponseClass) {
    let phase = phases.iter().find(|phase| (phase.from..phase.until).contains(&now));
    if let Some((pause, class)) = phase.and_then(|phase| in_weather(phase, now, random)) {
        return (latency + pause, class);
    }
    if is_key_refused {
        return (latency, status(401, None));
    }
    for kind in kinds {
        let (pause, class) = match kind {
            Kind::Sound | Kind::Hot => continue,
            Kind::Stuck => (Duration::ZERO, status(500, None)),
            Kind::Blocked => (Duration::ZERO, status(403, None)),
            Kind::Refused => (Duration::ZERO, status(400, None)),
            Kind::Slow => (Duration::from_secs(3), status(500, None)),
            Kind::Busy => (Duration::ZERO, status(503, Some(Duration::from_secs(25)))),
            Kind::Hanging => (TIMEOUT, no_answer(FailureReason::Timeout)),
        };
        return (latency + pause, class);
    }
    (latency, ResponseClass::Accepted)
}

fn in_weather(phase: &Phase, now: Duration, random: f64) -> Option<(Duration, ResponseClass)> {
    let (pause, class) = match phase.weather {
        Weather::Flaky(rate) if random >= rate => return None,
        Weather::Flaky(_) | Weather::Unavailable => (Duration::ZERO, status(503, None)),
        Weather::Busy => (Duration::ZERO, status(503, Some(Duration::from_secs(25)))),
        Weather::Unauthorized => (Duration::ZERO, status(401, None)),
        Weather::Proxy => (Duration::ZERO, status(407, None)),
        Weather::Exhausted => (Duration::ZERO, status(422, None)),
        Weather::Reset => (Duration::ZERO, no_answer(FailureReason::ConnectionReset)),
        Weather::Hanging => (TIMEOUT, no_answer(FailureReason::Timeout)),
        // Segment names the end of its limit.
        Weather::Limited(Some(most)) => (Duration::ZERO, status(429, Some((phase.until - now).min(most)))),
        Weather::Limited(None) => (Duration::ZERO, status(429, None)),
    };
    Some((pause, class))
}

fn status(status: u16, retry_after: Option<Duration>) -> ResponseClass {
    let error = |code| SegmentError::new(code, "simulated").because(FailureReason::Status(status));
    match status {
        400 => ResponseClass::Refused { error: error(ErrorCode::Rejected), status },
        401 | 403 | 407 => ResponseClass::ConfigurationError(error(ErrorCode::Unauthorized)),
        422 => ResponseClass::RetriesExhausted { error: error(ErrorCode::Unavailable), pause: Duration::from_secs(60) },
        429 => ResponseClass::RateLimited { error: error(ErrorCode::RateLimited), retry_after },
        _ => ResponseClass::Retryable { error: error(ErrorCode::Unavailable), retry_after, outcome_unknown: false },
    }
}

fn no_answer(reason: FailureReason) -> ResponseClass {
    let error = SegmentError::new(ErrorCode::Unavailable, "simulated").because(reason);
    ResponseClass::Retryable { error, retry_after: None, outcome_unknown: true }
}
