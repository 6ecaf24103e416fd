//! Who is let in: public vectors, and what differs from them a little.

mod compile;
mod lists;
mod vectors;

use super::{Auth, Unauthorized};
use crate::config::{AuthScheme, AuthSettings, SignatureEncoding};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

/// The time of the vector of Standard Webhooks.
const THEN: u64 = 1_614_265_330;

/// Body, secret and headers that the reference libraries of Standard Webhooks test themselves with
/// (github.com/standard-webhooks/standard-webhooks).
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: (&str, &str) = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
const TIME: (&str, &str) = ("webhook-timestamp", "1614265330");
const SIGNATURE: (&str, &str) = ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// What becomes of a request at this time, and the id it was signed under.
fn at(seconds: u64, auth: &Auth, pairs: &[(&str, &str)], body: &[u8]) -> Result<Option<String>, Unauthorized> {
    let headers = headers(pairs);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let id = auth.verify_head(&headers, now).and_then(|claim| auth.verify_body(claim, &headers, body))?;
    Ok(id.map(|id| String::from_utf8(id.as_bytes().to_vec()).unwrap()))
}

fn with(scheme: AuthScheme, secrets: &[&str]) -> Auth {
    let mut settings = AuthSettings::new(scheme);
    secrets.iter().for_each(|secret| settings.accept(secret).unwrap());
    Auth::new(&settings)
}

fn webhooks(pairs: &[(&str, &str)], body: &[u8]) -> Result<Option<String>, Unauthorized> {
    at(THEN, &with(AuthScheme::StandardWebhooks, &[SECRET]), pairs, body)
}

fn message(outcome: Result<Option<String>, Unauthorized>) -> String {
    let fault = outcome.unwrap_err();
    assert_eq!(fault.challenge, None);
    fault.message
}

#[test]
fn the_vector_of_standard_webhooks_is_let_in_under_its_id() {
    assert_eq!(webhooks(&[ID, TIME, SIGNATURE], BODY).unwrap().as_deref(), Some(ID.1));
}

#[test]
fn the_older_names_do_as_well_where_the_newer_are_not_complete() {
    let [id, time, signature] = [("svix-id", ID.1), ("svix-timestamp", TIME.1), ("svix-signature", SIGNATURE.1)];
    assert_eq!(webhooks(&[id, time, signature], BODY).unwrap().as_deref(), Some(ID.1));
    // The message uses the header names that the sender used.
    assert_eq!(message(webhooks(&[id, signature], BODY)), "the header svix-timestamp is missing");
    // An id that is not signed has no effect.
    let replayed = webhooks(&[("webhook-id", "msg_new"), id, time, signature], BODY);
    assert_eq!(replayed.unwrap().as_deref(), Some(ID.1));
}

#[test]
fn one_good_signature_among_others_is_enough() {
    for others in [
        "v1,AAAA v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        "v1 v2",
        "",
    ] {
        let signature = format!("{others} {} v1,", SIGNATURE.1);
        assert!(webhooks(&[ID, TIME, (SIGNATURE.0, &signature)], BODY).is_ok(), "{others}");
    }
}

#[test]
fn any_of_several_secrets_is_enough_and_none_lets_nobody_in() {
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for secrets in [[SECRET, other], [other, SECRET]] {
        assert!(at(THEN, &with(AuthScheme::StandardWebhooks, &secrets), &[ID, TIME, SIGNATURE], BODY).is_ok());
    }
    assert!(at(THEN, &with(AuthScheme::StandardWebhooks, &[other]), &[ID, TIME, SIGNATURE], BODY).is_err());
    assert!(at(THEN, &with(AuthScheme::StandardWebhooks, &[]), &[ID, TIME, SIGNATURE], BODY).is_err());
}

#[test]
fn a_signature_covers_id_time_and_body() {
    let unfit = "no signature in the header webhook-signature fits";
    assert_eq!(message(webhooks(&[ID, TIME, SIGNATURE], b"{}")), unfit);
    assert_eq!(message(webhooks(&[("webhook-id", "msg_other"), TIME, SIGNATURE], BODY)), unfit);
    assert_eq!(message(webhooks(&[ID, ("webhook-timestamp", "1614265331"), SIGNATURE], BODY)), unfit);
    for signature in ["v1,", "v1", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,g0hM9SsE"] {
        assert_eq!(message(webhooks(&[ID, TIME, ("webhook-signature", signature)], BODY)), unfit, "{signature}");
    }
}

#[test]
fn five_minutes_either_way_are_fresh_and_a_second_more_is_stale() {
    let auth = with(AuthScheme::StandardWebhooks, &[SECRET]);
    let stale = "the header webhook-timestamp is more than 5 minutes off";
    for fresh in [THEN - 300, THEN + 300] {
        assert!(at(fresh, &auth, &[ID, TIME, SIGNATURE], BODY).is_ok());
    }
    for late in [THEN - 301, THEN + 301, 0] {
        assert_eq!(message(at(late, &auth, &[ID, TIME, SIGNATURE], BODY)), stale);
    }
}

