//! `POST /v1/*`: the answers of Segment's Tracking API, or those that a fault asks for.
//!
//! The body is read whole, then the latency passes, then everything is decided without waiting. A peer that leaves before
//! that is only counted. A `status` fault of 200 without a body gives the answer of a Segment that accepts and loses calls.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::IgnoredAny;
use serde_json::json;

use super::body::{self, ReadBodyError};
use super::events::EventLines;
use super::faults::{Fault, Reaction, TrackingAnswer};
use super::history::Outcome;
use super::parse::{Endpoint, Refusal, parse_body};
use super::request_log::RequestSummary;
use super::state::SandboxState;

const SUCCESS: &str = r#"{"success":true}"#;

/// Extension of a response that must not be sent: the server resets the connection instead.
#[derive(Clone, Copy, Debug)]
pub struct ResetConnection;

impl fmt::Display for ResetConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to be reset")
    }
}

impl Error for ResetConnection {}

/// Handles one request.
pub async fn receive(State(state): State<Arc<SandboxState>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    state.history().count_arrival();
    let body = body::read(&head.headers, body).await;
    let latency = state.faults().latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reaction = decide(&state, &head, body);
    // A hanging request then holds nothing but its connection. hyper drops this future when the peer leaves.
    drop(head);
    match reaction {
        Reaction::Answer(answer) => answer.into_response(),
        Reaction::Reset => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(ResetConnection);
            response
        }
        Reaction::Hang => std::future::pending().await,
    }
}

/// Decides how to react to a request, and adds the request to the history.
fn decide(state: &SandboxState, head: &Parts, body: Result<Vec<u8>, ReadBodyError>) -> Reaction {
    let path = head.uri.path();
    let is_endless = matches!(body, Err(ReadBodyError::Endless { .. }));
    let bytes = match &body {
        Ok(body) => body.len(),
        Err(ReadBodyError::TooLarge { bytes } | ReadBodyError::Endless { bytes }) => *bytes,
        Err(_) => 0,
    };
    let parsed = match (&body, Endpoint::at(path)) {
        (_, None) => Err(Refusal { status: StatusCode::NOT_FOUND, message: "no such endpoint".into() }),
        (Err(error), _) => Err(Refusal::from(*error)),
        (Ok(body), Some(endpoint)) => parse_body(endpoint, body),
    };
    let user_ids = parsed.iter().flat_map(|parsed| &parsed.calls).filter_map(|call| call.user_id.as_deref());
    let (poison_status, fault) = {
        let mut faults = state.faults();
        match faults.poison_status(user_ids) {
            Some(status) => (Some(status), None),
            None if is_endless => (None, None),
            None => (None, faults.next_fault(fastrand::f64())),
        }
    };
    let is_kept = parsed.is_ok() && poison_status.is_none() && fault.as_ref().is_none_or(|fault| fault.after_accepting);
    let (outcome, reaction) = match (poison_status, fault, &parsed) {
        // A peer that is still sending would not read an answer. With a hang, its leaving would go unnoticed.
        _ if is_endless => (Outcome::Refused, Reaction::Reset),
        (Some(status), _, _) => (Outcome::Refused, refuse(status, "the batch holds a call of a poisoned user")),
        (None, Some(Fault { reaction, .. }), _) => (Outcome::Faulted, reaction),
        (None, None, Err(refusal)) => (Outcome::Refused, refuse(refusal.status, &refusal.message)),
        (None, None, Ok(_)) => (Outcome::Accepted, answer(StatusCode::OK, SUCCESS.to_owned())),
    };
    let parsed = parsed.as_ref().ok();
    let status = match &reaction {
        Reaction::Answer(answer) => Some(answer.status.as_u16()),
        Reaction::Hang | Reaction::Reset => None,
    };
    let request = RequestSummary { path, headers: &head.headers, status, bytes, parsed };
    let line = request.to_line();
    let kept = parsed.filter(|_| is_kept).map(|parsed| EventLines::from_calls(&parsed.calls, &state.hasher));
    state.history().add(&request, line, outcome, kept);
    reaction
}

fn answer(status: StatusCode, body: String) -> Reaction {
    Reaction::Answer(TrackingAnswer { status, retry_after: None, body: Some(body) })
}

/// A refusal in Segment's shape, with the only `code` that Segment is known to use.
fn refuse(status: StatusCode, message: &str) -> Reaction {
    answer(status, json!({"success": false, "message": message, "code": "invalid_request"}).to_string())
}

impl IntoResponse for TrackingAnswer {
    fn into_response(self) -> Response {
        let Self { status, retry_after, body } = self;
        let body = body.unwrap_or_else(|| {
            if status.is_success() {
                return SUCCESS.to_owned();
            }
            let reason = status.canonical_reason().unwrap_or("a fault of the sandbox");
            json!({"success": false, "message": reason, "code": "sandbox_fault"}).to_string()
        });
        let is_json = serde_json::from_str::<IgnoredAny>(&body).is_ok();
        let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(value) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
