//! Why a request failed: the one place where an error becomes a status, a code, headers and JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::body::BodyError;
use crate::auth::Unauthorized;
use crate::customer::{BrokenRule, PayloadError};
use crate::outbox::{BackupError, OutboxError, STORE_RETRY_AFTER};
use crate::segment::{ErrorCode, FailureReason, MAX_CALL_BYTES, MIN_RETRY_AFTER, SegmentError};

/// Says that a call with this key was stored before, and that no second call was made. No standard defines the header;
/// this name is the usual one.
pub(super) const REPLAYED: &str = "idempotent-replayed";

/// The message of a 404 for a path without a route.
pub(crate) const NO_ROUTE: &str = "there is nothing at this path";

/// Why a request failed, for programs. Each code has one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiErrorCode {
    InvalidJson,
    BadRequest,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UnsupportedMediaType,
    /// A source's filter failed on an event.
    FilterFailed,
    InternalError,
    /// The outcome of a call.
    Call(ErrorCode),
}

impl ApiErrorCode {
    /// The code as it is written in JSON and documented in the README.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::FilterFailed => "filter_failed",
            Self::InternalError => "internal_error",
            Self::Call(code) => code.as_str(),
        }
    }

    /// The status of the code, as documented in the README.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::FilterFailed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Call(code) => match code {
                ErrorCode::InvalidPayload | ErrorCode::Rejected | ErrorCode::GaveUp | ErrorCode::KeyReused => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
                ErrorCode::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::Unauthorized | ErrorCode::Misconfigured | ErrorCode::Unavailable => StatusCode::BAD_GATEWAY,
                ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::ShuttingDown => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                ErrorCode::Timeout | ErrorCode::OutboxTimeout => StatusCode::GATEWAY_TIMEOUT,
                // The service does not start without a write key. Only a client from the environment ends with this.
                ErrorCode::NotConfigured => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// Whether `Retry-After` goes with the code. A refusal is final. For wrong credentials or a wrong endpoint no time
    /// is known.
    pub(super) fn has_retry_after(self) -> bool {
        matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
            || self == Self::Call(ErrorCode::Unavailable)
    }
}

/// Why a request failed. Its response is `{"success":false,"error":{"message":"...","code":"..."}}`.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) code: ApiErrorCode,
    pub(super) message: Cow<'static, str>,
    pub(super) details: Box<[BrokenRule]>,
    pub(super) retry_after: Option<Duration>,
    headers: Vec<(&'static str, HeaderValue)>,
    /// Why the request to Segment failed. For the log.
    segment_failure: Option<FailureReason>,
}

/// What the response of an [`ApiError`] carries as an extension, for the log and the metrics.
#[derive(Clone)]
pub(super) struct FailureRecord {
    pub(super) code: ApiErrorCode,
    /// Why the request to Segment failed. Of a 401 it is the message, which names nothing but headers: an operator needs it
    /// to find whose clock or secret is wrong.
    pub(super) reason: Option<Cow<'static, str>>,
    /// The status of the answer in Segment's place, if there was one.
    pub(super) status: Option<u16>,
    /// Whether the failure is logged.
    pub(super) is_logged: bool,
    /// How many customers of the request failed, if it had several.
    pub(super) failed: Option<usize>,
    /// The name of the source, if the request was for one.
    pub(super) source: Option<Arc<str>>,
}

impl ApiError {
    pub(super) fn new(code: ApiErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Box::default(),
            retry_after: None,
            headers: Vec::new(),
            segment_failure: None,
        }
    }

    pub(super) fn not_found(message: &'static str) -> Self {
        Self::new(ApiErrorCode::NotFound, message)
    }

    /// 503 `overloaded`, with the shortest `Retry-After`.
    pub(super) fn overloaded(message: &'static str) -> Self {
        Self::new(ApiErrorCode::Call(ErrorCode::Overloaded), message).with_retry_after(MIN_RETRY_AFTER)
    }

    pub(super) fn internal() -> Self {
        Self::new(ApiErrorCode::InternalError, "the relay failed; this is a fault of the relay")
    }

    pub(super) fn with_retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// The same with this header, whose name is in small letters.
    pub(super) fn with_header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What the log and the metrics get.
    pub(super) fn record(&self) -> FailureRecord {
        let of_headers = (self.code == ApiErrorCode::Unauthorized).then(|| self.message.clone());
        let reason = self.segment_failure.map(|failure| failure.as_str().into()).or(of_headers);
        let status = self.segment_failure.and_then(FailureReason::status);
        FailureRecord { code: self.code, reason, status, is_logged: false, failed: None, source: None }
    }

    /// The answer closes the connection, because the rest of the request is not read.
    fn with_connection_close(self) -> Self {
        self.with_header("connection", HeaderValue::from_static("close"))
    }
}

