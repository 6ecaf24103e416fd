//! Whose trouble a failed request is. Pure: time is an argument.
//!
//! The status of an answer does not say it; the evidence does. Three failed requests in a row with nothing accepted between
//! them are an *outage*, or up to 24 where requests fail often anyway: nobody's calls are at fault, and the gate lets one request
//! at a time through as a probe. While other
//! requests are accepted, a failure is the trouble of the request's own calls. A request of suspects alone (calls that failed
//! alone before) is no evidence of an outage when it fails; when it is accepted, Segment is well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::MAX_CALLS;
use super::retry::MAX_RETRY_AFTER;
use crate::segment::{ErrorCode, FailureReason, SegmentError};

/// Failures in a row that are an outage. Fewer may be the fault of one call.
pub const FAILURES_OF_AN_OUTAGE: u32 = 3;

/// Each outage that is over makes the next one need four times as many failures, this often at most: then 192 in a row are one. So
/// hundreds of users whose calls fail on their own are told apart from an outage though few others post.
const MAX_ALARMS: u32 = 3;

/// Longest pause between two probes after two outages within a minute: perhaps most users' calls fail on their own, and few of
/// those who are asked can show it.
const MAX_REPEATED_PAUSE: Duration = Duration::from_millis(500);

/// For how long it counts that an outage was over.
const ALARM_TIME: Duration = Duration::from_secs(60);

/// What a failure counts at least, so that 24 in a row are an outage however many calls fail on their own.
const MIN_WEIGHT: f64 = 0.125;

/// For how long an acceptance shows that others are accepted: as long as the longest pause between two probes.
const ACCEPTANCE_WINDOW: Duration = MAX_PROBE_PAUSE;

/// From the last failure of a beginning outage to the first probe. A blip is over by then.
const FIRST_PROBE_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two probes: what an outage lasts longer here than at Segment.
pub(super) const MAX_PROBE_PAUSE: Duration = Duration::from_secs(5);

/// The same for a proxy that refuses the relay's credentials, which no customer can cause. Directories lock an account after a
/// handful of failures.
const FIRST_PROXY_PAUSE: Duration = Duration::from_secs(5);
const MAX_PROXY_PAUSE: Duration = Duration::from_secs(60);

/// First pause after a rate limit that names no time, as in Segment's SDKs. It doubles up to [`MAX_PROBE_PAUSE`].
const FIRST_LIMIT_PAUSE: Duration = Duration::from_millis(500);

/// Requests at once after an outage. Each acceptance doubles it, so that Segment is not met by everybody at once.
const FIRST_AT_ONCE: usize = 2;

/// How many of the users who were asked last are remembered, so that direct callers of others are asked.
const MAX_ASKED: usize = 16;

/// Weight of one call in the share of culprits: the share follows the last hundred calls or so.
const CULPRIT_WEIGHT: f64 = 1.0 / 128.0;

/// An outage that is over earlier is not logged.
const LOG_AFTER: Duration = Duration::from_secs(1);

/// What is known about Segment.
#[derive(Default)]
pub(super) struct Trouble {
    /// Failed requests since the last accepted one, without those of parked calls; and the weight of those that are
    /// evidence of an outage.
    failed_in_a_row: u32,
    evidence_in_a_row: f64,
    last_accepted: Option<Instant>,
    last_failure: Option<LastFailure>,
    shut: Option<Shut>,
    /// Rate limits without a time since the last acceptance.
    unnamed_limits: u32,
    /// Requests at once, while Segment comes back.
    at_once: Option<usize>,
    /// The share of calls that fail on their own. Each one is counted once, at the request with first attempts that fails
    /// because of it: the search finds one culprit, and the others are in a later request with first attempts.
    culprits: f64,
    /// Requests with first attempts that failed since the last acceptance. Each held a culprit if there is no outage.
    unjudged: i32,
    /// How many outages there were, each within [`ALARM_TIME`] of the one before, and when the last one was over.
    alarms: u32,
    last_alarm: Option<Instant>,
    logged_reasons: Vec<Option<FailureReason>>,
    /// Whose calls this is about, for logs. Empty: everybody's.
    sources: Vec<String>,
}

/// The last failed request that says something about Segment.
#[derive(Clone, Copy)]
pub(super) struct LastFailure {
    pub(super) code: ErrorCode,
    pub(super) reason: Option<FailureReason>,
    pub(super) at: Instant,
}

