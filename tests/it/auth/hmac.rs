//! `hmac`: HMAC-SHA256 of the body in a header of one's choice.

use super::{BODY, guarded, h2_client, post_by, refused, refused_for};
use crate::harness::sign::{hmac_base64, hmac_hex};
use crate::harness::{Answer, App};

const SECRET: &str = "s3cret of the sender";

const HEADER: &str = "x-signature-256";

async fn with(app: &App, signature: &str) -> Answer {
    app.post_with(&[(HEADER, signature)], BODY).await
}

/// A relay that wants base64 in Shopify's header.
async fn base64() -> App {
    let settings = [
        ("RELAY_AUTH", "hmac"),
        ("RELAY_AUTH_SECRETS", SECRET),
        ("RELAY_AUTH_HMAC_HEADER", "X-Shopify-Hmac-Sha256"),
        ("RELAY_AUTH_HMAC_ENCODING", "base64"),
    ];
    App::with(&settings).await
}

#[tokio::test]
async fn hexadecimal_digits_of_either_case_open_with_sha256_before_them_and_without() {
    let app = guarded("hmac", SECRET).await;
    let hex = hmac_hex(SECRET, BODY);
    let upper = hex.to_uppercase();
    let mixed = format!("{}{}", &hex[..32], &upper[32..]);
    for signature in [&hex, &upper, &mixed] {
        assert!(with(&app, signature).await.is_accepted(), "{signature}");
        assert!(with(&app, &format!("sha256={signature}")).await.is_accepted(), "{signature}");
    }
    assert_eq!(app.segment().received().await.len(), 6);
}

#[tokio::test]
async fn base64_opens_in_another_header_with_padding_and_without_and_with_sha256_before_it() {
    let app = base64().await;
    let signature = hmac_base64(SECRET, BODY);
    for right in [&*signature, signature.trim_end_matches('='), &format!("sha256={signature}")] {
        for header in ["x-shopify-hmac-sha256", "X-Shopify-Hmac-SHA256"] {
            let answer = app.post_with(&[(header, right)], BODY).await;
            assert!(answer.is_accepted(), "{right}: {answer:?}");
        }
    }
    // The header that is the default means nothing now, and neither do digits.
    refused_for(&app.post_with(&[(HEADER, &signature)], BODY).await, "x-shopify-hmac-sha256");
    refused(&app.post_with(&[("x-shopify-hmac-sha256", &hmac_hex(SECRET, BODY))], BODY).await);
}

