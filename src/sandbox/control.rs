//! The endpoints that show the sandbox's history and set its faults. Segment has none of them.
//!
//! `GET /events` lists the calls that are there when it is asked, and copies them page by page: a long listing neither
//! blocks new requests nor doubles the memory. Calls that are removed meanwhile are missing from it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::faults::Faults;
use super::state::SandboxState;

const NDJSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/x-ndjson")];

/// `GET /events`: the accepted calls in order of arrival, one a line, verbatim.
pub(super) async fn events(State(state): State<Arc<SandboxState>>) -> Response {
    let end = state.history.lock().events.end();
    let mut next = 0;
    let pages = std::iter::from_fn(move || {
        let (lines, following) = state.history.lock().events.page(next, end)?;
        next = following;
        Some(Ok::<_, Infallible>(lines))
    });
    (NDJSON, Body::from_stream(stream::iter(pages))).into_response()
}

/// `GET /stats`: the counters.
pub(super) async fn stats(State(state): State<Arc<SandboxState>>) -> Response {
    let stats = state.history.lock().stats();
    Json(stats).into_response()
}

/// `GET /requests`: the last requests, one a line, oldest first, with headers and write keys.
pub(super) async fn requests(State(state): State<Arc<SandboxState>>) -> Response {
    let lines = state.history.lock().requests.lines();
    (NDJSON, lines.concat()).into_response()
}

/// `POST /reset`: removes events, counters, requests and faults.
pub(super) async fn reset(State(state): State<Arc<SandboxState>>) -> Json<Value> {
    *state.faults.lock() = Faults::default();
    let removed = state.history.lock().clear();
    drop(removed);
    Json(json!({"success": true}))
}

/// `GET /faults`: the present faults.
pub(super) async fn faults(State(state): State<Arc<SandboxState>>) -> Response {
    let current = state.faults.lock().current();
    Json(current).into_response()
}

/// `POST /faults`: replaces the faults and answers with the new ones. A mistake changes nothing. axum refuses bodies over
/// 2 MB.
pub(super) async fn set_faults(State(state): State<Arc<SandboxState>>, body: Bytes) -> Response {
    match Faults::parse(&body) {
        Ok(faults) => {
            let current = faults.current();
            *state.faults.lock() = faults;
            Json(current).into_response()
        }
        Err(message) => error(StatusCode::BAD_REQUEST, &message),
    }
}

/// `GET /`: instructions.
pub(super) async fn home(headers: HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8090");
    format!(
        r#"segment-relay sandbox: a local stand-in for Segment's Tracking API.

Send a call:
  curl http://{host}/v1/identify -d '{{"userId":"c-1","traits":{{"plan":"pro"}},"writeKey":"any"}}'
  curl http://{host}/v1/batch -d '{{"batch":[{{"type":"identify","userId":"c-1"}}],"writeKey":"any"}}'
See the calls (one a line), the counters, and the last 1,000 requests with headers and write keys:
  curl http://{host}/events
  curl http://{host}/stats
  curl http://{host}/requests
Set a fault, clear it, remove everything:
  curl http://{host}/faults -d '{{"status":503,"rate":0.2,"retryAfter":"2","count":10}}'
  curl http://{host}/faults -d '{{}}'
  curl -X POST http://{host}/reset

Fields of /faults, all optional; each POST replaces the faults set before:
  status, body, retryAfter   the answer to give (body: exactly this text)
  hang, reset                never answer; reset the connection
  rate, count                the share of requests that get the fault; how many, until it is cleared
  afterAccepting             keep the calls first, so only the answer is lost
  latency                    delay every request, "50ms"
  poisonUserIds, poisonStatus  refuse any request with a call of such a user (400)
"#
    )
}

/// A refusal that is not Segment's.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"success": false, "message": message}))).into_response()
}
