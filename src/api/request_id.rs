//! The id of a request: the caller's, if it is fit to be logged and sent back, else a new one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header of requests and answers.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is kept, in characters.
pub(super) const MAX_LENGTH: usize = 128;

/// What may be in an id beside ASCII letters and digits.
pub(super) const PUNCTUATION: &str = "._-";

/// An id of 1-128 characters of `[A-Za-z0-9._-]`.
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's id, or a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER) {
            // Copied, because a clone would keep the connection's read buffer alive.
            Some(id) if is_fit(id.as_bytes()) => {
                HeaderValue::from_bytes(id.as_bytes()).map_or_else(|_| Self::new(), Self)
            }
            _ => Self::new(),
        }
    }

    fn new() -> Self {
        let mut text = Uuid::encode_buffer();
        let id = HeaderValue::from_str(Uuid::new_v4().as_hyphenated().encode_lower(&mut text));
        Self(id.unwrap_or_else(|_| HeaderValue::from_static("none")))
    }

    /// As text, for a log line.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header of the answer.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_fit(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || PUNCTUATION.as_bytes().contains(byte))
}

#[cfg(test)]
mod tests {
    use super::{HEADER, RequestId};
    use axum::http::{HeaderMap, HeaderValue};

    fn of(id: &[u8]) -> String {
        let id = HeaderValue::from_bytes(id).unwrap();
        RequestId::of(&HeaderMap::from_iter([(HEADER, id)])).as_str().to_owned()
    }

    #[test]
    fn a_callers_id_is_kept() {
        assert_eq!(of(b"Abc-1.2_3"), "Abc-1.2_3");
        assert_eq!(of(&[b'a'; 128]).len(), 128);
    }

    #[test]
    fn an_id_unfit_for_a_log_is_replaced() {
        for id in [&b""[..], &[b'a'; 129], b"a b", b"a\xe9", b"a/b", b"\"x\""] {
            assert_eq!(of(id).len(), 36, "{id:?}");
        }
    }

    #[test]
    fn without_an_id_each_request_gets_its_own() {
        let new = || RequestId::of(&HeaderMap::new()).as_str().to_owned();
        assert_ne!(new(), new());
    }
}
