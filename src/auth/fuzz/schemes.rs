//! Fuzz targets `schemes` and `senders`: any templates, and any requests to presets, compared with a signer that replaces
//! placeholders in a text and knows SHA-256 alone.
//!
//! An input of `schemes` is a line with the format, one with the signed text, one with options, and the body. Whoever signs as
//! a scheme that compiles says is let in, and nobody with another body, secret or time.
//!
//! An input of `senders` is a line with a preset and the error of the sender's clock in seconds, lines of headers, an empty
//! line and the body. `@time@` stands for the sender's time, `@signature@` for the valid signature at that time, and
//! `@signature-other@` for one with a secret that is not accepted. Who is let in has shown a valid signature of a near time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{KEYS, hmac, replaced};
use crate::auth::scheme::{Algorithm, Encoding, Scheme, SecretForm, SignatureScheme, TimeUnit, TimestampScheme};
use crate::auth::{Unauthorized, Verifier, preset, presets};
use crate::fuzz::hold;

/// 2026-11-26T18:00:00Z.
const NOW: u64 = 1_795_716_000;

const URL: &str = "https://relay.example/sources/test";

/// A text in which each name stands for a value.
fn rendered(template: &str, values: &[(&str, &[u8])]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = template.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let found = values.iter().find(|(name, _)| rest.starts_with(format!("{{{name}}}").as_bytes()));
        if let Some((name, value)) = found {
            text.extend_from_slice(value);
            rest = &rest[name.len() + 2..];
        } else {
            text.push(*first);
            rest = after;
        }
    }
    text
}

/// The signature of a request. `None`: of an algorithm that this signer does not know.
fn signature(scheme: &SignatureScheme, secret: &[u8], id: &[u8], time: &[u8], body: &[u8]) -> Option<String> {
    let values: [(&str, &[u8]); 6] = [
        ("body", body),
        ("timestamp", time),
        ("id", id),
        ("method", b"POST"),
        ("url", URL.as_bytes()),
        ("secret", secret),
    ];
    let text = rendered(&scheme.signed, &values);
    let digest = match scheme.algorithm {
        Algorithm::HmacSha256 => hmac(secret, &text),
        Algorithm::Sha256 => Sha256::digest(&text).into(),
        Algorithm::HmacSha1 | Algorithm::HmacSha512 => return None,
    };
    Some(match scheme.encoding {
        Encoding::Hex => HEXLOWER.encode(&digest),
        Encoding::Base64 => BASE64.encode(&digest),
    })
}

fn ask(verifier: &Verifier, headers: &HeaderMap, body: &[u8]) -> Result<Option<HeaderValue>, Unauthorized> {
    let now = std::time::UNIX_EPOCH + Duration::from_secs(NOW);
    let claim = verifier.verify_head(headers, now)?;
    verifier.verify_body(claim, &Method::POST, headers, body)
}

fn of_options(format: &str, signed: &str, options: &str) -> SignatureScheme {
    let has = |option| options.split(' ').any(|other| other == option);
    let header = has("time-header").then(|| HeaderName::from_static("x-time"));
    SignatureScheme {
        format: format.to_owned(),
        signed: signed.to_owned(),
        encoding: if has("base64") { Encoding::Base64 } else { Encoding::Hex },
        algorithm: if has("plain") { Algorithm::Sha256 } else { Algorithm::HmacSha256 },
        timestamp: (has("time") || header.is_some()).then_some(TimestampScheme {
            header,
            unit: TimeUnit::Seconds,
            tolerance: Duration::from_secs(300),
        }),
        id_header: has("id").then(|| HeaderName::from_static("x-id")),
        ..SignatureScheme::new(HeaderName::from_static("x-signature"))
    }
}

/// The headers of a request whose sender says this time and shows this signature.
fn headers(scheme: &SignatureScheme, time: &str, signature: &str) -> Option<HeaderMap> {
    let shown = rendered(&scheme.format, &[("signature", signature.as_bytes()), ("timestamp", time.as_bytes())]);
    let mut headers = HeaderMap::new();
    // HTTP trims values.
    headers.insert("x-signature", HeaderValue::from_bytes(shown.trim_ascii()).ok()?);
    headers.insert("x-time", HeaderValue::from_str(time).ok()?);
    headers.insert("x-id", HeaderValue::from_static("msg-1"));
    Some(headers)
}