#[tokio::test]
async fn a_signature_that_does_not_fit_is_401_without_a_challenge() {
    let app = guarded("hmac", SECRET).await;
    let hex = hmac_hex(SECRET, BODY);
    let first = refused(&with(&app, &hmac_hex("another", BODY)).await);
    for other in [
        hmac_hex(SECRET, format!("{BODY} ")),
        hmac_hex(SECRET, BODY.to_uppercase()),
        hmac_hex(SECRET, ""),
        hmac_hex(&SECRET[1..], BODY),
        hmac_hex("", BODY),
        format!("{}{}", if hex.starts_with('0') { '1' } else { '0' }, &hex[1..]),
        format!("{}{}", &hex[..63], if hex.ends_with('0') { '1' } else { '0' }),
        "0".repeat(64),
    ] {
        let answer = with(&app, &other).await;
        assert_eq!(refused(&answer), first, "{other}");
        assert_eq!(answer.header("www-authenticate"), None);
        assert!(!format!("{answer:?}").contains(&hex), "the right one is told: {answer:?}");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn what_can_be_no_signature_is_401() {
    let app = guarded("hmac", SECRET).await;
    let hex = hmac_hex(SECRET, BODY);
    let of_others = [
        String::new(),
        "sha256=".to_owned(),
        "sha256".to_owned(),
        "=".to_owned(),
        format!("sha256=sha256={hex}"),
        format!("sha1={hex}"),
        format!("sha512={hex}"),
        format!("v1={hex}"),
        format!("={hex}"),
        format!("0x{hex}"),
        format!("{hex}{hex}"),
        format!("{hex}00"),
        format!("00{hex}"),
        format!("{hex},{hex}"),
        format!("{hex} {hex}"),
        format!("sha256= {hex}"),
        format!("\"{hex}\""),
        hex[..62].to_owned(),
        hex[..63].to_owned(),
        hex[2..].to_owned(),
        format!("{}g", &hex[..63]),
        hmac_base64(SECRET, BODY),
        "a".repeat(20_000),
    ];
    for signature in of_others {
        refused(&with(&app, &signature).await);
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_text_are_no_signature() {
    let app = guarded("hmac", SECRET).await;
    let mut caller = app.relay().connect().await;
    for value in [&b"\xff\xfe\x80"[..], "\u{661}".repeat(64).as_bytes(), &[0x80; 64]] {
        let head = format!(
            "POST /customers HTTP/1.1\r\nhost: relay\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{HEADER}: ",
            BODY.len()
        );
        caller.send([head.as_bytes(), value, b"\r\n\r\n", BODY.as_bytes()].concat()).await;
        refused(&caller.answer().await);
    }
}

#[tokio::test]
async fn a_missing_or_repeated_header_is_named() {
    let app = guarded("hmac", SECRET).await;
    refused_for(&app.post_with(&[], BODY).await, HEADER);
    let (right, wrong) = (hmac_hex(SECRET, BODY), "0".repeat(64));
    for twice in [[&right, &right], [&right, &wrong], [&wrong, &right]] {
        refused_for(&app.post_with(&twice.map(|value| (HEADER, &**value)), BODY).await, HEADER);
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn a_secret_is_any_text_and_counts_as_its_bytes() {
    let odd = [
        "two words",
        "p\u{e4}ssw\u{f6}rd \u{1f511}",
        "whsec_czNjcmV0",
        "a:b",
        "=",
        "\"quoted\"",
        "ends\u{a0}",
        "\u{3000}",
    ];
    for secret in odd.iter().map(|secret| (*secret).to_owned()).chain(["long".repeat(1_000)]) {
        // Spaces around a secret are not part of it, those of other scripts are.
        let app = guarded("hmac", &format!(" {secret}\n")).await;
        let answer = with(&app, &hmac_hex(&secret, BODY)).await;
        assert!(answer.is_accepted(), "{secret}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_signed_is_the_body_byte_for_byte() {
    let app = guarded("hmac", SECRET).await;
    let spaced = " { \"userId\" : \"c-1042\",\r\n\t\"traits\" : { \"name\": \"\\u0041da \u{1f3d4}\" } }\n";
    assert!(app.post_with(&[(HEADER, &hmac_hex(SECRET, spaced))], spaced).await.is_accepted());
    refused(&app.post_with(&[(HEADER, &hmac_hex(SECRET, spaced.trim()))], spaced).await);
    // No JSON, no UTF-8, or nothing at all can be signed, too; it is asked what it means afterwards.
    for body in [&b""[..], b"\xff\xfe\x00", b"\0", b"{\"userId\":", b"Hello"] {
        let signature = hmac_hex(SECRET, body);
        app.post_with(&[(HEADER, &signature)], body).await.assert_failed(400, "invalid_json");
        refused(&app.post_with(&[(HEADER, &"0".repeat(64))], body).await);
    }
}

#[tokio::test]
async fn it_is_the_same_over_http_2() {
    let (app, client) = (guarded("hmac", SECRET).await, h2_client());
    let right = hmac_hex(SECRET, BODY);
    assert!(post_by(&client, app.relay(), &[(HEADER, &right)], BODY).await.is_accepted());
    refused(&post_by(&client, app.relay(), &[(HEADER, &right)], format!("{BODY} ")).await);
    refused_for(&post_by(&client, app.relay(), &[], BODY).await, HEADER);
    refused_for(&post_by(&client, app.relay(), &[(HEADER, &right), (HEADER, &right)], BODY).await, HEADER);
    assert_eq!(app.segment().received().await.len(), 1);
}
