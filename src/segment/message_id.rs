//! The `messageId` of a call. Segment drops a call whose `messageId` it has seen, so it is the same on every attempt.
//!
//! Segment compares ids across all sources of a workspace for about a day. An id made from a caller's key is therefore
//! namespaced (`relay-`) and keyed with the write key: somebody who knows the caller's key cannot compute the id, send it
//! first and so have a customer dropped. An id is never made from the content alone, because a real change from A to B and
//! back to A would be lost.
//!
//! The id of a call without a key is a UUIDv7. It holds the time, so the outbox can find the call without an index.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::RwLock;
use sha2::Sha256;
use uuid::{NoContext, Timestamp, Uuid};

use crate::config::{Secret, WriteKeys};
use crate::customer::{SegmentIdentifyPayload, is_blank};

/// What a caller sends so that a repeated request is recognised.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Where it came from. Keys of two kinds never collide.
    pub kind: KeyKind,
    /// Not blank, and without NUL.
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
    /// What a source's setting `key` finds in an event.
    Event,
}

impl KeyKind {
    /// The name of the kind: that of the header in lower case, if it is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebhookId => "webhook-id",
            Self::IdempotencyKey => "idempotency-key",
            Self::Event => "event",
        }
    }
}

/// Where a call comes from, beside its key: two calls under one key of different origin are two.
#[derive(Clone, Copy, Default)]
pub struct Origin<'a> {
    /// The name of the source.
    pub source: Option<&'a str>,
    /// The place of the customer in a request with several.
    pub place: Option<usize>,
}

/// Makes message ids, keyed with the write keys. Clones share them.
#[derive(Clone)]
pub struct MessageIds {
    keyed: Arc<RwLock<KeyedHashes>>,
}

/// The hash that each write key begins.
struct KeyedHashes {
    default: Hmac<Sha256>,
    of_sources: HashMap<Arc<str>, Hmac<Sha256>>,
}

impl MessageIds {
    /// Keys the ids with these write keys.
    ///
    /// # Errors
    /// Never: HMAC takes keys of any length.
    pub fn new(write_keys: &WriteKeys) -> anyhow::Result<Self> {
        Ok(Self { keyed: Arc::new(RwLock::new(KeyedHashes::new(write_keys)?)) })
    }

    /// Keys the ids with other write keys from now on.
    pub fn replace_write_keys(&self, write_keys: &WriteKeys) {
        // HMAC takes keys of any length, so there is no error.
        if let Ok(keyed) = KeyedHashes::new(write_keys) {
            *self.keyed.write() = keyed;
        }
    }

    /// The id of this payload's call, and whether a repeated request gets the same id.
    pub fn id_for(
        &self,
        payload: &SegmentIdentifyPayload<'_>,
        key: Option<&IdempotencyKey>,
        origin: Origin<'_>,
    ) -> (String, bool) {
        match (&payload.message_id, key) {
            (Some(message_id), _) => (message_id.clone().into_owned(), true),
            (None, Some(key)) => (self.id_under_key(key, origin, &payload.user_id), true),
            (None, None) => (id_without_key(), false),
        }
    }

    /// The id of this user's call under this key. It is stable, and differs from any other user's, source's and place's.
    fn id_under_key(&self, key: &IdempotencyKey, origin: Origin<'_>, user_id: &str) -> String {
        let mut mac = self.keyed.read().of(origin.source).clone();
        mac.update(key.kind.name().as_bytes());
        // The marks of source and place are no part of a kind, and only the user can hold a NUL. So no two lists of parts have
        // the same bytes.
        if let Some(source) = origin.source {
            mac.update(b"\0source:");
            mac.update(source.as_bytes());
        }
        if let Some(place) = origin.place {
            mac.update(b"\0place:");
            mac.update(place.to_string().as_bytes());
        }
        for part in [b"\0", &*key.value, b"\0", user_id.as_bytes()] {
            mac.update(part);
        }
        format!("relay-{}", HEXLOWER.encode(&mac.finalize().into_bytes()))
    }
}

/// The id of a call without a key: a UUIDv7 of now. It has no counter, because threads would share the counter behind a lock.
fn id_without_key() -> String {
    // A clock before 1970 counts as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, now.as_secs(), now.subsec_nanos())).hyphenated().to_string()
}

/// Whether a call without a key may have this id: a UUID as the relay writes it. Earlier versions made random ones.
pub fn is_made_without_key(message_id: &str) -> bool {
    Uuid::try_parse(message_id).is_ok_and(|id| id.hyphenated().to_string() == message_id)
}