#[test]
fn whoever_signs_as_a_scheme_says_is_let_in_and_nobody_else() {
    let tokens = &[
        "{signature}",
        "{timestamp}",
        "{body}",
        "{id}",
        "{method}",
        "{url}",
        "{secret}",
        "{",
        "}",
        "t=",
        "v1=",
        "v1,",
        "sha256=",
        ",",
        ";",
        " ",
        "=",
        "\n",
        "time",
        "time-header",
        "base64",
        "plain",
        "id",
        "é",
        "\t",
        "\"",
    ];
    hold("schemes", tokens, |input| {
        let text = String::from_utf8_lossy(input);
        let mut lines = text.splitn(4, '\n');
        let [format, signed, options, body] = [(); 4].map(|()| lines.next().unwrap_or_default());
        let scheme = of_options(format, signed, options);
        let compile = |secret: &str| {
            let url = signed.contains("{url}").then_some(URL);
            Verifier::new(&Scheme::Signature(Box::new(scheme.clone())), &[secret.to_owned()], url)
        };
        let verifier = match compile(KEYS[0]) {
            Ok(verifier) => verifier,
            Err(problems) => {
                let keys = ["format: ", "signed: ", "timestamp: ", "id_header: "];
                assert!(problems.iter().all(|problem| keys.iter().any(|key| problem.starts_with(key))), "{problems:?}");
                return assert!(!problems.is_empty() && !problems.concat().contains("canary"), "{problems:?}");
            }
        };
        let time = NOW.to_string();
        let sign = |time: &str, body: &str| {
            let id = b"msg-1";
            signature(&scheme, KEYS[0].as_bytes(), id, time.as_bytes(), body.as_bytes()).unwrap_or_default()
        };
        let right = sign(&time, body);
        let Some(shown) = headers(&scheme, &time, &right) else { return };
        let is_in = |headers: &HeaderMap, body: &str| ask(&verifier, headers, body.as_bytes()).is_ok();
        assert!(is_in(&shown, body), "the right signature");
        assert!(!is_in(&shown, &format!("{body} ")), "another body");
        let other = compile(KEYS[2]).ok().unwrap();
        assert!(ask(&other, &shown, body.as_bytes()).is_err(), "another secret");
        if scheme.signed.contains("{timestamp}") {
            let later = headers(&scheme, &(NOW + 1).to_string(), &right).unwrap();
            assert!(!is_in(&later, body), "another time");
            let stale = (NOW - 301).to_string();
            let stale = headers(&scheme, &stale, &sign(&stale, body)).unwrap();
            assert_eq!(is_in(&stale, body), scheme.timestamp.is_none(), "a stale time");
        }
        // On a line of its own, a signature that does not fit hides none that does.
        if !scheme.format.contains("{timestamp}") {
            let mut twice = headers(&scheme, &time, &sign(&time, "other")).unwrap();
            twice.append("x-signature", shown["x-signature"].clone());
            assert!(is_in(&twice, body), "the second line");
        }
    });
}

/// A secret as it is set for this scheme.
fn written(scheme: &SignatureScheme, key: &str) -> String {
    let text = if scheme.secret_is == SecretForm::Base64 { BASE64.encode(key.as_bytes()) } else { key.to_owned() };
    format!("{}{text}", scheme.secret_prefix.as_deref().unwrap_or_default())
}

/// The text of a time as this scheme has it.
fn time_text(scheme: &SignatureScheme, seconds: i64) -> String {
    match scheme.timestamp.as_ref().map(|timestamp| timestamp.unit) {
        Some(TimeUnit::Milliseconds) => (seconds * 1000).to_string(),
        Some(TimeUnit::Rfc3339) => jiff::Timestamp::from_second(seconds).unwrap().to_string(),
        _ => seconds.to_string(),
    }
}

