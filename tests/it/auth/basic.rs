//! `basic`, RFC 7617: user and password in base64 of UTF-8.

use super::{BODY, guarded, h2_client, post_by, refused, refused_for};
use crate::harness::sign::basic;
use crate::harness::{Answer, App};

const CREDENTIALS: &str = "sender:pass:word";

async fn with(app: &App, authorization: &str) -> Answer {
    app.post_with(&[("authorization", authorization)], BODY).await
}

#[tokio::test]
async fn the_credentials_open_with_padding_and_without_under_the_scheme_in_any_case() {
    // 16, 17 and 18 bytes: with two signs of padding, with one and with none.
    for credentials in [CREDENTIALS, "sender1:pass:word", "sender12:pass:word"] {
        let app = guarded("basic", credentials).await;
        let padded = basic(credentials);
        let unpadded = padded.trim_end_matches('=');
        let bare = unpadded.trim_start_matches("Basic ");
        for authorization in [&*padded, unpadded, &format!("basic {bare}"), &format!("BASIC {bare}")] {
            let answer = with(&app, authorization).await;
            assert!(answer.is_accepted(), "{authorization}: {answer:?}");
            assert_eq!(answer.header("www-authenticate"), None);
        }
    }
}

#[tokio::test]
async fn anything_else_than_the_credentials_is_401_and_asks_for_them() {
    let app = guarded("basic", CREDENTIALS).await;
    let right = basic(CREDENTIALS);
    let bare = right.trim_start_matches("Basic ");
    let of_others = [
        basic("sender:pass:wor"),
        basic("sender:pass:word "),
        basic("sender:pass:word\n"),
        basic("sender:pass:word\0"),
        basic("Sender:pass:word"),
        basic("sender:Pass:word"),
        basic("sender::pass:word"),
        basic("sender:"),
        basic(":pass:word"),
        basic("sender"),
        basic(":"),
        basic(""),
        basic(b"sender:\xff\xfe"),
        basic("sender:p\u{e4}ss"),
        format!("Basic {CREDENTIALS}"),
        format!("Basic {bare}===="),
        format!("Basic {bare} {bare}"),
        format!("Basic {bare},{bare}"),
        format!("Basic {bare}, {right}"),
        format!("Basic{bare}"),
        format!("Bearer {bare}"),
        "Basic !!!!".to_owned(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        bare.to_owned(),
        String::new(),
    ];
    for authorization in of_others {
        let answer = with(&app, &authorization).await;
        refused(&answer);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Basic ") && challenge.contains("realm=\""), "{authorization}: {answer:?}");
        assert!(!format!("{answer:?}").contains("word"), "{authorization}: {answer:?}");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn neither_the_user_nor_the_password_is_said_to_be_the_wrong_one() {
    let app = guarded("basic", CREDENTIALS).await;
    let wrong_password = refused(&with(&app, &basic("sender:x")).await);
    let wrong_user = refused(&with(&app, &basic("x:pass:word")).await);
    let both = refused(&with(&app, &basic("x:x")).await);
    assert_eq!([&wrong_user, &both], [&wrong_password; 2]);
}

#[tokio::test]
async fn one_senders_user_does_not_open_with_anothers_password() {
    let app = guarded("basic", "ada:s3cret-of-ada,grace:s3cret-of-grace").await;
    for right in ["ada:s3cret-of-ada", "grace:s3cret-of-grace"] {
        assert!(with(&app, &basic(right)).await.is_accepted(), "{right}");
    }
    for crossed in ["ada:s3cret-of-grace", "grace:s3cret-of-ada", "ada:s3cret-of-ada,grace:s3cret-of-grace"] {
        refused(&with(&app, &basic(crossed)).await);
    }
}

#[tokio::test]
async fn a_missing_or_repeated_header_is_named() {
    let app = guarded("basic", CREDENTIALS).await;
    refused_for(&app.post_with(&[], BODY).await, "authorization");
    let (right, wrong) = (basic(CREDENTIALS), basic("sender:x"));
    for twice in [[&right, &right], [&right, &wrong], [&wrong, &right]] {
        refused_for(&app.post_with(&twice.map(|value| ("authorization", &**value)), BODY).await, "authorization");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn it_is_the_same_over_http_2() {
    let (app, client) = (guarded("basic", CREDENTIALS).await, h2_client());
    let right = basic(CREDENTIALS);
    assert!(post_by(&client, app.relay(), &[("authorization", &right)], BODY).await.is_accepted());
    refused(&post_by(&client, app.relay(), &[("authorization", &basic("sender:x"))], BODY).await);
    refused_for(&post_by(&client, app.relay(), &[], BODY).await, "authorization");
    assert_eq!(app.segment().received().await.len(), 1);
}