/// When this id was made, in milliseconds since 1970, if it is one that holds its time.
pub fn time_of_id(message_id: &str) -> Option<i64> {
    let (seconds, nanoseconds) = Uuid::try_parse(message_id).ok()?.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanoseconds / 1_000_000))
}

impl KeyedHashes {
    fn new(write_keys: &WriteKeys) -> anyhow::Result<Self> {
        let keyed = |key: &Secret| Hmac::new_from_slice(key.reveal().as_bytes()).context("cannot key message ids");
        let of_sources = write_keys.of_sources().map(|(name, key)| Ok((name.clone(), keyed(key)?)));
        Ok(Self { default: keyed(write_keys.default_key())?, of_sources: of_sources.collect::<anyhow::Result<_>>()? })
    }

    fn of(&self, source: Option<&str>) -> &Hmac<Sha256> {
        source.and_then(|name| self.of_sources.get(name)).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        IdempotencyKey, KeyKind, MessageIds, Origin, SystemTime, UNIX_EPOCH, id_without_key, is_made_without_key,
        time_of_id,
    };
    use crate::config::{Secret, WriteKeys};

    fn ids(write_key: &str) -> MessageIds {
        MessageIds::new(&WriteKeys::new(Secret::new(write_key))).unwrap()
    }

    fn id(ids: &MessageIds, key: &IdempotencyKey, user_id: &str) -> String {
        ids.id_under_key(key, Origin::default(), user_id)
    }

    fn key(kind: KeyKind, value: &str) -> IdempotencyKey {
        IdempotencyKey { kind, value: value.as_bytes().to_vec() }
    }

    #[test]
    fn the_same_key_and_user_give_the_same_id_within_segments_length_limit() {
        let key = key(KeyKind::WebhookId, "msg_1");
        let first = id(&ids("wk"), &key, "c-1");
        assert_eq!(first, id(&ids("wk"), &key, "c-1"));
        assert!(first.starts_with("relay-") && first.len() <= 99, "{first}");
    }

    #[test]
    fn another_user_key_kind_or_write_key_gives_another_id() {
        let wk = ids("wk");
        let first = id(&wk, &key(KeyKind::WebhookId, "msg_1"), "c-1");
        assert_ne!(first, id(&wk, &key(KeyKind::WebhookId, "msg_1"), "c-2"));
        assert_ne!(first, id(&wk, &key(KeyKind::WebhookId, "msg_2"), "c-1"));
        assert_ne!(first, id(&wk, &key(KeyKind::IdempotencyKey, "msg_1"), "c-1"));
        assert_ne!(first, id(&ids("other"), &key(KeyKind::WebhookId, "msg_1"), "c-1"));
        for origin in [
            Origin { source: Some("shop"), place: None },
            Origin { source: None, place: Some(0) },
            Origin { source: Some("shop"), place: Some(0) },
        ] {
            assert_ne!(first, wk.id_under_key(&key(KeyKind::WebhookId, "msg_1"), origin, "c-1"));
        }
    }

    #[test]
    fn an_id_is_the_hmac_that_openssl_computes_with_the_write_key() {
        // printf 'webhook-id\0msg_1\0c-1' | openssl dgst -sha256 -hmac wk
        let id = id(&ids("wk"), &key(KeyKind::WebhookId, "msg_1"), "c-1");
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
    fn an_id_without_a_key_holds_the_time_and_no_two_are_equal() {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let (before, id, after) = (now(), id_without_key(), now());
        assert!((before..=after).contains(&time_of_id(&id).unwrap()), "{id}");
        assert_eq!((id.len(), &id[14..15], is_made_without_key(&id)), (36, "7", true), "{id}");
        assert_ne!(id_without_key(), id_without_key());
    }

    #[test]
    fn only_an_id_that_the_relay_could_have_written_may_be_without_a_key() {
        // The example of RFC 9562, and a random one.
        let (of_v7, of_v4) = ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "919108f7-52d1-4320-9bac-f847db4148a8");
        assert_eq!((time_of_id(of_v7), time_of_id(of_v4)), (Some(1_645_557_742_000), None));
        assert!(is_made_without_key(of_v7) && is_made_without_key(of_v4));
        let braced = format!("{{{of_v7}}}");
        for other in ["", "order-7", "relay-00", &of_v7[1..], &of_v7.to_uppercase(), &of_v7.replace('-', ""), &braced] {
            assert!(!is_made_without_key(other), "{other}");
        }
        assert_eq!(time_of_id("ffffffff-ffff-7fff-bfff-ffffffffffff"), Some((1 << 48) - 1));
    }
}