/// Whether a text is a time as near as this scheme wants it.
fn is_near(timestamp: &TimestampScheme, text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let number = || text.parse::<i128>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let time = match timestamp.unit {
        TimeUnit::Seconds => number().map(|seconds| seconds * 1000),
        TimeUnit::Milliseconds => number(),
        TimeUnit::Rfc3339 => text.parse().ok().map(|time: jiff::Timestamp| i128::from(time.as_millisecond())),
    };
    time.is_some_and(|time| (time - i128::from(NOW) * 1000).unsigned_abs() <= timestamp.tolerance.as_millis())
}

/// Whether some header shows a signature, of a near time that stands in some header.
fn is_signed(scheme: &SignatureScheme, shown: &HeaderMap, body: &[u8]) -> bool {
    let id = scheme.id_header.as_ref().and_then(|name| shown.get(name)).map_or(&b""[..], HeaderValue::as_bytes);
    let has = |time: &[u8]| {
        KEYS[..2].iter().any(|key| {
            let right = signature(scheme, key.as_bytes(), id, time, body).unwrap();
            let right = right.trim_end_matches('=').to_ascii_lowercase();
            shown.values().any(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase().contains(&right))
        })
    };
    let Some(timestamp) = &scheme.timestamp else { return has(b"") };
    shown.values().map(HeaderValue::as_bytes).any(|value| {
        let texts = (0..value.len()).flat_map(|from| (from + 1..=value.len()).map(move |to| &value[from..to]));
        // An RFC 3339 time with nanoseconds and an offset has 35 characters.
        texts.filter(|text| text.len() <= 40).any(|text| is_near(timestamp, text) && has(text))
    })
}

#[test]
fn no_preset_lets_in_what_its_sender_did_not_sign() {
    let known: Vec<(&str, SignatureScheme, Verifier)> = presets()
        .iter()
        .filter_map(|preset| match preset.scheme() {
            // This signer knows SHA-256 alone.
            Scheme::Signature(scheme) if scheme.algorithm != Algorithm::HmacSha1 => Some((preset.name, *scheme)),
            _ => None,
        })
        .map(|(name, scheme)| {
            let secrets = [KEYS[0], KEYS[1]].map(|key| written(&scheme, key));
            let url = scheme.signed.contains("{url}").then_some(URL);
            let verifier = Verifier::new(&preset(name).unwrap().scheme(), &secrets, url).ok().unwrap();
            (name, scheme, verifier)
        })
        .collect();
    let let_in = RefCell::new(BTreeSet::new());
    let tokens = &[
        "\n",
        " ",
        ",",
        ";",
        "=",
        "0",
        "1",
        "t=",
        "ts=",
        "v1=",
        "h1=",
        "v1,",
        "v0=",
        "v0",
        "sha256=",
        "@time@",
        "@signature@",
        "@signature-other@",
        "-300",
        "300",
        "301",
        "canary-of-the-sender-1",
    ];
    hold("senders", tokens, |input| {
        let end = input.windows(2).position(|end| end == b"\n\n").unwrap_or(input.len());
        let (head, body) = input.split_at(end);
        let body = body.get(2..).unwrap_or_default();
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let (name, late) = first.split_once(' ').unwrap_or((&first, "0"));
        let Some((name, scheme, verifier)) = known.iter().find(|(known, ..)| *known == name) else { return };
        let late: i64 = late.parse().unwrap_or(0).clamp(-1_000_000, 1_000_000);
        let time = time_text(scheme, i64::try_from(NOW).unwrap() + late);
        let sign = |key: &str| signature(scheme, key.as_bytes(), b"msg-1", time.as_bytes(), body).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = replaced(line, "@time@", &time);
            let line = replaced(&replaced(&line, "@signature@", &sign(KEYS[1])), "@signature-other@", &sign(KEYS[2]));
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let [name, value] = [(); 2].map(|()| parts.next().unwrap_or_default().trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        match ask(verifier, &headers, body) {
            Ok(_) => {
                assert!(is_signed(scheme, &headers, body), "let in what nobody signed: {headers:?}");
                let_in.borrow_mut().insert(*name);
            }
            Err(error) => {
                let message = error.message;
                assert!(message.is_ascii() && message.contains("header") && !message.contains("canary"), "{message}");
            }
        }
    });
    // The corpus has a right request of each.
    assert_eq!(let_in.into_inner(), known.iter().map(|(name, ..)| *name).collect());
}
