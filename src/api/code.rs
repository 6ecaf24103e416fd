//! The codes with which a request can fail: each has one status, and the document at `/openapi.json` knows no others.
//!
//! What a call ends with is the client's to say ([`ErrorCode`]); the edge says some of these too, with the same meaning.

use axum::http::StatusCode;

use crate::integration::ErrorCode;

/// Why a request failed, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidJson,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UnsupportedMediaType,
    InternalError,
    /// What a call can end with.
    Call(ErrorCode),
}

impl Code {
    /// As it stands in the contract.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InternalError => "internal_error",
            Self::Call(code) => code.as_str(),
        }
    }

    /// The contract's status for it.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Call(code) => status(code),
        }
    }

    /// Whether `Retry-After` goes with it. Refusals are for good, and nobody can say when credentials or an endpoint will be
    /// mended.
    pub(super) fn says_when(self) -> bool {
        let passes = matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        passes || self == Self::Call(ErrorCode::Unavailable)
    }
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidPayload | ErrorCode::Rejected | ErrorCode::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Unauthorized | ErrorCode::Misconfigured | ErrorCode::Unavailable => StatusCode::BAD_GATEWAY,
        ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Timeout | ErrorCode::OutboxTimeout => StatusCode::GATEWAY_TIMEOUT,
        // The service does not start without a write key; only a client made from the environment says this.
        ErrorCode::NotConfigured => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