/// The gate is shut.
struct Shut {
    /// Why, for callers who cannot wait.
    error: SegmentError,
    since: Instant,
    next_probe: Instant,
    /// The last pause before a probe.
    pause: Duration,
    max_pause: Duration,
    /// The end of the longest wait of a rate limit. Nothing opens the gate earlier.
    limited_until: Option<Instant>,
    is_probing: bool,
    failed_probes: u32,
    /// The users who were asked last.
    asked: VecDeque<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// No request before this time.
    ShutUntil(Instant),
    /// One user's calls may be sent.
    ProbeDue,
    /// The answer to the probe is awaited.
    Probing,
}

/// A failed request.
pub(super) struct FailedRequest<'a> {
    pub(super) error: &'a SegmentError,
    pub(super) started: Instant,
    pub(super) is_probe: bool,
    /// It held a call that never failed alone.
    pub(super) is_evidence: bool,
    /// It held a parked call.
    pub(super) is_parked: bool,
    /// The chance that it fails though Segment is well.
    pub(super) chance: f64,
}

impl Trouble {
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match &self.shut {
            None => Gate::Open,
            Some(shut) if shut.is_probing => Gate::Probing,
            Some(shut) if shut.next_probe > now => Gate::ShutUntil(shut.next_probe),
            Some(_) => Gate::ProbeDue,
        }
    }

    /// The next time at which a request may be sent, and the error of calls that cannot wait. `None` while the gate is open.
    pub(super) fn shut_until(&self) -> Option<(Instant, &SegmentError)> {
        self.shut.as_ref().map(|shut| (shut.next_probe, &shut.error))
    }

    /// Since when the gate is shut. `None` while it is open.
    pub(super) fn shut_since(&self) -> Option<Instant> {
        self.shut.as_ref().map(|shut| shut.since)
    }

    /// Whether callers hear the trouble at once, because it is about the relay: its credentials, or the address of Segment. If
    /// others were accepted just before, the first probe tells whose trouble it is.
    pub(super) fn is_ours(&self) -> bool {
        let code = self.shut.as_ref().map(|shut| shut.error.code);
        matches!(code, Some(ErrorCode::Unauthorized | ErrorCode::Misconfigured)) && !self.is_unjudged()
    }

    /// Whether the gate was shut just after others were accepted, and no probe has an answer yet.
    pub(super) fn is_unjudged(&self) -> bool {
        self.shut.as_ref().is_some_and(|shut| {
            let has_answer = shut.asked.len() > usize::from(shut.is_probing);
            !has_answer && self.last_accepted.is_some_and(|at| at + ACCEPTANCE_WINDOW >= shut.since)
        })
    }

    /// Whether this user was asked in the present outage.
    pub(super) fn was_asked(&self, user_id: &Arc<str>) -> bool {
        self.shut.as_ref().is_some_and(|shut| shut.asked.contains(user_id))
    }

    /// How many probes have failed in it.
    pub(super) fn failed_probes(&self) -> u32 {
        self.shut.as_ref().map_or(0, |shut| shut.failed_probes)
    }

    /// How many requests may be in flight, of so many slots.
    pub(super) fn at_once(&self, slots: usize) -> usize {
        self.at_once.map_or(slots, |at_once| at_once.min(slots))
    }

    pub(super) fn failed_in_a_row(&self) -> u32 {
        self.failed_in_a_row
    }

    pub(super) fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure
    }

    /// Whether a request was accepted after `since`, or shortly before it: a request that fails slowly is judged by its start.
    /// Never while the gate is shut.
    pub(super) fn others_are_accepted(&self, since: Instant) -> bool {
        self.shut.is_none() && self.last_accepted.is_some_and(|at| at + ACCEPTANCE_WINDOW >= since)
    }

    /// Whether a request was accepted within this time. Never while the gate is shut.
    pub(super) fn are_accepted_within(&self, time: Duration, now: Instant) -> bool {
        self.shut.is_none() && self.last_accepted.is_some_and(|at| now.duration_since(at) <= time)
    }

    /// The calls of a request for which finding the culprits costs least: a request fails about half of the time then.
    /// (Group testing: the best size is about ln 2 over the share of culprits.)
    pub(super) fn group_size(&self) -> usize {
        let size = std::f64::consts::LN_2 / self.culprits.max(f64::MIN_POSITIVE);
        if size >= MAX_CALLS as f64 { MAX_CALLS } else { (size as usize).max(1) }
    }

    /// The chance that a request with so many calls fails though Segment is well.
    pub(super) fn chance_to_fail(&self, calls: usize) -> f64 {
        1.0 - (1.0 - self.culprits).powi(i32::try_from(calls).unwrap_or(i32::MAX))
    }

    /// A request with first attempts was refused: it holds a culprit.
    pub(super) fn culprit_found(&mut self) {
        self.culprits += (1.0 - self.culprits) * CULPRIT_WEIGHT;
    }

    /// A request with first attempts failed: it holds a culprit, if the next acceptance shows that this is no outage.
    pub(super) fn culprit_suspected(&mut self) {
        self.unjudged = self.unjudged.saturating_add(1);
    }

    /// A probe is sent with calls of this user.
    pub(super) fn probe_sent(&mut self, user_id: &Arc<str>) {
        let Some(shut) = &mut self.shut else { return };
        shut.is_probing = true;
        if shut.asked.len() == MAX_ASKED {
            shut.asked.pop_front();
        }
        shut.asked.push_back(user_id.clone());
    }

    /// A request with so many calls was accepted. True if that opens the gate.
    pub(super) fn accepted(&mut self, calls: usize, is_probe: bool, slots: usize, now: Instant) -> bool {
        self.failed_in_a_row = 0;
        self.evidence_in_a_row = 0.0;
        self.unnamed_limits = 0;
        self.last_accepted = Some(now);
        self.culprits = 1.0 - (1.0 - self.culprits) * (1.0 - CULPRIT_WEIGHT).powi(std::mem::take(&mut self.unjudged));
        self.culprits *= (1.0 - CULPRIT_WEIGHT).powi(i32::try_from(calls).unwrap_or(i32::MAX));
        self.at_once = self.at_once.map(|at_once| at_once * 2).filter(|at_once| *at_once < slots);
        let Some(shut) = &mut self.shut else {
            self.log_end();
            return false;
        };
        if let Some(until) = shut.limited_until.filter(|until| *until > now) {
            shut.is_probing &= !is_probe;
            shut.next_probe = until;
            return false;
        }
        let (was_short, is_alarm) = (now.duration_since(shut.since) < MAX_PROBE_PAUSE, shut.limited_until.is_none());
        self.shut = None;
        self.at_once = (!was_short).then_some(FIRST_AT_ONCE);
        if is_alarm {
            self.alarms = (self.recent_alarms(now) + 1).min(MAX_ALARMS);
            self.last_alarm = Some(now);
        }
        self.log_end();
        true
    }

    /// Segment refused the calls of a request for good: it answers.
    pub(super) fn refused(&mut self, is_probe: bool, now: Instant) {
        if is_probe && let Some(shut) = &mut self.shut {
            shut.is_probing = false;
            shut.pause = shut.pause.min(FIRST_PROBE_PAUSE);
            shut.next_probe = (now + shut.pause).max(shut.limited_until.unwrap_or(now));
        }
    }

    /// A request failed.
    pub(super) fn failed(&mut self, failed: &FailedRequest<'_>, now: Instant) {
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(u32::from(!failed.is_parked));
        if failed.is_evidence || failed.is_probe {
            self.note_failure(failed.error, now);
        }
        if failed.is_evidence && self.last_accepted.is_none_or(|at| at <= failed.started) {
            self.evidence_in_a_row += weight(failed.chance);
        }
        let is_proxy = is_proxys(failed.error);
        let (first, max_pause) = match self.recent_alarms(now) {
            _ if is_proxy => (FIRST_PROXY_PAUSE, MAX_PROXY_PAUSE),
            0 | 1 => (FIRST_PROBE_PAUSE, MAX_PROBE_PAUSE),
            _ => (FIRST_PROBE_PAUSE, MAX_REPEATED_PAUSE),
        };
        let is_outage = self.evidence_in_a_row >= f64::from(self.failures_of_an_outage(now));
        match &mut self.shut {
            Some(shut) if failed.is_probe => {
                shut.is_probing = false;
                shut.failed_probes = shut.failed_probes.saturating_add(1);
                shut.max_pause = max_pause;
                shut.pause = (shut.pause * 2).clamp(first, max_pause);
                shut.next_probe = (now + jittered(shut.pause, is_proxy)).max(shut.limited_until.unwrap_or(now));
                shut.error = failed.error.clone();
            }
            Some(shut) if is_proxy && shut.max_pause < max_pause => {
                (shut.pause, shut.max_pause) = (first, max_pause);
                shut.next_probe = shut.next_probe.max(now + jittered(first, is_proxy));
                shut.error = failed.error.clone();
            }
            None if is_proxy || is_outage => {
                self.shut = Some(Shut::new(failed.error, now, now + jittered(first, is_proxy), first, max_pause));
                self.at_once = None;
            }
            _ => {}
        }
        // Failures between acceptances are the trouble of some calls: nothing to wake anybody for.
        let is_long = self.last_accepted.is_none_or(|at| now.duration_since(at) >= LOG_AFTER);
        if is_proxy || is_long && self.failed_in_a_row >= FAILURES_OF_AN_OUTAGE {
            self.log(failed.error);
        }
    }

    fn note_failure(&mut self, error: &SegmentError, now: Instant) {
        self.last_failure = Some(LastFailure { code: error.code, reason: error.reason, at: now });
    }

    fn failures_of_an_outage(&self, now: Instant) -> u32 {
        FAILURES_OF_AN_OUTAGE << (2 * self.recent_alarms(now))
    }

    /// The number of outages that were over lately.
    fn recent_alarms(&self, now: Instant) -> u32 {
        let is_recent = self.last_alarm.is_some_and(|at| now.duration_since(at) <= ALARM_TIME);
        if is_recent { self.alarms } else { 0 }
    }

    /// Segment asks the relay to wait.
    pub(super) fn rate_limited(&mut self, error: &SegmentError, named: Option<Duration>, is_probe: bool, now: Instant) {
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.note_failure(error, now);
        let pause = named.map_or_else(
            || {
                // The others that were in flight say the same.
                if is_probe {
                    self.unnamed_limits = self.unnamed_limits.saturating_add(1);
                }
                let doublings = self.unnamed_limits.saturating_sub(1);
                let doubled = FIRST_LIMIT_PAUSE.saturating_mul(2_u32.saturating_pow(doublings));
                doubled.min(MAX_PROBE_PAUSE)
            },
            |named| named.min(MAX_RETRY_AFTER),
        );
        let until = now + pause;
        let shut = self.shut.get_or_insert_with(|| Shut::new(error, now, until, FIRST_PROBE_PAUSE, MAX_PROBE_PAUSE));
        shut.is_probing &= !is_probe;
        let until = shut.limited_until.map_or(until, |before| before.max(until));
        shut.limited_until = Some(until);
        shut.next_probe = shut.next_probe.max(until);
        shut.error = error.clone();
        self.log(error);
    }
}

