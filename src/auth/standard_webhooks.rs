//! `standard-webhooks`: the id, the time and the body, signed together, as standardwebhooks.com specifies it, or under the
//! older names `svix-id` and so on.
//!
//! Of the versions of signatures only `v1`, HMAC-SHA256, is known. Signatures of other versions are skipped. The
//! specification's own crate is not used: it knows one secret, one set of names and its own clock, and copies the body.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::headers::required;
use super::keys::{Keys, MAC_BYTES};
use super::unauthorized::Unauthorized;
use crate::config::{WEBHOOK_TOLERANCE, decode_base64};

/// The names of the three headers of a request.
pub(super) struct HeaderNames {
    pub(super) id: &'static str,
    pub(super) timestamp: &'static str,
    pub(super) signature: &'static str,
}

/// The names of the specification.
pub(super) const STANDARD: HeaderNames =
    HeaderNames { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };

/// The names of Svix, on which the specification is based.
pub(super) const SVIX: HeaderNames =
    HeaderNames { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };

/// A recent webhook, one of whose signatures the body must match.
pub(crate) struct SignedWebhook {
    names: &'static HeaderNames,
    id: HeaderValue,
    timestamp: HeaderValue,
    signatures: HeaderValue,
}

impl SignedWebhook {
    /// Reads the three headers and checks the time.
    pub(super) fn from_headers(headers: &HeaderMap, now: Duration) -> Result<Self, Unauthorized> {
        let count = |names: &HeaderNames| {
            [names.id, names.timestamp, names.signature].iter().filter(|name| headers.contains_key(**name)).count()
        };
        // The set of names of which more headers are present.
        let names = if count(&SVIX) > count(&STANDARD) { &SVIX } else { &STANDARD };
        let [id, timestamp, signatures] =
            [required(headers, names.id)?, required(headers, names.timestamp)?, required(headers, names.signature)?];
        check_time(names.timestamp, timestamp.as_bytes(), now)?;
        Ok(Self { names, id: id.clone(), timestamp: timestamp.clone(), signatures: signatures.clone() })
    }

    /// Checks the signatures against the body. Returns the id that is part of the signed content.
    pub(super) fn verify(self, keys: &Keys, body: &[u8]) -> Result<HeaderValue, Unauthorized> {
        let Self { names, id, timestamp, signatures } = self;
        // The size of a request's head bounds their number.
        let signatures: Vec<_> = signatures.as_bytes().split(|byte| *byte == b' ').filter_map(decode_v1).collect();
        if keys.verify(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", body], &signatures) {
            return Ok(id);
        }
        Err(Unauthorized::new(format!("no signature in the header {} fits", names.signature)))
    }
}

/// `v1,` and an HMAC-SHA256 in base64.
fn decode_v1(signature: &[u8]) -> Option<[u8; MAC_BYTES]> {
    decode_base64(signature.strip_prefix(b"v1,")?)?.try_into().ok()
}

fn check_time(name: &str, timestamp: &[u8], now: Duration) -> Result<(), Unauthorized> {
    // Digits only: Rust's parser of numbers also accepts a sign.
    let seconds = std::str::from_utf8(timestamp).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(seconds) = seconds.and_then(|text| text.parse().ok()) else {
        return Err(Unauthorized::new(format!("the header {name} is not a number of seconds since 1970")));
    };
    if now.as_secs().abs_diff(seconds) <= WEBHOOK_TOLERANCE.as_secs() {
        return Ok(());
    }
    let minutes = WEBHOOK_TOLERANCE.as_secs() / 60;
    Err(Unauthorized::new(format!("the header {name} is more than {minutes} minutes off")))
}
