//! Fuzz target `signatures`: any headers, body and time, under every scheme, compared with a reference made from SHA-256
//! alone and with the crate of Standard Webhooks.
//!
//! An input is a line with the scheme and the error of the sender's clock in seconds, lines of headers, an empty line and the
//! body. `@time@` stands for the sender's time. `@v1@`, `@hex@` and `@base64@` stand for the valid signature of the request;
//! `@v1-second@`, `@v1-other@` and so on for one with the second secret and one with a secret that is not accepted.
//!
//! The crate accepts more: a time with a sign or zeros before it, and the first of two headers. It accepts less: no bodies and
//! headers that are not text, no base64 without padding, no header names of Svix.

mod schemes;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{Auth, Unauthorized};
use crate::config::{AuthScheme, AuthSettings, SignatureEncoding};
use crate::fuzz::hold;

/// Two accepted secrets, and one that is not accepted.
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
    /// The request that an input stands for at this time.
    fn from_input(input: &[u8], now: u64) -> Self {
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

    /// The reference: whether the request is let in.
    fn is_valid(&self, now: u64) -> bool {
        let may_be = match &*self.scheme {
            "standard-webhooks" => self.is_valid_webhook(now),
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

    fn is_valid_webhook(&self, now: u64) -> Option<bool> {
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

/// The accepted signatures.
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
    for (key, suffix) in KEYS.iter().zip(["", "-second", "-other"]) {
        let [webhook, mac] = [signed, body].map(|message| hmac(key.as_bytes(), message));
        let hex = HEXLOWER.encode(&mac);
        for (name, right) in [
            ("v1", format!("v1,{}", BASE64.encode(&webhook))),
            ("base64", BASE64.encode(&mac)),
            ("HEX", hex.to_ascii_uppercase()),
            ("hex", hex),
        ] {
            value = replaced(&value, &format!("@{name}{suffix}@"), &right);
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
    auth.verify_body(claim, headers, body).map(|id| id.map(|id| id.as_bytes().to_vec()))
}

/// The message names a header or the signature, and contains nothing of the request and no secret.
fn assert_reveals_nothing(fault: &Unauthorized, request: &Request) {
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

/// One of so many bytes is changed. The length of the body chooses which, so that many requests cover all.
const STEP: usize = 5;

/// A request with one bit changed, in the body or in a header, is let in only if the reference lets it in.
fn assert_every_bit_counts(auth: &Auth, request: &Request, now: u64) {
    let of_body = (0..request.body.len().min(24)).map(|at| (None, at));
    let of_headers = request.headers.iter().enumerate();
    let of_headers =
        of_headers.flat_map(|(header, (_, value))| (0..value.len().min(60)).map(move |at| (Some(header), at)));
    for (at, (header, byte)) in of_body.chain(of_headers).enumerate().skip(request.body.len() % STEP).step_by(STEP) {
        let mut other =
            Request { scheme: request.scheme.clone(), headers: request.headers.clone(), body: request.body.clone() };
        // Each byte and each request has another bit changed.
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
        assert_eq!(is_let_in, other.is_valid(now), "byte {byte} of {header:?}, bits {flip:#b}");
    }
}

/// The crate of Standard Webhooks lets the same requests in, except for the differences named above.
fn assert_agrees_with_the_crate(request: &Request, is_let_in: bool, now: u64) {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = request.headers();
    let [id, time, signatures] = names.map(|name| request.only(name).and_then(|value| std::str::from_utf8(value).ok()));
    let (Some(id), Some(time), Some(signatures)) = (id, time, signatures) else { return };
    let Ok(seconds) = time.parse::<u64>() else { return };
    // The crate reads the clock itself, a little later.
    let is_near_the_limit = (290..=310).contains(&now.abs_diff(seconds));
    let is_plain = id.is_ascii() && signatures.is_ascii() && seconds.to_string() == time && !signatures.contains('\t');
    let is_padded = signatures
        .split(' ')
        .all(|shown| shown.len() == "v1,".len() + 44 && shown.ends_with('=') && !shown.ends_with("=="));
    if is_near_the_limit
        || !is_plain
        || !is_padded
        || i64::try_from(seconds).is_err()
        || std::str::from_utf8(&request.body).is_err()
    {
        return;
    }
    let accepts =
        |secret: &&str| standardwebhooks::Webhook::new(secret).unwrap().verify(&request.body, &headers).is_ok();
    assert_eq!(WEBHOOK_SECRETS[..2].iter().any(accepts), is_let_in, "the crate differs");
}

#[test]
fn a_request_is_let_in_if_and_only_if_its_credentials_are_valid() {
    let auths = SCHEMES.map(|scheme| (scheme, auth(scheme)));
    let none = Auth::none();
    hold("signatures", TOKENS, |input| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let request = Request::from_input(input, now);
        let auth = auths.iter().find(|(scheme, _)| *scheme == request.scheme).map_or(&none, |(_, auth)| auth);
        let answer = ask(auth, &request.headers(), &request.body, now);
        assert_eq!(answer.is_ok(), request.is_valid(now), "{answer:?}");
        if request.scheme == "standard-webhooks" {
            assert_agrees_with_the_crate(&request, answer.is_ok(), now);
        }
        match answer {
            Ok(id) => {
                let signed = request.only("webhook-id").or_else(|| request.only("svix-id"));
                assert!(id.is_none() || id.as_deref() == signed || request.has("svix-id"), "{id:?}");
                assert_eq!(id.is_some(), request.scheme == "standard-webhooks");
                if auth.0.is_some() {
                    assert_every_bit_counts(auth, &request, now);
                }
            }
            Err(fault) => assert_reveals_nothing(&fault, &request),
        }
    });
}
