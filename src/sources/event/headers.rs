//! Which headers of a request belong to its event: what a filter may read, and what is kept with an event.

use axum::http::{HeaderMap, HeaderName};

use crate::sources::settings::{KeyPart, SourceSettings};

/// The bytes of all names and values that belong to an event. Senders use less than 2 KiB; the rest is what proxies add.
const MAX_BYTES: usize = 16 * 1024;

/// Headers that hold secrets, that end at the next hop (RFC 9110, section 7.6.1), or that say nothing of the event.
const LEFT_OUT: [&str; 15] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    // The relay makes one where a caller has none.
    "x-request-id",
];

/// The headers of an event: not those that hold secrets, and at most 16 KiB. Those of its key come first.
pub fn event_headers(source: &SourceSettings, headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let is_of_key =
        |name: &HeaderName| source.key.iter().any(|part| matches!(part, KeyPart::Header(own) if own == name));
    let is_kept = |name: &HeaderName| !LEFT_OUT.contains(&name.as_str()) && !source.verifier.reads(name);
    let (first, others): (Vec<_>, Vec<_>) = headers.iter().partition(|(name, _)| is_of_key(name));
    let mut room = MAX_BYTES;
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in first.into_iter().chain(others).filter(|(name, _)| is_kept(name)) {
        let size = name.as_str().len() + value.len();
        if size <= room {
            room -= size;
            kept.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
        }
    }
    kept
}
