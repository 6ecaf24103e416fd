//! `GET /status`: how the relay is, as JSON. It holds nothing personal and no secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use super::history::RatesReport;
use super::report::{OutboxReport, SegmentReport, SourceReport};
use super::state::AdminState;
use super::summary::{Facts, Summary};
use crate::api::state::{Admin, AppState};
use crate::outbox::FleetReport;
use crate::segment::rfc3339_milliseconds;

/// How the relay is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusReport {
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    /// `serving`, `stopping` or `draining`.
    state: &'static str,
    /// All of it in one sentence.
    summary: Summary,
    /// In the last five seconds.
    rates: RatesReport,
    segment: SegmentReport,
    /// `null` without an outbox.
    outbox: Option<OutboxReport>,
    /// `null` if no other relay can have the outbox.
    fleet: Option<FleetReport>,
    /// Customers of `POST /customers` by outcome.
    requests: BTreeMap<&'static str, u64>,
    requests_in_flight: usize,
    /// By name.
    sources: Vec<SourceReport>,
    /// Pending calls that are not in a request to Segment.
    calls_waiting: i64,
    slots_busy: i64,
}

/// `GET /status`
pub(super) async fn get(State(state): State<Arc<AppState>>, Admin(admin): Admin) -> Json<StatusReport> {
    Json(StatusReport::now(&state, &admin))
}

impl StatusReport {
    pub(super) fn now(state: &AppState, admin: &AdminState) -> Self {
        (state.update_gauges)();
        let (segment, outbox, rates) = ((admin.segment_report)(), (admin.outbox_report)(), admin.history.rates());
        let fleet = (admin.fleet_report)();
        let summary = Summary::of(&Facts {
            is_stopping: state.supervisor.is_stopping(),
            segment: &segment,
            outbox: outbox.as_ref(),
            fleet: fleet.as_ref(),
            refused_lately: admin.history.refused_lately(),
            delivered_per_second: rates.delivered_per_second,
            now: Timestamp::now(),
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: rfc3339_milliseconds(admin.started_at),
            uptime_seconds: admin.started.elapsed().as_secs(),
            state: match (state.supervisor.is_draining(), state.supervisor.is_stopping()) {
                (true, _) => "draining",
                (false, true) => "stopping",
                (false, false) => "serving",
            },
            summary,
            rates,
            segment,
            outbox,
            fleet,
            requests: state.metrics.outcomes(),
            requests_in_flight: state.requests_in_flight(),
            sources: state
                .sources
                .iter()
                .flat_map(|sources| sources.all())
                .map(|source| SourceReport::of(&source))
                .collect(),
            calls_waiting: state.metrics.calls_waiting.get(),
            slots_busy: state.metrics.slots_busy.get(),
        }
    }
}
