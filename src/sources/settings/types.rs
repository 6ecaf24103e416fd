//! What a source is, once its table was read and checked.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use bytes::Bytes;

use crate::auth::{Challenge, Scheme, Verifier};
use crate::config::Secret;
use crate::sources::mapping::Filter;

/// A source.
pub struct SourceSettings {
    /// The last part of its path: 1 to 64 of `[a-z0-9_-]`.
    pub name: Arc<str>,
    /// A preset's name, `bearer`, `basic`, `token`, `none`, or `signature` for values of the operator's own.
    pub verify: String,
    pub scheme: Scheme,
    pub verifier: Verifier,
    pub challenge: Option<Challenge>,
    /// `None`: the body is one customer, as at `POST /customers`.
    pub filter: Option<Arc<Filter>>,
    /// Where the event's id is. Empty: each event is a new call.
    pub key: Vec<KeyPart>,
    /// How long a key is remembered after its call was accepted.
    pub window: Duration,
    /// `None`: `SEGMENT_WRITE_KEY`.
    pub write_key: Option<Secret>,
    /// The status of a success, 200 or 202. `None`: 202 for stored customers, and 200 for accepted ones.
    pub answer: Option<u16>,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// `None`: [`OnError::Keep`] with an outbox, otherwise [`OnError::Refuse`].
    pub on_error: Option<OnError>,
    pub examples: Vec<Example>,
}

/// A part of an event's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    Header(HeaderName),
    /// A JSON pointer into the body (RFC 6901), to a string or a number.
    Body(String),
}

/// What happens to a genuine event that makes no valid customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It is kept as a dead letter, and the sender hears of a success.
    Keep,
    /// The sender hears of an error.
    Refuse,
}

/// An event, and what the filter must make of it.
pub struct Example {
    /// In lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
    /// A JSON array of customers. `None`: the example shows only that the filter does not fail.
    pub expect: Option<String>,
}
