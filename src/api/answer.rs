//! What the relay answers, in the contract's shapes: JSON, with the request's id.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::code::Code;
use super::request_id::{self, RequestId};
use crate::customer::{BrokenRule, PayloadError};
use crate::integration::{DeliveryState, ErrorCode, Receipt, SegmentError};

/// Says that the key's call was there already and no second one was made. No standard has such a header; this is its usual
/// name.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer before it has its request's id.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

/// Why a request failed, as its caller reads it.
pub(super) struct Failure<'a> {
    code: Code,
    message: &'a str,
    details: &'a [BrokenRule],
    retry_after: Option<Duration>,
    close: bool,
}

impl<'a> Failure<'a> {
    pub(super) fn new(code: Code, message: &'a str) -> Self {
        Self { code, message, details: &[], retry_after: None, close: false }
    }

    /// Worth trying again after `pause`.
    pub(super) fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// The connection ends with this answer: more of the request is under way than will be read.
    pub(super) fn close(self) -> Self {
        Self { close: true, ..self }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }
}

impl Answer {
    /// Any JSON.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // What we answer are plain structs: this cannot fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self::of(status, "application/json", body.into())
    }

    /// 200 with JSON that is text already, or too large to lie about as a whole.
    pub(super) fn text_of_json(json: impl Into<Body>) -> Self {
        Self::of(StatusCode::OK, "application/json", json.into())
    }

    /// 200 with something that is not JSON.
    pub(super) fn document(media_type: &'static str, body: impl Into<Body>) -> Self {
        Self::of(StatusCode::OK, media_type, body.into())
    }

    fn of(status: StatusCode, media_type: &'static str, body: Body) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        Self { status, headers, body }
    }

    /// 204: it is done, and there is nothing to say.
    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: Body::empty() }
    }

    /// 200: Segment accepted this very call. 202: it is on disk, synced.
    pub(super) fn success(receipt: &Receipt) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Success<'a> {
            success: bool,
            message_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<&'static str>,
        }
        let (code, status) = match receipt.standing {
            DeliveryState::Accepted => (StatusCode::OK, None),
            DeliveryState::Stored => (StatusCode::ACCEPTED, Some("stored")),
        };
        let answer = Self::json(code, &Success { success: true, message_id: &receipt.message_id, status });
        if receipt.replayed { answer.with(REPLAYED, HeaderValue::from_static("true")) } else { answer }
    }

    /// `{"success":false,"error":{...}}`.
    pub(super) fn failure(failure: &Failure<'_>) -> Self {
        #[derive(Serialize)]
        struct Failed<'a> {
            success: bool,
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            message: &'a str,
            code: &'static str,
            #[serde(skip_serializing_if = "<[BrokenRule]>::is_empty")]
            details: &'a [BrokenRule],
        }
        let error = Error { message: failure.message, code: failure.code.as_str(), details: failure.details };
        let mut answer = Self::json(failure.code.status(), &Failed { success: false, error });
        if let Some(pause) = failure.retry_after {
            answer.headers.insert(RETRY_AFTER, whole_seconds(pause).into());
        }
        if failure.close {
            answer.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// What a payload that breaks the rules gets, and its code.
    pub(super) fn invalid(error: &PayloadError) -> (Code, Self) {
        match error {
            PayloadError::InvalidJson { message } => {
                let failure = Failure::new(Code::InvalidJson, message);
                (failure.code(), Self::failure(&failure))
            }
            PayloadError::Invalid { broken } => {
                let message = error.to_string();
                let failure =
                    Failure { details: broken, ..Failure::new(Code::Call(ErrorCode::InvalidPayload), &message) };
                (failure.code(), Self::failure(&failure))
            }
        }
    }

    /// What a call that was neither accepted nor stored gets, and one that was stored and then refused.
    pub(super) fn not_accepted(error: &SegmentError) -> Self {
        let code = Code::Call(error.code);
        let retry_after = error.retry_after.filter(|_| code.says_when());
        Self::failure(&Failure { retry_after, ..Failure::new(code, &error.message) })
    }

    /// The same answer with this header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The whole answer.
    pub(super) fn with_id(self, id: &RequestId) -> Response {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(request_id::HEADER, id.header());
        response
    }
}

/// `Retry-After` is whole seconds: rounded up, so that nobody comes early, and never 0.
fn whole_seconds(pause: Duration) -> u64 {
    pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0)).max(1)
}
