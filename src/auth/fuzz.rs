//! Fuzz target `signatures`: any headers, body and time, under every scheme, against a reference made from SHA-256 alone and
//! against the crate of Standard Webhooks.
//!
//! An input is a line with the scheme and how many seconds the sender's clock is off, lines of headers, an empty line and the
//! body. `@time@` stands for the sender's time; `@v1@`, `@hex@` and `@base64@` for the right signature of it all, and
//! `@v1-second@`, `@v1-other@` and so on for that of the second secret and of one that is not accepted.
//!
//! The crate differs in what it takes: a time with a sign or zeros before it, the first of two headers; and in what it does
//! not: bodies and headers that are no text, base64 without padding, the names of Svix.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{Auth, Unauthorized};
use crate::config::{AuthScheme, AuthSettings, SignatureEncoding};
use crate::fuzz::hold;

/// Two that are accepted, and one that is not.
const WEBHOOK_SECRETS: [&str; 3] =
    ["whsec_Y2FuYXJ5LW9mLXRoZS1zZW5kZXItMQ==", "whsec_Y2FuYXJ5LW9mLXRoZS1zZW5kZXItMg==", "whsec_Y2FuYXJ5LTM="];
const KEYS: [&str; 3] = ["canary-of-the-sender-1", "canary-of-the-sender-2", "canary-3"];
const TOKENS_KNOWN: [&str; 2] = ["canary-token", "canary~second"];
const PAIRS: [&str; 2] = ["relay:canary", "relay:canary:2"];

const SCHEMES: [&str; 5] = ["standard-webhooks", "hmac", "hmac-base64", "bearer", "basic"];

const TOKENS: &[&str] = &[
    "\n",
    " ",
    "\t",
    ":",
    ",",
    ".",
    "=",
    "==",
    "+",
    "-",
    "0",
    "webhook-id: ",
    "webhook-timestamp: ",
    "webhook-signature: ",
    "svix-id: ",
    "svix-timestamp: ",
    "svix-signature: ",
    "x-signature-256: ",
    "authorization: ",
    "@time@",
    "@v1@",
    "@v1-second@",
    "@v1-other@",
    "@hex@",
    "@HEX@",
    "@hex-other@",
    "@base64@",
    "v1,",
    "v2,",
    "v1a,",
    "sha256=",
    "Bearer ",
    "Basic ",
    "canary-token",
    "cmVsYXk6Y2FuYXJ5",
    "cmVsYXk6Y2FuYXJ5OjI",
    "300",
    "-300",
    "301",
    "18446744073709551616",
    "\u{0}",
    "é",
];

/// RFC 2104, from the hash alone.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    assert!(key.len() <= 64, "a longer key is hashed first");
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).unwrap_or(&0) ^ with).collect() };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c), &inner[..]].concat()).into()
}

