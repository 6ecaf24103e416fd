//! `GET /status`: how the relay is, as JSON for a page or a script. Nothing personal and no secret is in it.
//!
//! What only the composition root can see, Segment's side and the outbox, is asked for through closures; the rest is counted
//! anyway.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::Desk;
use crate::api::answer::Answer;
use crate::api::request_id::RequestId;
use crate::metrics::Summary;

/// How the relay is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct Report {
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    /// `serving`, `stopping` or `draining`.
    state: &'static str,
    #[schemars(with = "Shown")]
    segment: SegmentReport,
    /// Null without one.
    outbox: Option<OutboxReport>,
    /// Requests to `POST /customers`, by outcome.
    requests: BTreeMap<&'static str, u64>,
    requests_in_flight: usize,
    /// Calls in hand that are not in a request to Segment.
    calls_waiting: i64,
    slots_busy: i64,
}

/// The way to Segment. Its JSON:
/// `{"endpoint":"...","sending":true,"failedInARow":0,"gate":{"shut":false,"code":null,"until":null}}`.
#[derive(Clone, Debug, Default)]
pub struct SegmentReport {
    /// Where calls are sent; without a secret.
    pub endpoint: String,
    /// Requests that failed in a way that passes since one was accepted: more than a few are an outage.
    pub failed_in_a_row: u32,
    /// Why nothing is sent, as the `code` of an error; none while calls are sent.
    pub gate_code: Option<&'static str>,
    /// How long until the next try, if nothing is sent.
    pub gate_opens_in: Option<Duration>,
}

/// The outbox.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutboxReport {
    /// Calls that wait.
    pub waiting: u64,
    /// The age of the oldest of them; null if none waits.
    pub oldest_seconds: Option<u64>,
    /// Since the start: calls that were stored, that Segment accepted, that it refused.
    pub stored_total: u64,
    pub delivered_total: u64,
    pub refused_total: u64,
    pub dead_letters: u64,
    /// Idempotency keys that are remembered.
    pub keys: u64,
    /// What calls, keys and dead letters take on disk, and what they may take.
    pub bytes: u64,
    pub max_bytes: u64,
    /// Why nothing more is stored at the moment, if that is so.
    pub trouble: Option<&'static str>,
    /// How long transactions took, the sync included.
    pub commit_ms: Durations,
    /// How long their syncs took.
    pub sync_ms: Durations,
}

/// How long something took since the start, in milliseconds; p50 and p99 are estimates.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Durations {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
}

impl Durations {
    /// Of a histogram in seconds.
    pub fn of_seconds(seconds: &Summary) -> Self {
        let Summary { count, mean, p50, p99 } = *seconds;
        // To a microsecond: more digits would only look exact.
        let ms = |seconds: f64| (seconds * 1e6).round() / 1e3;
        Self { count, mean: ms(mean), p50: ms(p50), p99: ms(p99) }
    }
}

/// The way to Segment.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    /// Where calls are sent.
    endpoint: &'a str,
    /// Whether calls are sent at the moment.
    sending: bool,
    /// Requests that failed in a way that passes since one was accepted: more than a few are an outage.
    failed_in_a_row: u32,
    gate: Gate,
}

/// What stops everything: a rate limit, or trouble with the credentials or the endpoint.
#[derive(Serialize, JsonSchema)]
struct Gate {
    shut: bool,
    /// Why, as the `code` of an error; null while it is open.
    code: Option<&'static str>,
    /// When the next try is made, RFC 3339; null while it is open.
    until: Option<String>,
}

impl Serialize for SegmentReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shut = self.gate_code.is_some();
        let until =
            self.gate_opens_in.filter(|_| shut).and_then(|opens_in| Timestamp::now().checked_add(opens_in).ok());
        let gate = Gate { shut, code: self.gate_code, until: until.map(rfc3339) };
        let failed_in_a_row = self.failed_in_a_row;
        Shown { endpoint: &self.endpoint, sending: !shut, failed_in_a_row, gate }.serialize(serializer)
    }
}

/// The handler.
pub(super) async fn get(State(Desk { state, operator }): State<Desk>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    (state.measure)();
    let (started_at, since) = operator.started;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        started_at: rfc3339(started_at),
        uptime_seconds: since.elapsed().as_secs(),
        state: match (state.supervisor.is_draining(), state.supervisor.is_stopping()) {
            (true, _) => "draining",
            (false, true) => "stopping",
            (false, false) => "serving",
        },
        segment: (operator.segment)(),
        outbox: (operator.outbox)(),
        requests: state.metrics.outcomes(),
        requests_in_flight: state.in_flight.taken(),
        calls_waiting: state.metrics.calls_waiting.get(),
        slots_busy: state.metrics.slots_busy.get(),
    };
    Answer::json(StatusCode::OK, &report).with_id(&id)
}

/// To a millisecond, as everywhere.
fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}
