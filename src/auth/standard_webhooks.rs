//! `standard-webhooks`: the id, the time and the body, signed together, as the specification at standardwebhooks.com has it.
//! The same under the older names `svix-id` and so on.
//!
//! Of the versions of signatures only `v1`, HMAC-SHA256, is known; others may stand beside it and are passed over. The
//! specification's own crate is not used here: it knows one secret, one set of names and its own clock, and copies the body.

use std::time::Duration;

use axum::http::HeaderMap;

use super::Unauthorized;
use super::headers::only;
use super::keys::{Keys, LENGTH};
use crate::config::{WEBHOOK_TOLERANCE, decode_base64};

/// The names of a request's three headers.
pub(crate) struct Names {
    pub(crate) id: &'static str,
    pub(crate) timestamp: &'static str,
    pub(crate) signature: &'static str,
}

impl Names {
    fn all(&self) -> [&'static str; 3] {
        [self.id, self.timestamp, self.signature]
    }
}

/// The specification's.
pub(crate) const STANDARD: Names =
    Names { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };

/// Those of Svix, from which the specification comes.
pub(crate) const SVIX: Names = Names { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };

/// A fresh webhook whose signatures the body has to bear out.
pub(crate) struct Webhook<'a> {
    keys: &'a Keys,
    names: &'static Names,
    id: &'a [u8],
    timestamp: &'a [u8],
    signatures: &'a [u8],
}

impl<'a> Webhook<'a> {
    pub(super) fn claimed(keys: &'a Keys, headers: &'a HeaderMap, now: Duration) -> Result<Self, Unauthorized> {
        // Of the names of which more are there: those that are complete, or nearly.
        let there = |names: &Names| names.all().iter().filter(|name| headers.contains_key(**name)).count();
        let names = if there(&SVIX) > there(&STANDARD) { &SVIX } else { &STANDARD };
        let [id, timestamp, signatures] =
            [only(headers, names.id)?, only(headers, names.timestamp)?, only(headers, names.signature)?];
        check_time(names.timestamp, timestamp, now)?;
        Ok(Self { keys, names, id, timestamp, signatures })
    }

    /// The id, if the body was signed under it.
    pub(super) fn prove(self, body: &[u8]) -> Result<&'a [u8], Unauthorized> {
        // As many as the head has room for.
        let signatures: Vec<[u8; LENGTH]> = self.signatures.split(|byte| *byte == b' ').filter_map(v1).collect();
        if self.keys.signed(&[self.id, b".", self.timestamp, b".", body], &signatures) {
            return Ok(self.id);
        }
        Err(Unauthorized::new(format!("no signature in the header {} fits", self.names.signature)))
    }
}

/// `v1,` and an HMAC-SHA256 in base64.
fn v1(signature: &[u8]) -> Option<[u8; LENGTH]> {
    decode_base64(signature.strip_prefix(b"v1,")?)?.try_into().ok()
}

fn check_time(name: &str, timestamp: &[u8], now: Duration) -> Result<(), Unauthorized> {
    // Digits alone: a number in Rust may begin with a sign.
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
