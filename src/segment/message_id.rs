//! The `messageId` of a call. Segment drops a call whose `messageId` it has seen, so it is the same on every attempt.
//!
//! Segment compares ids across all sources of a workspace for about a day. An id made from a caller's key is therefore
//! namespaced (`relay-`) and keyed with the write key: somebody who knows the caller's key cannot compute the id, send it
//! first and so have a customer dropped. An id is never made from the content alone, because a real change from A to B and
//! back to A would be lost.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Context;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::RwLock;
use sha2::Sha256;
use uuid::Uuid;

use crate::customer::{SegmentIdentifyPayload, is_blank};

/// What a caller sends so that a repeated request is recognised.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The header it came in. Keys of two kinds never collide.
    pub kind: KeyKind,
    /// The header's value: not blank, and without NUL (HTTP forbids it).
    pub value: Vec<u8>,
}

impl IdempotencyKey {
    /// The key in a header. A blank one is none: senders who have no id write it, and it would make their calls one.
    pub fn from_header(kind: KeyKind, value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        // A value that is not UTF-8 is ISO 8859-1, as values of headers once were.
        let of_latin_1 = |_| Cow::Owned(value.iter().map(|byte| char::from(*byte)).collect());
        let text = std::str::from_utf8(value).map_or_else(of_latin_1, Cow::Borrowed);
        (!is_blank(&text)).then(|| Self { kind, value: value.to_vec() })
    }
}

/// The headers that carry an idempotency key. The first that is present counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `webhook-id` (Standard Webhooks).
    WebhookId,
    /// `Idempotency-Key`.
    IdempotencyKey,
}

impl KeyKind {
    /// The header's name in lower case.
    pub fn header(self) -> &'static str {
        match self {
            Self::WebhookId => "webhook-id",
            Self::IdempotencyKey => "idempotency-key",
        }
    }
}

/// Makes message ids, keyed with the write key. Clones share it.
#[derive(Clone)]
pub struct MessageIds {
    keyed: Arc<RwLock<Hmac<Sha256>>>,
}

impl MessageIds {
    /// Keys the ids with this write key.
    ///
    /// # Errors
    /// Never: HMAC takes keys of any length.
    pub fn new(write_key: &str) -> anyhow::Result<Self> {
        Ok(Self { keyed: Arc::new(RwLock::new(keyed(write_key)?)) })
    }

    /// Keys the ids with another write key from now on.
    pub fn replace_write_key(&self, write_key: &str) {
        // HMAC takes keys of any length, so there is no error.
        if let Ok(keyed) = keyed(write_key) {
            *self.keyed.write() = keyed;
        }
    }

    /// The id of this payload's call, and whether a repeated request gets the same id.
    pub fn id_for(&self, payload: &SegmentIdentifyPayload<'_>, key: Option<&IdempotencyKey>) -> (String, bool) {
        match (&payload.message_id, key) {
            (Some(message_id), _) => (message_id.clone().into_owned(), true),
            (None, Some(key)) => (self.id_under_key(key, &payload.user_id), true),
            (None, None) => (Self::random_id(), false),
        }
    }

    /// A random id, for a call without a key.
    fn random_id() -> String {
        Uuid::new_v4().hyphenated().to_string()
    }

    /// The id of this user's call under this key. It is stable, and differs from any other user's.
    fn id_under_key(&self, key: &IdempotencyKey, user_id: &str) -> String {
        let mut mac = self.keyed.read().clone();
        // Neither the kind nor the key can hold a NUL, so the boundaries of the three parts are unambiguous.
        for part in [key.kind.header().as_bytes(), b"\0", &key.value, b"\0", user_id.as_bytes()] {
            mac.update(part);
        }
        format!("relay-{}", HEXLOWER.encode(&mac.finalize().into_bytes()))
    }
}

fn keyed(write_key: &str) -> anyhow::Result<Hmac<Sha256>> {
    Hmac::new_from_slice(write_key.as_bytes()).context("cannot key message ids")
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKey, KeyKind, MessageIds};

    fn key(kind: KeyKind, value: &str) -> IdempotencyKey {
        IdempotencyKey { kind, value: value.as_bytes().to_vec() }
    }

    #[test]
    fn the_same_key_and_user_give_the_same_id_within_segments_length_limit() {
        let key = key(KeyKind::WebhookId, "msg_1");
        let id = MessageIds::new("wk").unwrap().id_under_key(&key, "c-1");
        assert_eq!(id, MessageIds::new("wk").unwrap().id_under_key(&key, "c-1"));
        assert!(id.starts_with("relay-") && id.len() <= 99, "{id}");
    }

    #[test]
    fn another_user_key_kind_or_write_key_gives_another_id() {
        let ids = MessageIds::new("wk").unwrap();
        let id = ids.id_under_key(&key(KeyKind::WebhookId, "msg_1"), "c-1");
        assert_ne!(id, ids.id_under_key(&key(KeyKind::WebhookId, "msg_1"), "c-2"));
        assert_ne!(id, ids.id_under_key(&key(KeyKind::WebhookId, "msg_2"), "c-1"));
        assert_ne!(id, ids.id_under_key(&key(KeyKind::IdempotencyKey, "msg_1"), "c-1"));
        assert_ne!(id, MessageIds::new("other").unwrap().id_under_key(&key(KeyKind::WebhookId, "msg_1"), "c-1"));
    }

    #[test]
    fn an_id_is_the_hmac_that_openssl_computes_with_the_write_key() {
        // printf 'webhook-id\0msg_1\0c-1' | openssl dgst -sha256 -hmac wk
        let id = MessageIds::new("wk").unwrap().id_under_key(&key(KeyKind::WebhookId, "msg_1"), "c-1");
        assert_eq!(id, "relay-1349fd573997c25b0f64b114a855534318e7b6d6983a7681dbd6744bc86246e1");
    }

    #[test]
    fn a_blank_key_is_none() {
        for blank in ["", " \t", "\u{a0}", "\u{feff}\u{200b}", "\u{85}"] {
            assert!(IdempotencyKey::from_header(KeyKind::WebhookId, blank.as_bytes()).is_none(), "{blank:?}");
        }
        assert!(IdempotencyKey::from_header(KeyKind::WebhookId, b"\xA0\xAD").is_none(), "ISO 8859-1");
        for value in ["0", "null", "\u{200b}k", "\u{e9}"] {
            let key = IdempotencyKey::from_header(KeyKind::WebhookId, value.as_bytes());
            assert!(key.is_some_and(|key| key.value == value.as_bytes()), "{value:?}");
        }
        assert!(IdempotencyKey::from_header(KeyKind::WebhookId, b"\xE9").is_some_and(|key| key.value == b"\xE9"));
    }

    #[test]
    fn ids_without_a_key_differ() {
        assert_ne!(MessageIds::random_id(), MessageIds::random_id());
    }
}
