//! The endpoints by which a test or a person looks at the sandbox and directs it; Segment has none of them.
//!
//! `GET /events` shows what was there when it was asked, copied page by page, so that a long listing neither blocks the
//! intake nor doubles the memory. Calls forgotten meanwhile are missing from it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;

use super::Sandbox;
use super::faults::Faults;

const NDJSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/x-ndjson")];
const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// `GET /events`: the accepted calls in order of arrival, one a line, verbatim.
pub async fn events(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let end = sandbox.record().events().end();
    (NDJSON, Body::new(Listing { sandbox, next: 0, end })).into_response()
}

/// `GET /stats`: the counters.
pub async fn stats(State(sandbox): State<Arc<Sandbox>>) -> Response {
    match sandbox.record().stats() {
        Ok(stats) => (JSON, stats).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// `GET /requests`: the last requests, one a line, oldest first. Shows headers and write keys as they came.
pub async fn requests(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let lines = sandbox.record().requests();
    (NDJSON, lines.concat()).into_response()
}

/// `POST /reset`: forgets events, counters, requests and faults.
pub async fn reset(State(sandbox): State<Arc<Sandbox>>) -> Json<serde_json::Value> {
    *sandbox.faults() = Faults::default();
    let forgotten = sandbox.record().clear();
    drop(forgotten);
    Json(json!({"success": true}))
}

/// `GET /faults`: what is set now.
pub async fn faults(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let present = sandbox.faults().present();
    Json(present).into_response()
}

/// `POST /faults`: replaces what was set, and answers what is set now; a mistake changes nothing. axum
/// itself refuses bodies over 2 MB.
pub async fn set_faults(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    match Faults::parse(&body) {
        Ok(faults) => {
            let present = faults.present();
            *sandbox.faults() = faults;
            Json(present).into_response()
        }
        Err(message) => failure(StatusCode::BAD_REQUEST, &message),
    }
}

/// `GET /healthz`
pub async fn healthz() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /`: how to use it.
pub async fn home(headers: HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8090");
    format!(
        r#"segment-relay sandbox: a local stand-in for Segment's Tracking API.

Send a call:
  curl http://{host}/v1/identify -d '{{"userId":"c-1","traits":{{"plan":"pro"}},"writeKey":"any"}}'
  curl http://{host}/v1/batch -d '{{"batch":[{{"type":"identify","userId":"c-1"}}],"writeKey":"any"}}'
See what came (one call a line; counters; the last 1,000 requests with headers and write keys):
  curl http://{host}/events
  curl http://{host}/stats
  curl http://{host}/requests
Misbehave, heal, forget everything:
  curl http://{host}/faults -d '{{"status":503,"rate":0.2,"retryAfter":"2","count":10}}'
  curl http://{host}/faults -d '{{}}'
  curl -X POST http://{host}/reset

Fields of /faults, all optional; each POST replaces what was set before:
  status, body, retryAfter   the answer to give (body: exactly this text)
  hang, reset                never answer; reset the connection
  rate, count                the share of requests that get it; how many, before it heals itself
  afterAccepting             keep the calls first: only the answer is lost
  latency                    delay every request, "50ms"
  poisonUserIds, poisonStatus  refuse any request with a call of such a user (400)
"#
    )
}

/// Any other path.
pub async fn not_found() -> Response {
    failure(StatusCode::NOT_FOUND, "no such endpoint")
}

/// A known path asked in another way.
pub async fn method_not_allowed() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, "this endpoint has another method")
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"success": false, "message": message}))).into_response()
}

/// The body of `GET /events`.
struct Listing {
    sandbox: Arc<Sandbox>,
    /// Numbers of requests: the next to show, and where to stop.
    next: u64,
    end: u64,
}

impl hyper::body::Body for Listing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let listing = self.get_mut();
        let page = listing.sandbox.record().events().page(listing.next, listing.end);
        Poll::Ready(page.map(|(lines, next)| {
            listing.next = next;
            Ok(Frame::data(lines))
        }))
    }
}