struct Request {
    scheme: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

impl Request {
    /// The request an input stands for, at this time.
    fn of(input: &[u8], now: u64) -> Self {
        let end = input.windows(2).position(|end| end == b"\n\n").unwrap_or(input.len());
        let (head, body) = input.split_at(end);
        let body = body.get(2..).unwrap_or_default().to_vec();
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let (scheme, late) = first.split_once(' ').unwrap_or((&first, "0"));
        let time = now.wrapping_add_signed(late.parse().unwrap_or(0)).to_string();
        let lines = lines.map(|line| replaced(line, "@time@", &time));
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = lines
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
                Some((line[..colon].to_ascii_lowercase(), value.to_vec()))
            })
            .collect();
        let first = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| pairs.iter().find(|(other, _)| other == name.as_bytes()));
            found.map_or(&[][..], |(_, value)| value)
        };
        let id = first(["webhook-id", "svix-id"]);
        let signed = [id, b".", first(["webhook-timestamp", "svix-timestamp"]), b".", &body].concat();
        let headers = pairs.iter().filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(&with_signatures(value, &signed, &body)).ok()?;
            Some((HeaderName::from_bytes(name).ok()?, value))
        });
        Self { scheme: scheme.to_owned(), headers: headers.collect(), body: body.clone() }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        headers
    }

    /// The value of a header that is there once and not empty.
    fn only(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_bytes());
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other == name)
    }

    /// Who is let in, said again.
    fn is_right(&self, now: u64) -> bool {
        let may_be = match &*self.scheme {
            "standard-webhooks" => self.is_right_webhook(now),
            "hmac" => self.only("x-signature-256").map(|value| {
                let value =
                    String::from_utf8_lossy(value.strip_prefix(b"sha256=").unwrap_or(value)).to_ascii_lowercase();
                macs(&self.body).any(|mac| HEXLOWER.encode(&mac) == value)
            }),
            "hmac-base64" => self.only("x-signature-256").map(|value| {
                let value = value.strip_prefix(b"sha256=").unwrap_or(value);
                macs(&self.body).any(|mac| is_base64_of(value, &mac))
            }),
            "bearer" => {
                self.credentials("bearer ").map(|token| TOKENS_KNOWN.iter().any(|right| *token == *right.as_bytes()))
            }
            "basic" => {
                self.credentials("basic ").map(|text| PAIRS.iter().any(|pair| is_base64_of(text, pair.as_bytes())))
            }
            _ => Some(true),
        };
        may_be == Some(true)
    }

    fn is_right_webhook(&self, now: u64) -> Option<bool> {
        let all_of =
            |prefix: &str| ["id", "timestamp", "signature"].iter().all(|part| self.has(&format!("{prefix}-{part}")));
        let prefix = if all_of("svix") && !all_of("webhook") { "svix" } else { "webhook" };
        let [id, time, signatures] =
            ["id", "timestamp", "signature"].map(|part| self.only(&format!("{prefix}-{part}")));
        let time = std::str::from_utf8(time?).ok()?;
        let seconds: u64 = time.parse().ok().filter(|_| !time.starts_with('+'))?;
        let signed = [id?, b".", time.as_bytes(), b".", &self.body].concat();
        let mut shown = signatures?.split(|byte| *byte == b' ').filter_map(|shown| shown.strip_prefix(b"v1,"));
        let fits = shown.any(|shown| macs(&signed).any(|mac| is_base64_of(shown, &mac)));
        Some(fits && now.abs_diff(seconds) <= 300)
    }

    fn credentials(&self, scheme: &str) -> Option<&[u8]> {
        let (name, rest) = self.only("authorization")?.split_at_checked(scheme.len())?;
        name.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii())
    }
}

/// The signatures that are accepted.
fn macs(message: &[u8]) -> impl Iterator<Item = [u8; 32]> {
    KEYS.iter().take(2).map(move |key| hmac(key.as_bytes(), message))
}

fn is_base64_of(text: &[u8], bytes: &[u8]) -> bool {
    let right = BASE64.encode(bytes);
    let right = right.trim_end_matches('=');
    ["", "=", "=="].iter().any(|padding| *text == *[right, padding].concat().as_bytes())
}

fn replaced(text: &[u8], what: &str, with: &str) -> Vec<u8> {
    let mut text = text.to_vec();
    while let Some(at) = text.windows(what.len()).position(|window| window == what.as_bytes()) {
        text.splice(at..at + what.len(), with.bytes());
    }
    text
}

fn with_signatures(value: &[u8], signed: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    for (key, whose) in KEYS.iter().zip(["", "-second", "-other"]) {
        let [webhook, mac] = [signed, body].map(|message| hmac(key.as_bytes(), message));
        let hex = HEXLOWER.encode(&mac);
        for (name, right) in [
            ("v1", format!("v1,{}", BASE64.encode(&webhook))),
            ("base64", BASE64.encode(&mac)),
            ("HEX", hex.to_ascii_uppercase()),
            ("hex", hex),
        ] {
            value = replaced(&value, &format!("@{name}{whose}@"), &right);
        }
    }
    value
}

fn auth(scheme: &str) -> Auth {
    let hmac = |encoding| {
        (AuthScheme::Hmac { header: HeaderName::from_static("x-signature-256"), encoding }, [KEYS[0], KEYS[1]])
    };
    let (scheme, secrets) = match scheme {
        "standard-webhooks" => (AuthScheme::StandardWebhooks, [WEBHOOK_SECRETS[0], WEBHOOK_SECRETS[1]]),
        "hmac" => hmac(SignatureEncoding::Hex),
        "hmac-base64" => hmac(SignatureEncoding::Base64),
        "bearer" => (AuthScheme::Bearer, TOKENS_KNOWN),
        "basic" => (AuthScheme::Basic, PAIRS),
        _ => return Auth::none(),
    };
    let mut settings = AuthSettings::new(scheme);
    secrets.iter().for_each(|secret| settings.accept(secret).unwrap());
    Auth::new(&settings)
}

fn ask(auth: &Auth, headers: &HeaderMap, body: &[u8], now: u64) -> Result<Option<Vec<u8>>, Unauthorized> {
    let now = UNIX_EPOCH + std::time::Duration::from_secs(now);
    let claim = auth.verify_head(headers, now)?;
    auth.verify_body(claim, body).map(|id| id.map(|id| id.as_bytes().to_vec()))
}

