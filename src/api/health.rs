//! Whether the relay lives, whether it should get requests, and what it counted. None of these needs a place in flight.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::AppState;
use super::answer::{Answer, Failure};
use super::code::Code;
use super::request_id::{self, RequestId};

/// How Prometheus wants its text called.
pub(super) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `ok`, or `unavailable` and why.
#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

/// The process serves.
pub(super) async fn healthz(request: Request) -> Response {
    let id = RequestId::of(request.headers());
    Answer::json(StatusCode::OK, &Health { status: "ok", reasons: Vec::new() }).with_id(&id)
}

/// The process should get requests. Segment's troubles do not count: another relay would have them too.
pub(super) async fn readyz(State(state): State<Arc<AppState>>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let shutting_down = state.supervisor.is_stopping().then_some("shutting down");
    let reasons: Vec<_> = shutting_down.into_iter().chain((state.trouble)()).collect();
    let answer = if reasons.is_empty() {
        Answer::json(StatusCode::OK, &Health { status: "ok", reasons })
    } else {
        Answer::json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "unavailable", reasons })
    };
    answer.with_id(&id)
}

/// All counters as Prometheus text.
pub(super) async fn metrics(State(state): State<Arc<AppState>>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    (state.measure)();
    state.metrics.in_flight.set(state.in_flight.taken().try_into().unwrap_or(i64::MAX));
    match state.metrics.metrics() {
        Ok(text) => {
            let text_format = HeaderValue::from_static(TEXT_FORMAT);
            ([(CONTENT_TYPE, text_format), (request_id::HEADER, id.header())], text).into_response()
        }
        Err(error) => {
            tracing::error!(request_id = id.as_str(), %error, "the metrics cannot be written");
            let failure = Failure::new(Code::InternalError, "the metrics cannot be written");
            Answer::failure(&failure).with_id(&id)
        }
    }
}
