//! The refusal of a request: its message and its challenge.

use axum::http::HeaderValue;

/// Why a request is not let in, as its sender reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unauthorized {
    /// Names headers, never a secret or a header's value.
    pub(crate) message: String,
    /// The `WWW-Authenticate` header, of the schemes that have one.
    pub(crate) challenge: Option<HeaderValue>,
}

impl Unauthorized {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), challenge: None }
    }

    /// The same with this `WWW-Authenticate` header.
    pub(super) fn with_challenge(self, challenge: &HeaderValue) -> Self {
        Self { challenge: Some(challenge.clone()), ..self }
    }
}
