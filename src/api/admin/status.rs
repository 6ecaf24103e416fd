//! `GET /status`: how the relay is, as JSON. It holds nothing personal and no secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::report::{OutboxReport, SegmentReport, SourceReport};
use crate::api::state::{Admin, AppState};
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
    segment: SegmentReport,
    /// `null` without an outbox.
    outbox: Option<OutboxReport>,
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
    (state.update_gauges)();
    Json(StatusReport {
        version: env!("CARGO_PKG_VERSION"),
        started_at: rfc3339_milliseconds(admin.started_at),
        uptime_seconds: admin.started.elapsed().as_secs(),
        state: match (state.supervisor.is_draining(), state.supervisor.is_stopping()) {
            (true, _) => "draining",
            (false, true) => "stopping",
            (false, false) => "serving",
        },
        segment: (admin.segment_report)(),
        outbox: (admin.outbox_report)(),
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
    })
}