/// Says which header is at fault, and holds nothing of the request or a secret.
fn assert_tells_nothing(fault: &Unauthorized, request: &Request) {
    let message = &fault.message;
    assert!(
        message.is_ascii() && (10..100).contains(&message.len()) && message.contains("header")
            || message.contains("signature"),
        "{message}"
    );
    assert!(!message.contains("canary"), "{message}");
    for mac in macs(&request.body) {
        assert!(!message.contains(&HEXLOWER.encode(&mac)) && !message.contains(&BASE64.encode(&mac)), "{message}");
    }
    assert_eq!(fault.challenge.is_some(), matches!(&*request.scheme, "bearer" | "basic"));
}

/// Of every so many bytes one is tried: which, depends on the request, and there are many.
const STEP: usize = 5;

/// With one bit of the body or a header another, it is let in only if the reference lets it in.
fn assert_every_bit_counts(auth: &Auth, request: &Request, now: u64) {
    let of_body = (0..request.body.len().min(24)).map(|at| (None, at));
    let of_headers = request.headers.iter().enumerate();
    let of_headers =
        of_headers.flat_map(|(header, (_, value))| (0..value.len().min(60)).map(move |at| (Some(header), at)));
    for (at, (header, byte)) in of_body.chain(of_headers).enumerate().skip(request.body.len() % STEP).step_by(STEP) {
        let mut other =
            Request { scheme: request.scheme.clone(), headers: request.headers.clone(), body: request.body.clone() };
        // Another bit for each byte, and for each request.
        let flip = 1 << ((at / STEP + request.body.len()) % 8);
        match header {
            None => other.body[byte] ^= flip,
            Some(header) => {
                let mut value = other.headers[header].1.as_bytes().to_vec();
                value[byte] ^= flip;
                let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
                other.headers[header].1 = value;
            }
        }
        let is_let_in = ask(auth, &other.headers(), &other.body, now).is_ok();
        assert_eq!(is_let_in, other.is_right(now), "byte {byte} of {header:?}, bits {flip:#b}");
    }
}

/// What the crate of Standard Webhooks takes is taken and the other way round, but for the differences named above.
fn assert_agrees_with_the_crate(request: &Request, is_let_in: bool, now: u64) {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = request.headers();
    let [id, time, signatures] = names.map(|name| request.only(name).and_then(|value| std::str::from_utf8(value).ok()));
    let (Some(id), Some(time), Some(signatures)) = (id, time, signatures) else { return };
    let Ok(seconds) = time.parse::<u64>() else { return };
    // The crate asks the time itself, a little later.
    let is_at_the_edge = (290..=310).contains(&now.abs_diff(seconds));
    let is_plain = id.is_ascii() && signatures.is_ascii() && seconds.to_string() == time && !signatures.contains('\t');
    let is_padded = signatures
        .split(' ')
        .all(|shown| shown.len() == "v1,".len() + 44 && shown.ends_with('=') && !shown.ends_with("=="));
    if is_at_the_edge
        || !is_plain
        || !is_padded
        || i64::try_from(seconds).is_err()
        || std::str::from_utf8(&request.body).is_err()
    {
        return;
    }
    let takes = |secret: &&str| standardwebhooks::Webhook::new(secret).unwrap().verify(&request.body, &headers).is_ok();
    assert_eq!(WEBHOOK_SECRETS[..2].iter().any(takes), is_let_in, "the crate differs");
}

#[test]
fn only_what_is_rightly_signed_is_let_in_and_all_of_it() {
    let auths = SCHEMES.map(|scheme| (scheme, auth(scheme)));
    let none = Auth::none();
    hold("signatures", TOKENS, |input| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let request = Request::of(input, now);
        let auth = auths.iter().find(|(scheme, _)| *scheme == request.scheme).map_or(&none, |(_, auth)| auth);
        let answer = ask(auth, &request.headers(), &request.body, now);
        assert_eq!(answer.is_ok(), request.is_right(now), "{answer:?}");
        if request.scheme == "standard-webhooks" {
            assert_agrees_with_the_crate(&request, answer.is_ok(), now);
        }
        match answer {
            Ok(id) => {
                let signed = request.only("webhook-id").or_else(|| request.only("svix-id"));
                assert!(id.is_none() || id.as_deref() == signed || request.has("svix-id"), "{id:?}");
                assert_eq!(id.is_some(), request.scheme == "standard-webhooks");
                if !matches!(auth.0, super::Scheme::None) {
                    assert_every_bit_counts(auth, &request, now);
                }
            }
            Err(fault) => assert_tells_nothing(&fault, &request),
        }
    });
}
