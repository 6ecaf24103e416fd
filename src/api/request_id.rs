//! The id of a request: the caller's, if it is fit to be logged and sent back, else a new one.
//!
//! [`remove_unfit`] removes an id that breaks the rule. tower-http's `SetRequestId` then makes one where none is left, and its
//! `PropagateRequestId` copies the id into the answer. Handlers that log take [`RequestId`].

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Request};
use tower_http::request_id::MakeRequestId;
use uuid::Uuid;

/// The header of requests and answers.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is kept, in characters.
pub(super) const MAX_LENGTH: usize = 128;

/// What an id may hold beside ASCII letters and digits.
pub(super) const PUNCTUATION: &str = "._-";

/// Removes a caller's id that is not 1-128 characters of `[A-Za-z0-9._-]`.
pub(super) fn remove_unfit<B>(mut request: Request<B>) -> Request<B> {
    if request.headers().get(HEADER).is_some_and(|id| !is_fit(id.as_bytes())) {
        request.headers_mut().remove(HEADER);
    }
    request
}

/// Makes a random UUID for each request without an id.
#[derive(Clone, Copy)]
pub(super) struct RandomId;

impl MakeRequestId for RandomId {
    fn make_request_id<B>(&mut self, _request: &Request<B>) -> Option<tower_http::request_id::RequestId> {
        let mut text = Uuid::encode_buffer();
        let id = Uuid::new_v4().as_hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(id).ok().map(tower_http::request_id::RequestId::new)
    }
}

/// The id, for a log line.
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(HEADER).cloned().unwrap_or(HeaderValue::from_static("none"))))
    }
}

fn is_fit(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || PUNCTUATION.as_bytes().contains(byte))
}
