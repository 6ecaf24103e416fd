//! How a sender proves who it is, as data: what a preset or an operator's eight values say. `verifier` compiles it.

use std::time::Duration;

use axum::http::HeaderName;

/// How a signature is written.
pub use crate::config::SignatureEncoding as Encoding;

/// How a sender proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Everyone may send.
    None,
    /// A header that is one of the secrets, as a whole.
    Token { header: HeaderName },
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Bearer,
    /// `Authorization: Basic BASE64(USER:PASSWORD)` (RFC 7617).
    Basic,
    /// A signature over the body.
    Signature(Box<SignatureScheme>),
}

/// A signature: the values that differ between senders. The secrets are the eighth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureScheme {
    /// Where the signature is.
    pub header: HeaderName,
    /// How that header is written: a template with `{signature}` once, and `{timestamp}` at most once.
    pub format: String,
    /// What is signed: a template of `{body}` (once), `{timestamp}`, `{id}`, `{method}`, `{url}`, `{secret}` and literals.
    pub signed: String,
    pub encoding: Encoding,
    pub algorithm: Algorithm,
    /// `None`: the time is not checked.
    pub timestamp: Option<TimestampScheme>,
    /// How a key is made of a secret's text.
    pub secret_is: SecretForm,
    /// What is cut off the front of a secret first, such as `whsec_`.
    pub secret_prefix: Option<String>,
    /// Where `{id}` is.
    pub id_header: Option<HeaderName>,
}

impl SignatureScheme {
    /// The HMAC-SHA256 of the body in hex, and nothing else, in this header.
    pub fn new(header: HeaderName) -> Self {
        Self {
            header,
            format: "{signature}".to_owned(),
            signed: "{body}".to_owned(),
            encoding: Encoding::Hex,
            algorithm: Algorithm::HmacSha256,
            timestamp: None,
            secret_is: SecretForm::Text,
            secret_prefix: None,
            id_header: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha256,
    HmacSha1,
    HmacSha512,
    /// A plain SHA-256 of a text that holds the secret.
    Sha256,
}

/// The time at which the sender signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampScheme {
    /// `None`: it is `{timestamp}` in the format of the signature's header.
    pub header: Option<HeaderName>,
    pub unit: TimeUnit,
    /// How far it may be from the relay's time, in both directions.
    pub tolerance: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    Rfc3339,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretForm {
    /// The secret's text is the key.
    Text,
    /// The secret's text is base64 of the key.
    Base64,
}

/// A sender's first request, which asks whether the address is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A GET with this header, which the answer repeats as JSON under this name (Okta).
    Header { header: HeaderName, answer: String },
    /// A signed POST with this string in its JSON, which the answer repeats under `answer`, if another field says so (Slack).
    Field { field: String, when: (String, String), answer: String },
    /// An unsigned form with this one field, whose value is a number: the answer is 200, and nothing is stored (WooCommerce).
    Form { field: String },
}
