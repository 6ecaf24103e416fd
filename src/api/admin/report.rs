//! What `GET /status` says of Segment and the outbox. The composition root injects functions that make these reports.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::metrics::Summary;
use crate::segment::{ErrorCode, FailureReason, rfc3339_milliseconds};
use crate::sources::Source;

/// The way to Segment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// The endpoint, without a secret.
    pub endpoint: String,
    /// Whether calls are sent now.
    pub sending: bool,
    /// Requests that failed since one was accepted, whatever the reason. Refusals and failures of parked calls do not count.
    pub failed_in_a_row: u32,
    pub gate: GateReport,
    /// The last failed request that says something about Segment, however long ago. `null` if none failed since the start.
    pub last_trouble: Option<TroubleReport>,
    /// The sources whose write key Segment refuses while it may accept another one. `POST /customers` is one of them.
    pub refused_sources: Vec<String>,
}

/// The gate stops all requests but probes: in an outage, at a rate limit, or while a proxy refuses the relay's credentials.
#[derive(Clone, Debug, Serialize)]
pub struct GateReport {
    pub shut: bool,
    /// Why it is shut, as the `code` of an error. `null` while it is open.
    pub code: Option<&'static str>,
    /// Since when it is shut, RFC 3339. `null` while it is open.
    pub since: Option<String>,
    /// The time of the next attempt, RFC 3339. `null` while it is open.
    pub until: Option<String>,
}

/// A failed request to Segment.
#[derive(Clone, Debug, Serialize)]
pub struct TroubleReport {
    /// What the failure means, as the `code` of an error.
    pub code: &'static str,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed, in the relay's own words.
    pub why: &'static str,
    /// RFC 3339.
    pub at: String,
}

/// A gate that is shut.
#[derive(Clone, Copy, Debug)]
pub struct ShutGate {
    /// The code of the reason.
    pub code: &'static str,
    pub shut_for: Duration,
    /// The time until the next attempt.
    pub opens_in: Duration,
}

impl SegmentReport {
    /// `shut`: the gate, while it is shut.
    pub fn new(endpoint: String, failed_in_a_row: u32, shut: Option<ShutGate>) -> Self {
        let now = Timestamp::now();
        let since = shut.and_then(|gate| now.checked_sub(gate.shut_for).ok()).map(rfc3339_milliseconds);
        let until = shut.and_then(|gate| now.checked_add(gate.opens_in).ok()).map(rfc3339_milliseconds);
        let gate = GateReport { shut: shut.is_some(), code: shut.map(|gate| gate.code), since, until };
        Self {
            endpoint,
            sending: shut.is_none(),
            failed_in_a_row,
            gate,
            last_trouble: None,
            refused_sources: Vec::new(),
        }
    }
}

impl TroubleReport {
    /// A request that failed so long ago.
    pub fn new(code: ErrorCode, reason: Option<FailureReason>, ago: Duration) -> Self {
        let at = Timestamp::now().checked_sub(ago).unwrap_or_default();
        Self {
            code: code.as_str(),
            status: reason.and_then(FailureReason::status),
            why: reason.map_or("the request failed", FailureReason::sentence),
            at: rfc3339_milliseconds(at),
        }
    }
}

/// The outbox.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxReport {
    /// Calls that wait to be delivered.
    pub waiting: u64,
    /// The age of the oldest waiting call. `null` if none waits.
    pub oldest_seconds: Option<u64>,
    pub parked: ParkedReport,
    /// Since the start: calls that were stored, that Segment accepted, that it refused, and that were given up.
    pub stored_total: u64,
    pub delivered_total: u64,
    pub refused_total: u64,
    pub gave_up_total: u64,
    pub dead_letters: u64,
    pub dead_letter_bytes: u64,
    /// Remembered idempotency keys.
    pub keys: u64,
    /// Bytes of calls, keys and dead letters on disk, and their limit.
    pub bytes: u64,
    pub max_bytes: u64,
    /// Why nothing can be stored now.
    pub trouble: Option<&'static str>,
    /// How long transactions take, their syncs included.
    pub commit_ms: DurationSummary,
    /// How long the syncs alone take.
    pub sync_ms: DurationSummary,
    /// Sources that are not configured, of which calls wait.
    pub unconfigured_sources: Vec<UnconfiguredSource>,
}

/// A source that is not configured. Its calls wait, and are sent when it is again.
#[derive(Clone, Debug, Serialize)]
pub struct UnconfiguredSource {
    pub name: String,
    /// How many calls wait, and their bytes.
    pub calls: u64,
    pub bytes: u64,
}

/// A source that is configured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceReport {
    name: String,
    /// How its senders are verified: the name of a preset or a scheme.
    verify: String,
    /// Since the start, by outcome.
    events: BTreeMap<&'static str, u64>,
    /// How many stored calls wait, and their bytes.
    waiting: u64,
    waiting_bytes: u64,
}

impl SourceReport {
    /// The gauges of the source must be up to date.
    pub(super) fn of(source: &Source) -> Self {
        let Source { settings, metrics } = source;
        Self {
            name: settings.name.to_string(),
            verify: settings.verify.clone(),
            events: metrics.outcomes(),
            waiting: metrics.waiting_calls.get().max(0).cast_unsigned(),
            waiting_bytes: metrics.waiting_bytes.get().max(0).cast_unsigned(),
        }
    }
}

/// Users whose first waiting call fails on its own.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ParkedReport {
    pub users: u64,
    /// Waiting calls that are kept apart: those of parked users, and of users with very many.
    pub calls: u64,
    /// Bytes of the calls of parked users. With the dead letters they may take half of the outbox.
    pub bytes: u64,
}

/// Durations since the start, in milliseconds. p50 and p99 are estimates.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DurationSummary {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
}

impl DurationSummary {
    /// From a histogram in seconds.
    pub fn from_seconds(seconds: &Summary) -> Self {
        let Summary { count, mean, p50, p99 } = *seconds;
        // Rounded to a microsecond: more digits would only look exact.
        let ms = |seconds: f64| (seconds * 1e6).round() / 1e3;
        Self { count, mean: ms(mean), p50: ms(p50), p99: ms(p99) }
    }
}
