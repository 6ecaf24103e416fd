//! The `messageId` of a call: Segment's dedupe key, the same on every attempt.
//!
//! Segment dedupes across all of a workspace's sources for about a day, so an id made from a caller's key is namespaced
//! (`relay-`), and keyed, so that nobody who knows the caller's key can guess it and have a customer swallowed. Never made from the content
//! alone: a real change from A to B and back to A would be lost.

use std::fmt::Write;

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::customer::SegmentIdentifyPayload;

/// What a caller gave us to recognise a repeated request by.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The header it came in: two kinds never collide.
    pub kind: KeyKind,
    /// The header's bytes, not empty, without NUL (HTTP forbids it).
    pub value: Vec<u8>,
}

/// The headers that carry an idempotency key, the first that is there wins.
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

/// Makes message ids, keyed with the write key.
#[derive(Clone)]
pub struct MessageIds {
    keyed: Hmac<Sha256>,
}

impl MessageIds {
    /// # Errors
    /// Never: HMAC takes keys of any length.
    pub fn new(write_key: &str) -> anyhow::Result<Self> {
        let keyed = Hmac::new_from_slice(write_key.as_bytes()).context("cannot key message ids")?;
        Ok(Self { keyed })
    }

    /// The id of this payload's call, and whether it comes from a key.
    pub fn of(&self, payload: &SegmentIdentifyPayload<'_>, key: Option<&IdempotencyKey>) -> (String, bool) {
        match (&payload.message_id, key) {
            (Some(message_id), _) => (message_id.clone().into_owned(), true),
            (None, Some(key)) => (self.under(key, &payload.user_id), true),
            (None, None) => (Self::fresh(), false),
        }
    }

    /// A new id, for a call without a key.
    fn fresh() -> String {
        Uuid::new_v4().hyphenated().to_string()
    }

    /// The id of this user's call under this key: stable, and another one for another user.
    fn under(&self, key: &IdempotencyKey, user_id: &str) -> String {
        let mut mac = self.keyed.clone();
        // Neither the kind nor the key can hold a NUL, so the three parts cannot run into each other.
        for part in [key.kind.header().as_bytes(), b"\0", &key.value, b"\0", user_id.as_bytes()] {
            mac.update(part);
        }
        let mut id = String::with_capacity("relay-".len() + 64);
        id.push_str("relay-");
        for byte in mac.finalize().into_bytes() {
            // Writing to a String cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKey, KeyKind, MessageIds};

    fn key(kind: KeyKind, value: &str) -> IdempotencyKey {
        IdempotencyKey { kind, value: value.as_bytes().to_vec() }
    }

    #[test]
    fn the_same_key_and_user_give_the_same_id_within_segments_limit() {
        let key = key(KeyKind::WebhookId, "msg_1");
        let id = MessageIds::new("wk").unwrap().under(&key, "c-1");
        assert_eq!(id, MessageIds::new("wk").unwrap().under(&key, "c-1"));
        assert!(id.starts_with("relay-") && id.len() <= 99, "{id}");
    }

    #[test]
    fn another_user_key_kind_or_write_key_gives_another_id() {
        let ids = MessageIds::new("wk").unwrap();
        let id = ids.under(&key(KeyKind::WebhookId, "msg_1"), "c-1");
        assert_ne!(id, ids.under(&key(KeyKind::WebhookId, "msg_1"), "c-2"));
        assert_ne!(id, ids.under(&key(KeyKind::WebhookId, "msg_2"), "c-1"));
        assert_ne!(id, ids.under(&key(KeyKind::IdempotencyKey, "msg_1"), "c-1"));
        assert_ne!(id, MessageIds::new("other").unwrap().under(&key(KeyKind::WebhookId, "msg_1"), "c-1"));
    }

    #[test]
    fn an_id_is_the_hmac_with_the_write_key_that_anyone_can_check() {
        // printf 'webhook-id\0msg_1\0c-1' | openssl dgst -sha256 -hmac wk
        let id = MessageIds::new("wk").unwrap().under(&key(KeyKind::WebhookId, "msg_1"), "c-1");
        assert_eq!(id, "relay-1349fd573997c25b0f64b114a855534318e7b6d6983a7681dbd6744bc86246e1");
    }

    #[test]
    fn ids_without_a_key_are_never_the_same() {
        assert_ne!(MessageIds::fresh(), MessageIds::fresh());
    }
}
