//! `POST /v1/*`: what Segment's Tracking API answers, unless a fault says otherwise.
//!
//! The body is read whole, then the latency passes, then everything is decided at once without waiting for anything:
//! a peer that leaves before that leaves no trace but the count of requests. The `status` fault of 200 with no body
//! set is the answer of a Segment that accepts and loses.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::IgnoredAny;
use serde_json::json;

use super::body::{self, Unreadable};
use super::events::Lines;
use super::faults::{Answer, Fault, Reaction};
use super::intake::{self, Endpoint, Refusal};
use super::record::Fate;
use super::requests::Seen;
use super::{Cut, Sandbox};

const SUCCESS: &str = r#"{"success":true}"#;

/// Takes one request.
pub async fn take(State(sandbox): State<Arc<Sandbox>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    sandbox.record().arrived();
    let body = body::read(&head.headers, body).await;
    let latency = sandbox.faults().latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reaction = sandbox.decide(&head, body);
    // What a hanging request held is freed by now, but for the connection. hyper drops this future when the peer leaves.
    drop(head);
    match reaction {
        Reaction::Answer(answer) => answer.into_response(),
        Reaction::Reset => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Cut);
            response
        }
        Reaction::Hang => std::future::pending().await,
    }
}

impl Sandbox {
    fn decide(&self, head: &Parts, body: Result<Vec<u8>, Unreadable>) -> Reaction {
        let path = head.uri.path();
        let is_endless = matches!(body, Err(Unreadable::Endless { .. }));
        let bytes = match &body {
            Ok(body) => body.len(),
            Err(Unreadable::TooLarge { bytes } | Unreadable::Endless { bytes }) => *bytes,
            Err(_) => 0,
        };
        let received = match (&body, Endpoint::at(path)) {
            (_, None) => Err(Refusal { status: StatusCode::NOT_FOUND, message: "no such endpoint".into() }),
            (Err(unreadable), _) => Err(Refusal::from(*unreadable)),
            (Ok(body), Some(endpoint)) => intake::read(endpoint, body),
        };
        let user_ids = received.iter().flat_map(|received| &received.calls).filter_map(|call| call.user_id.as_deref());
        let (poison, fault) = {
            let mut faults = self.faults();
            match faults.poison(user_ids) {
                Some(status) => (Some(status), None),
                None if is_endless => (None, None),
                None => (None, faults.draw(fastrand::f64())),
            }
        };
        let is_kept = received.is_ok() && poison.is_none() && fault.as_ref().is_none_or(|fault| fault.after_accepting);
        let (fate, reaction) = match (poison, fault, &received) {
            // Who is still sending would not hear an answer, and could not be seen to leave a connection that hangs.
            _ if is_endless => (Fate::Refused, Reaction::Reset),
            (Some(status), _, _) => (Fate::Refused, refuse(status, "the batch holds a call of a poisoned user")),
            (None, Some(Fault { reaction, .. }), _) => (Fate::Faulted, reaction),
            (None, None, Err(refusal)) => (Fate::Refused, refuse(refusal.status, &refusal.message)),
            (None, None, Ok(_)) => (Fate::Accepted, answer(StatusCode::OK, SUCCESS.to_owned())),
        };
        let received = received.as_ref().ok();
        let status = match &reaction {
            Reaction::Answer(answer) => Some(answer.status.as_u16()),
            Reaction::Hang | Reaction::Reset => None,
        };
        let seen = Seen { path, headers: &head.headers, status, bytes, received };
        let line = seen.line();
        let kept = received.filter(|_| is_kept).map(|received| {
            let calls = received.calls.as_slice();
            (calls, Lines::of(calls, &self.hashes))
        });
        self.record().decided(&seen, line, fate, kept);
        reaction
    }
}

fn answer(status: StatusCode, body: String) -> Reaction {
    Reaction::Answer(Answer { status, retry_after: None, body: Some(body) })
}

/// Segment's own shape, and the only `code` it is known to use.
fn refuse(status: StatusCode, message: &str) -> Reaction {
    answer(status, json!({"success": false, "message": message, "code": "invalid_request"}).to_string())
}

impl IntoResponse for Answer {
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