impl Shut {
    fn new(error: &SegmentError, since: Instant, next_probe: Instant, pause: Duration, max_pause: Duration) -> Self {
        Self {
            error: error.clone(),
            since,
            next_probe,
            pause,
            max_pause,
            limited_until: None,
            is_probing: false,
            failed_probes: 0,
            asked: VecDeque::new(),
        }
    }
}

/// What a failure counts of [`FAILURES_OF_AN_OUTAGE`]: the less, the likelier it was. One that comes every second time counts a
/// quarter, so that twelve in a row, one run in 4,096, are an outage; as many as three that come one time in 16.
fn weight(chance: f64) -> f64 {
    (-chance.log2() / 4.0).clamp(MIN_WEIGHT, 1.0)
}

/// Whether a proxy refused the relay's credentials. A status 407 is a proxy's, whoever the request was sent to.
pub(super) fn is_proxys(error: &SegmentError) -> bool {
    error.code == ErrorCode::Unauthorized
        && matches!(error.reason, Some(FailureReason::Proxy(_) | FailureReason::Status(407)))
}

/// The pause less up to a tenth, so that several relays do not ask at the same time. A proxy is asked no earlier than said.
fn jittered(pause: Duration, is_proxy: bool) -> Duration {
    if is_proxy { pause } else { pause.mul_f64(1.0 - fastrand::f64() / 10.0) }
}

mod log;
#[cfg(test)]
mod tests;