#[test]
fn a_time_is_digits_alone() {
    for wrong in ["+1614265330", "-1", "1.6e9", "1614265330.0", "99999999999999999999", "now"] {
        let outcome = webhooks(&[ID, ("webhook-timestamp", wrong), SIGNATURE], BODY);
        assert_eq!(message(outcome), "the header webhook-timestamp is not a number of seconds since 1970", "{wrong}");
    }
}

#[test]
fn a_header_that_is_missing_empty_or_there_twice_is_named() {
    let all = [ID, TIME, SIGNATURE];
    for (name, value) in all {
        let others: Vec<_> = all.into_iter().filter(|(other, _)| *other != name).collect();
        let missing = format!("the header {name} is missing");
        assert_eq!(message(webhooks(&others, BODY)), missing);
        assert_eq!(message(webhooks(&[&others[..], &[(name, "")]].concat(), BODY)), missing);
        let twice = webhooks(&[&all[..], &[(name, value)]].concat(), BODY);
        assert_eq!(message(twice), format!("the header {name} is there more than once"));
    }
}

/// Of GitHub's documentation of webhooks ("Validating webhook deliveries").
#[test]
fn the_vector_of_github_is_let_in() {
    let auth =
        AuthScheme::Hmac { header: HeaderName::from_static("x-hub-signature-256"), encoding: SignatureEncoding::Hex };
    let auth = with(auth, &["another", "It's a Secret to Everybody"]);
    let digits = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let shown = |signature: &str| at(0, &auth, &[("x-hub-signature-256", signature)], b"Hello, World!");
    for right in [format!("sha256={digits}"), digits.to_owned(), digits.to_uppercase()] {
        assert_eq!(shown(&right), Ok(None), "{right}");
    }
    assert_eq!(message(shown(&digits.replace("75", "74"))), "the signature in x-hub-signature-256 does not fit");
    assert_eq!(message(at(0, &auth, &[], b"")), "the header x-hub-signature-256 is missing");
    for unreadable in ["sha256=", "sha1=757107ea", &digits[1..], &format!("{digits}00"), "zz"] {
        let unread = "the header x-hub-signature-256 does not hold an HMAC-SHA256 in hex";
        assert_eq!(message(shown(unreadable)), unread, "{unreadable}");
    }
}

/// RFC 4231, test case 2.
#[test]
fn base64_is_read_padded_or_not() {
    let auth = with(
        AuthScheme::Hmac { header: HeaderName::from_static("x-signature-256"), encoding: SignatureEncoding::Base64 },
        &["Jefe"],
    );
    let shown = |signature: &str| at(0, &auth, &[("x-signature-256", signature)], b"what do ya want for nothing?");
    let padded = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
    for right in [padded, padded.trim_end_matches('='), &format!("sha256={padded}")] {
        assert_eq!(shown(right), Ok(None), "{right}");
    }
    assert!(shown("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843").is_err());
}

/// The token of RFC 6750, 2.1.
#[test]
fn a_token_is_let_in_whatever_the_case_of_its_scheme() {
    let auth = with(AuthScheme::Bearer, &["old", "mF_9.B5f-4.1JqM"]);
    for right in ["Bearer mF_9.B5f-4.1JqM", "bearer mF_9.B5f-4.1JqM", "BEARER  mF_9.B5f-4.1JqM", "Bearer old"] {
        assert_eq!(at(0, &auth, &[("authorization", right)], b""), Ok(None), "{right}");
    }
    for wrong in ["Bearer mF_9.B5f-4.1JqN", "Bearer", "Bearer ", "Bearermf_9", "Basic bUZfOQ==", "mF_9.B5f-4.1JqM", ""]
    {
        let fault = at(0, &auth, &[("authorization", wrong)], b"").unwrap_err();
        assert!(fault.challenge.unwrap().to_str().unwrap().starts_with("Bearer realm="), "{wrong}");
    }
}

/// The pairs of RFC 7617, 2 and 2.1.
#[test]
fn user_and_password_are_let_in() {
    let auth = with(AuthScheme::Basic, &["Aladdin:open sesame", "test:123£"]);
    for right in ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Basic dGVzdDoxMjPCow=="] {
        assert_eq!(at(0, &auth, &[("authorization", right)], b""), Ok(None), "{right}");
    }
    for wrong in ["Basic QWxhZGRpbjpvcGVuIHNlc2Ft", "Basic Aladdin:open sesame", "Basic ", "Bearer dGVzdA", ""] {
        let fault = at(0, &auth, &[("authorization", wrong)], b"").unwrap_err();
        assert_eq!(fault.challenge.unwrap(), "Basic realm=\"segment-relay\", charset=\"UTF-8\"", "{wrong}");
    }
}

#[test]
fn credentials_that_are_there_twice_are_not_believed() {
    let twice = [("authorization", "Bearer t"), ("authorization", "Bearer t")];
    assert!(at(0, &with(AuthScheme::Bearer, &["t"]), &twice, b"").is_err());
}