impl From<Unauthorized> for ApiError {
    fn from(Unauthorized { message, challenge }: Unauthorized) -> Self {
        let headers = challenge.map(|challenge| ("www-authenticate", challenge)).into_iter().collect();
        Self { headers, ..Self::new(ApiErrorCode::Unauthorized, message) }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let (code, message) = match error {
            BodyError::TooLarge(limit) => {
                let message = format!(
                    "the body is larger than {limit} bytes, white space included; a call as sent may have {MAX_CALL_BYTES}"
                )
                .into();
                (ApiErrorCode::Call(ErrorCode::MessageTooLarge), message)
            }
            BodyError::NoRoom => {
                return Self::overloaded("the bodies of all requests take too much memory; this one was not read")
                    .with_connection_close();
            }
            BodyError::TimedOut => (ApiErrorCode::RequestTimeout, Cow::from("the body did not arrive in time")),
            // The sender has most likely gone away and does not read this.
            BodyError::Broken => {
                (ApiErrorCode::InvalidJson, "the body broke off, or is not what its headers say".into())
            }
        };
        Self::new(code, message).with_connection_close()
    }
}

impl From<PayloadError> for ApiError {
    fn from(error: PayloadError) -> Self {
        let message = error.to_string();
        match error {
            PayloadError::InvalidJson { message } => Self::new(ApiErrorCode::InvalidJson, message),
            PayloadError::Invalid { broken } => {
                Self { details: broken.into(), ..Self::new(ApiErrorCode::Call(ErrorCode::InvalidPayload), message) }
            }
        }
    }
}

impl From<SegmentError> for ApiError {
    fn from(SegmentError { message, code, retry_after, replayed, reason }: SegmentError) -> Self {
        let code = ApiErrorCode::Call(code);
        let retry_after = retry_after.filter(|_| code.has_retry_after());
        let error = Self { retry_after, segment_failure: reason, ..Self::new(code, message) };
        if replayed { error.with_header(REPLAYED, HeaderValue::from_static("true")) } else { error }
    }
}

/// Errors of operators' requests. No idempotency key is involved there.
impl From<OutboxError> for ApiError {
    fn from(error: OutboxError) -> Self {
        let (code, message, pause) = match error {
            OutboxError::TooLarge => {
                let message = "the calls that the event makes take more than 4 MiB together";
                return Self::new(ApiErrorCode::Call(ErrorCode::MessageTooLarge), message);
            }
            OutboxError::Full | OutboxError::UserShare | OutboxError::ParkedShare | OutboxError::SourceShare => {
                (ErrorCode::Overloaded, "the outbox is full or cannot be written; try again", STORE_RETRY_AFTER)
            }
            OutboxError::Away => (ErrorCode::Overloaded, "the outbox's database cannot be reached", MIN_RETRY_AFTER),
            OutboxError::Unreadable => (ErrorCode::Overloaded, "the outbox could not be read", STORE_RETRY_AFTER),
            OutboxError::Busy | OutboxError::KeyReused => {
                (ErrorCode::Overloaded, "the outbox is busy; try again", MIN_RETRY_AFTER)
            }
            OutboxError::Closed => (ErrorCode::ShuttingDown, "the relay is shutting down; try again", MIN_RETRY_AFTER),
            OutboxError::Unconfirmed => (
                ErrorCode::OutboxTimeout,
                "the outbox did not confirm it in time: whether it was done is unknown; trying again is safe",
                MIN_RETRY_AFTER,
            ),
        };
        Self::new(ApiErrorCode::Call(code), message).with_retry_after(pause)
    }
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => error.into(),
            _ => Self::new(ApiErrorCode::Call(ErrorCode::Overloaded), error.to_string())
                .with_retry_after(STORE_RETRY_AFTER),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
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
        let record = self.record();
        let error = Error { message: &self.message, code: self.code.as_str(), details: &self.details };
        let mut response = (self.code.status(), Json(Body { success: false, error })).into_response();
        if let Some(pause) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, whole_seconds(pause).into());
        }
        for (name, value) in self.headers {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        response.extensions_mut().insert(record);
        response
    }
}

/// `Retry-After` in whole seconds, rounded up so that a caller does not retry too early, and at least 1.
pub(super) fn whole_seconds(pause: Duration) -> u64 {
    pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0)).max(1)
}

/// The fallback of routes that do not take a method. axum adds the `Allow` header.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(ApiErrorCode::MethodNotAllowed, "this path does not take this method; see the Allow header")
}
