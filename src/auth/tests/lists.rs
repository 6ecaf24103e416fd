//! Headers with several signatures, on several lines, with parts of other versions; what a 401 says of what it cannot read.

use axum::http::HeaderName;

use super::vectors::{Request, all};
use crate::auth::{Encoding, Scheme, SignatureScheme, TimeUnit, TimestampScheme, Verifier};

/// The request of this preset, with this in the header of its signature.
fn showing(preset: &str, change: impl Fn(&str) -> String) -> Request {
    let mut request = all().into_iter().find(|request| request.preset == preset).unwrap();
    let signature =
        request.headers.iter_mut().find(|(name, _)| name.contains("sign") || name.contains("hmac")).unwrap();
    signature.1 = change(std::str::from_utf8(&signature.1).unwrap()).into_bytes();
    request
}

fn message(request: &Request) -> String {
    let error = request.ask().unwrap_err();
    assert_eq!(error.challenge, None);
    error.message
}

/// Hex of a digest that fits nothing.
fn wrong() -> String {
    "0".repeat(64)
}

#[test]
fn one_good_signature_among_others_is_enough() {
    let zeros = format!("{}=", "A".repeat(43));
    for (preset, before, after) in [
        ("stripe", "", format!(",v0={},v1={}", wrong(), wrong())),
        ("stripe", "v1=zz,v1=,v0,", String::new()),
        ("paddle", "", format!(";h1={}", wrong())),
        ("paddle", "h2=1;", "; h1=".to_owned()),
        ("svix", "v1a,AAAA v2,BBBB ", format!(" v1,{zeros}")),
        ("github", "", format!(",sha256={}", wrong())),
        ("github", "sha1=00 ", " sha512=00".to_owned()),
        ("shopify", &format!("{zeros}, "), String::new()),
        ("workos", "  ", "  ,".to_owned()),
    ] {
        let request = showing(preset, |right| format!("{before}{right}{after}"));
        assert!(request.ask().is_ok(), "{preset} {before} {after}");
    }
}

#[test]
fn signatures_may_come_on_several_lines_and_what_is_signed_may_not() {
    for preset in ["stripe", "svix", "github", "shopify"] {
        let right = showing(preset, str::to_owned);
        let (name, value) =
            right.headers.iter().find(|(name, _)| name.contains("sign") || name.contains("hmac")).unwrap();
        let wrong = if preset == "stripe" { format!("v1={}", wrong()) } else { "sha256=00".to_owned() };
        let mut before = Request { headers: vec![(name.clone(), wrong.clone().into_bytes())], ..right.clone() };
        before.headers.extend(right.headers.clone());
        assert!(before.ask().is_ok(), "{preset}");
        let mut after = right.clone();
        after.headers.push((name.clone(), wrong.into_bytes()));
        assert!(after.ask().is_ok(), "{preset}");
        if preset == "stripe" {
            after.headers.push((name.clone(), value.clone()));
            assert_eq!(message(&after), "the header stripe-signature holds more than one time");
        }
    }
    for (preset, header) in [("svix", "svix-id"), ("svix", "svix-timestamp"), ("slack", "x-slack-request-timestamp")] {
        let mut twice = showing(preset, str::to_owned);
        let value = twice.headers.iter().find(|(name, _)| name == header).unwrap().1.clone();
        twice.headers.push((header.to_owned(), value));
        assert_eq!(message(&twice), format!("the header {header} is there more than once"));
    }
}

#[test]
fn sixteen_signatures_are_looked_at() {
    for (others, is_in) in [(15, true), (16, false)] {
        let request = showing("github", |right| format!("{}{right}", format!("sha256={} ", wrong()).repeat(others)));
        assert_eq!(request.ask().is_ok(), is_in, "{others}");
    }
    // What is no digest is not counted.
    assert!(showing("github", |right| format!("{}{right}", "sha256=00 sha1=00 ".repeat(99))).ask().is_ok());
}

#[test]
fn a_time_in_the_header_is_there_once_and_counts_as_it_was_sent() {
    let header = "the header stripe-signature";
    assert_eq!(message(&showing("stripe", |right| right.replace("t=", "T="))), format!("{header} holds no time"));
    let twice = showing("stripe", |right| format!("t=1,{right}"));
    assert_eq!(message(&twice), format!("{header} holds more than one time"));
    let sign = showing("stripe", |right| right.replace("t=", "t=+"));
    let time = "the time in the header stripe-signature";
    assert_eq!(message(&sign), format!("{time} is not a number of seconds since 1970"));
    // The same time in other digits is another text.
    let zero = showing("stripe", |right| right.replace("t=", "t=0"));
    assert_eq!(message(&zero), format!("no signature in {header} fits"));
    assert_eq!(message(&zero.at(0)), format!("{time} is more than 5 minutes off"));
    let recharge = showing("recharge", str::to_owned);
    assert_eq!(
        message(&recharge.at(0)),
        "the time in the header x-recharge-webhook-signature is more than 48 hours off"
    );
}

