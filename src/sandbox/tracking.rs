//! `POST /v1/*`: the answers of Segment's Tracking API, or those that a fault asks for.
//!
//! The body is read whole, then the latency passes, then everything is decided without waiting. A peer that leaves before
//! that is only counted. A `status` fault of 200 without a body gives the answer of a Segment that accepts and loses calls.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::IgnoredAny;
use serde_json::json;

use super::body::{self, MAX_BODY_BYTES, ReadBodyError};
use super::events::EventLines;
use super::faults::{Reaction, TrackingAnswer};
use super::history::Outcome;
use super::parse::{parse_batch, parse_identify};
use super::request_log::RequestSummary;
use super::state::SandboxState;

/// Extension of a response that must not be sent: the server resets the connection instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResetConnection;

/// Handles one request.
pub(super) async fn receive(State(state): State<Arc<SandboxState>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    state.history.lock().count_arrival();
    let body = body::read(&head.headers, body).await;
    let latency = state.faults.lock().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reaction = decide(&state, &head, body);
    // A hanging request then holds nothing but its connection. hyper drops this future when the peer leaves.
    drop(head);
    match reaction {
        Reaction::Answer(answer) => answer.into_response(),
        Reaction::Reset => Extension(ResetConnection).into_response(),
        Reaction::Hang => std::future::pending().await,
    }
}

/// Decides how to react to a request, and adds the request to the history.
fn decide(state: &SandboxState, head: &Parts, body: Result<Vec<u8>, ReadBodyError>) -> Reaction {
    let path = head.uri.path();
    let bytes = match &body {
        Ok(body) => body.len(),
        Err(ReadBodyError::TooLarge { bytes } | ReadBodyError::Endless { bytes }) => *bytes,
        Err(ReadBodyError::Unreadable(_)) => 0,
    };
    let bad_request = |message: String| refuse(StatusCode::BAD_REQUEST, &message);
    let parsed = match (path, &body) {
        ("/v1/batch", Ok(body)) => parse_batch(body).map_err(bad_request),
        ("/v1/identify", Ok(body)) => parse_identify(body).map_err(bad_request),
        ("/v1/batch" | "/v1/identify", Err(ReadBodyError::Unreadable(message))) => Err(bad_request((*message).into())),
        ("/v1/batch" | "/v1/identify", Err(_)) => Err(bad_request(format!("the body is over {MAX_BODY_BYTES} bytes"))),
        _ => Err(refuse(StatusCode::NOT_FOUND, "no such endpoint")),
    };
    let user_ids = parsed.iter().flat_map(|parsed| &parsed.calls).filter_map(|call| call.user_id.as_deref());
    let mut faults = state.faults.lock();
    let (outcome, reaction, is_kept) = if matches!(body, Err(ReadBodyError::Endless { .. })) {
        // A peer that still sends does not read an answer. A hang would not notice when that peer leaves.
        (Outcome::Refused, Reaction::Reset, false)
    } else if let Some(status) = faults.poison_status(user_ids) {
        (Outcome::Refused, refuse(status, "the batch holds a call of a poisoned user"), false)
    } else if let Some(fault) = faults.next_fault(fastrand::f64()) {
        (Outcome::Faulted, fault.reaction, fault.after_accepting)
    } else if let Err(refusal) = &parsed {
        (Outcome::Refused, refusal.clone(), false)
    } else {
        (Outcome::Accepted, answer(StatusCode::OK, None), true)
    };
    drop(faults);
    let parsed = parsed.as_ref().ok();
    let status = match &reaction {
        Reaction::Answer(answer) => Some(answer.status.as_u16()),
        Reaction::Hang | Reaction::Reset => None,
    };
    let (calls, envelope) = (parsed.map_or(0, |parsed| parsed.calls.len()), parsed.map(|parsed| &parsed.envelope));
    let line = RequestSummary { path, status, calls, bytes, headers: &head.headers, envelope }.to_line();
    let kept = parsed.filter(|_| is_kept).map(|parsed| EventLines::from_calls(&parsed.calls, &state.hasher));
    state.history.lock().add(outcome, line, parsed, kept);
    reaction
}

fn answer(status: StatusCode, body: Option<String>) -> Reaction {
    Reaction::Answer(TrackingAnswer { status, retry_after: None, body })
}

/// A refusal in Segment's shape, with the only `code` that Segment is known to use.
fn refuse(status: StatusCode, message: &str) -> Reaction {
    answer(status, Some(json!({"success": false, "message": message, "code": "invalid_request"}).to_string()))
}

impl IntoResponse for TrackingAnswer {
    fn into_response(self) -> Response {
        let Self { status, retry_after, body } = self;
        let body = body.unwrap_or_else(|| {
            if status.is_success() {
                return r#"{"success":true}"#.to_owned();
            }
            let reason = status.canonical_reason().unwrap_or("a fault of the sandbox");
            json!({"success": false, "message": reason, "code": "sandbox_fault"}).to_string()
        });
        let is_json = serde_json::from_str::<IgnoredAny>(&body).is_ok();
        let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        let retry_after = retry_after.map(|value| [(header::RETRY_AFTER, value)]);
        (status, [(header::CONTENT_TYPE, kind)], retry_after, body).into_response()
    }
}
