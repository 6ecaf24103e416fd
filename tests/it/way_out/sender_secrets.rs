//! `RELAY_ADMIN_TOKEN` and `RELAY_AUTH_SECRETS`: what is too weak, or not what was meant.

use super::{run, stops};
use crate::harness::{Segment, sign::webhook_secret};

const TOKEN: &str = "RELAY_ADMIN_TOKEN";
const SECRETS: &str = "RELAY_AUTH_SECRETS";

#[tokio::test]
async fn an_admin_token_that_is_short_or_a_senders_secret_stops_the_start() {
    let line = stops(&[(TOKEN, "s3cret-15-bytes")], TOKEN, &["s3cret"]).await;
    assert!(line.contains("16"), "{line}");
    let key = b"s3cret-of-24-bytes-or-so";
    let webhook = webhook_secret(key);
    let (bare, basic) = (webhook.trim_start_matches("whsec_").to_owned(), "sender:s3cret-of-the-sender");
    for (scheme, secrets, token) in [
        ("bearer", "s3cret-of-the-sender", "s3cret-of-the-sender"),
        ("hmac", "another, s3cret-of-the-sender", "s3cret-of-the-sender"),
        ("basic", basic, basic),
        ("basic", basic, "s3cret-of-the-sender"),
        ("standard-webhooks", &webhook, &webhook),
        ("standard-webhooks", &webhook, &bare),
        ("standard-webhooks", &webhook, "s3cret-of-24-bytes-or-so"),
    ] {
        let settings = [("RELAY_AUTH", scheme), (SECRETS, secrets), (TOKEN, token)];
        let line = stops(&settings, TOKEN, &["s3cret", token]).await;
        assert!(line.contains(SECRETS), "{line}");
    }
}

#[tokio::test]
async fn a_secret_that_was_pasted_with_its_version_is_named() {
    let webhook = webhook_secret(b"s3cret-of-24-bytes-or-so");
    for scheme in ["standard-webhooks", "hmac", "bearer"] {
        for list in [format!("v1,{webhook}"), format!("{webhook}, v1, {webhook}")] {
            let line = stops(&[("RELAY_AUTH", scheme), (SECRETS, &list)], SECRETS, &[&webhook]).await;
            assert!(line.contains("v1,whsec_"), "{line}");
        }
    }
}

#[tokio::test]
async fn weak_and_quoted_secrets_are_warned_about_and_not_shown() {
    let segment = Segment::start().await;
    let (weak, sound) = (webhook_secret(b"s3cret-of-23-bytes-or-s"), webhook_secret(b"s3cret-of-24-bytes-or-so"));
    for (scheme, secrets, expected) in [
        ("hmac", "s3cret-15-bytes", vec!["shorter"]),
        ("hmac", "s3cret-of-16-byt", vec![]),
        ("hmac", "\"s3cret-of-16-byt\"", vec!["quotes"]),
        ("bearer", "'s3cret-of-many-bytes,s3cret-of-more-bytes'", vec!["quotes", "quotes"]),
        ("bearer", "\"s3\",s3cret-of-many-bytes", vec!["quotes", "shorter"]),
        ("basic", "sender-of-customers:s3cret", vec!["shorter"]),
        ("basic", "s:s3cret-of-16-byt", vec![]),
        ("standard-webhooks", &weak, vec!["shorter"]),
        ("standard-webhooks", &sound, vec![]),
    ] {
        let settings = [("SEGMENT_ENDPOINT", segment.url()), ("RELAY_AUTH", scheme), (SECRETS, secrets)];
        let (code, printed) = run("check", &settings).await;
        assert_eq!(code, Some(0), "{secrets}: {printed:?}");
        let mut told: Vec<_> = printed.iter().filter(|line| line.contains(SECRETS)).collect();
        told.sort_by_key(|line| !line.contains("quotes"));
        assert_eq!(told.len(), expected.len(), "{secrets}: {printed:?}");
        assert!(told.iter().zip(&expected).all(|(line, word)| line.contains(word)), "{secrets}: {printed:?}");
        assert!(!printed.concat().contains("s3"), "{secrets}: {printed:?}");
    }
}