#[test]
fn a_time_in_another_unit_is_recognized() {
    let mut request = showing("slack", str::to_owned);
    request.headers[1].1 = b"1795716000123".to_vec();
    let far = "the header x-slack-request-timestamp is more than 5 minutes off; it seems to be in milliseconds";
    assert_eq!(message(&request), far);
    let mut request = showing("webflow", str::to_owned);
    request.headers[1].1 = b"1795716000".to_vec();
    let far = "the header x-webflow-timestamp is more than 5 minutes off; it seems to be in seconds";
    assert_eq!(message(&request), far);
    request.headers[1].1 = b"now".to_vec();
    assert_eq!(message(&request), "the header x-webflow-timestamp is not a number of milliseconds since 1970");
    let mut request = showing("zendesk", str::to_owned);
    for wrong in ["1795716000", "2026-11-26 ", "2026-13-26T18:00:00Z", "18:00", "\u{e9}"] {
        request.headers[1].1 = wrong.as_bytes().to_vec();
        let text = "the header x-zendesk-webhook-signature-timestamp is not a time as RFC 3339 writes it";
        assert_eq!(message(&request), text, "{wrong}");
    }
}

#[test]
fn a_digest_of_another_encoding_is_recognized() {
    let hex = showing("shopify", |_| wrong());
    assert_eq!(
        message(&hex),
        "the header x-shopify-hmac-sha256 does not hold an HMAC-SHA256 in base64 but 64 characters of hex: set the encoding to hex"
    );
    let base64 = showing("github", |_| format!("sha256={}=", "A".repeat(43)));
    assert_eq!(
        message(&base64),
        "the header x-hub-signature-256 does not hold an HMAC-SHA256 in hex but 44 characters of base64: set the encoding to base64"
    );
    for (preset, header, digest) in [
        ("github", "x-hub-signature-256", "an HMAC-SHA256"),
        ("intercom", "x-hub-signature", "an HMAC-SHA1"),
        ("hubspot-v1", "x-hubspot-signature", "a SHA-256"),
    ] {
        let other = showing(preset, |_| "sha384=00".to_owned());
        assert_eq!(message(&other), format!("the header {header} does not hold {digest} in hex"));
    }
}

/// RFC 4231, test case 2, and RFC 3339 with an offset and decimals, which no preset has.
#[test]
fn sha_512_and_a_time_with_an_offset_do_as_well() {
    let scheme = SignatureScheme {
        algorithm: crate::auth::Algorithm::HmacSha512,
        ..SignatureScheme::new(HeaderName::from_static("x-signature"))
    };
    let verifier = Verifier::new(&Scheme::Signature(Box::new(scheme)), &["Jefe".to_owned()], None).ok().unwrap();
    let digest = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
    let mut request = showing("github", str::to_owned);
    request.headers = vec![("x-signature".to_owned(), digest.as_bytes().to_vec())];
    request.body = b"what do ya want for nothing?".to_vec();
    assert!(request.ask_as(&verifier).is_ok());
    request.body.pop();
    assert!(request.ask_as(&verifier).is_err());

    let mut request = showing("zendesk", str::to_owned);
    for near in ["2026-11-26T19:04:59.999+01:00", "2026-11-26t17:55:01z"] {
        request.headers[1].1 = near.as_bytes().to_vec();
        assert_eq!(message(&request), "no signature in the header x-zendesk-webhook-signature fits", "{near}");
    }
    request.headers[1].1 = b"2026-11-26T19:05:01+01:00".to_vec();
    assert!(message(&request).ends_with("is more than 5 minutes off"));
}

#[test]
fn a_token_is_the_header_as_a_whole() {
    let header = HeaderName::from_static("x-token");
    let tokens = ["Bearer canary".to_owned(), "other".to_owned()];
    let verifier = Verifier::new(&Scheme::Token { header }, &tokens, None).ok().unwrap();
    let mut request = showing("github", str::to_owned);
    for (value, is_in) in
        [("Bearer canary", true), ("other", true), ("bearer canary", false), ("canary", false), ("other ", false)]
    {
        request.headers = vec![("x-token".to_owned(), value.as_bytes().to_vec())];
        let answer = request.ask_as(&verifier);
        assert_eq!(answer.is_ok(), is_in, "{value}");
        if let Err(error) = answer {
            assert_eq!((&*error.message, error.challenge), ("what the header x-token holds does not fit", None));
        }
    }
    request.headers.clear();
    assert_eq!(request.ask_as(&verifier).unwrap_err().message, "the header x-token is missing");
}

#[test]
fn a_scheme_of_an_operators_own_is_checked_by_the_same_rules() {
    let scheme = SignatureScheme {
        format: "v1={signature}; t={timestamp}".to_owned(),
        signed: "{timestamp}.{body}".to_owned(),
        encoding: Encoding::Hex,
        timestamp: Some(TimestampScheme {
            header: None,
            unit: TimeUnit::Seconds,
            tolerance: std::time::Duration::from_secs(1),
        }),
        ..SignatureScheme::new(HeaderName::from_static("x-signature"))
    };
    let secrets = ["relay-test-secret".to_owned()];
    let verifier = Verifier::new(&Scheme::Signature(Box::new(scheme)), &secrets, None).ok().unwrap();
    let mut request = showing("stripe", str::to_owned);
    let signature = "2689f90281238d75068536b30556fcd6931e95110ac06b96e10e7080c60ca2e2";
    request.headers = vec![("x-signature".to_owned(), format!("v1={signature};t=1795716000").into_bytes())];
    assert!(request.ask_as(&verifier).is_ok());
    let late = request.at(request.now + 2000);
    let message = late.ask_as(&verifier).unwrap_err().message;
    assert_eq!(message, "the time in the header x-signature is more than 1 second off");
}
