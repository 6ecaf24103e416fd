//! The key under which a repeated request is recognised.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::segment::{IdempotencyKey, KeyKind};

/// The caller's key from the headers: `webhook-id`, else `Idempotency-Key`. A blank header counts as none.
pub(super) struct KeyFromHeaders(pub(super) Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for KeyFromHeaders {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(key_from_headers(&parts.headers)))
    }
}

fn key_from_headers(headers: &HeaderMap) -> Option<IdempotencyKey> {
    [KeyKind::WebhookId, KeyKind::IdempotencyKey]
        .into_iter()
        .find_map(|kind| IdempotencyKey::from_header(kind, headers.get(kind.name())?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::key_from_headers;
    use crate::segment::KeyKind;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_webhook_id_is_preferred_to_the_idempotency_key() {
        let both = key_from_headers(&headers(&[("idempotency-key", "i"), ("webhook-id", "w")])).unwrap();
        assert_eq!((both.kind, &*both.value), (KeyKind::WebhookId, &b"w"[..]));
        let one = key_from_headers(&headers(&[("idempotency-key", "i"), ("webhook-id", "")])).unwrap();
        assert_eq!((one.kind, &*one.value), (KeyKind::IdempotencyKey, &b"i"[..]));
        let one = key_from_headers(&headers(&[("idempotency-key", "i"), ("webhook-id", " \t")])).unwrap();
        assert_eq!((one.kind, &*one.value), (KeyKind::IdempotencyKey, &b"i"[..]));
        assert!(key_from_headers(&headers(&[("idempotency-key", ""), ("webhook-id", " ")])).is_none());
        assert!(key_from_headers(&HeaderMap::new()).is_none());
    }
}
