//! Liveness, readiness and metrics. None of these takes a permit.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;

use super::error::ApiError;
use super::request_id::RequestId;
use super::state::AppState;

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `ok`, or `unavailable` and the reasons.
#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

/// `GET /healthz`: the process serves.
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", reasons: Vec::new() })
}

/// `GET /readyz`: the process should get requests. Segment's trouble does not count: another relay would have it too.
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> (StatusCode, Json<Health>) {
    let shutting_down = state.supervisor.is_stopping().then_some("shutting down");
    let reasons: Vec<_> = shutting_down.into_iter().chain((state.unready_reason)()).collect();
    if reasons.is_empty() {
        return (StatusCode::OK, Json(Health { status: "ok", reasons }));
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "unavailable", reasons }))
}

/// `GET /metrics`: all counters as Prometheus text.
pub(super) async fn metrics(
    State(state): State<Arc<AppState>>,
    request_id: RequestId,
) -> Result<impl IntoResponse, ApiError> {
    state.update_metrics();
    state.metrics.encode().map(|text| ([(CONTENT_TYPE, TEXT_FORMAT)], text)).map_err(|error| {
        tracing::error!(request_id = request_id.as_str(), %error, "the metrics cannot be written");
        ApiError::internal()
    })
}
