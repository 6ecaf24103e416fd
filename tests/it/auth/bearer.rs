//! `bearer`, RFC 6750: the token in `Authorization`, exactly.

use super::{BODY, guarded, h2_client, post_by, refused, refused_for};
use crate::harness::App;

/// RFC 6750, section 2.1.
const TOKEN: &str = "mF_9.B5f-4.1JqM";

async fn with(app: &App, authorization: &str) -> crate::harness::Answer {
    app.post_with(&[("authorization", authorization)], BODY).await
}

#[tokio::test]
async fn the_token_opens_under_the_scheme_in_any_case() {
    let app = guarded("bearer", TOKEN).await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let answer = with(&app, &format!("{scheme} {TOKEN}")).await;
        assert!(answer.is_accepted(), "{scheme}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), None);
    }
    assert_eq!(app.segment().received().await.len(), 4);
}

#[tokio::test]
async fn anything_else_than_the_token_is_401_and_asks_for_it() {
    let app = guarded("bearer", TOKEN).await;
    let of_others = [
        format!("Bearer {}", TOKEN.to_lowercase()),
        format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]),
        format!("Bearer {TOKEN}x"),
        format!("Bearer x{TOKEN}"),
        format!("Bearer \"{TOKEN}\""),
        format!("Bearer {TOKEN},{TOKEN}"),
        format!("Bearer {TOKEN}, Bearer {TOKEN}"),
        format!("Bearer {TOKEN} {TOKEN}"),
        format!("Bearer{TOKEN}"),
        format!("Bearer={TOKEN}"),
        format!("Bearer Bearer {TOKEN}"),
        format!("Token {TOKEN}"),
        format!("Basic {TOKEN}"),
        format!("Bearer\u{1}{TOKEN}").replace('\u{1}', "\t"),
        TOKEN.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer =".to_owned(),
        String::new(),
    ];
    for authorization in of_others {
        let answer = with(&app, &authorization).await;
        refused(&answer);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        // RFC 6750, section 3: with a parameter at least.
        assert!(challenge.starts_with("Bearer realm=\""), "{authorization}: {answer:?}");
        assert!(!format!("{answer:?}").contains(TOKEN), "{authorization}: {answer:?}");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn a_token_that_differs_is_only_said_not_to_fit() {
    let app = guarded("bearer", TOKEN).await;
    let first = refused(&with(&app, "Bearer x").await);
    for other in [&TOKEN[1..], "mF_9.B5f-4.1JqN", "aa.bb.cc", &"x".repeat(5_000)] {
        let answer = with(&app, &format!("Bearer {other}")).await;
        assert_eq!(refused(&answer), first, "{other}");
        // RFC 6750, section 3.1.
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains(r#"error="invalid_token""#), "{challenge}");
    }
}

#[tokio::test]
async fn a_missing_or_repeated_header_is_named() {
    let app = guarded("bearer", TOKEN).await;
    let right = format!("Bearer {TOKEN}");
    let missing = app.post_with(&[], BODY).await;
    refused_for(&missing, "authorization");
    // RFC 6750, section 3: no error code for a request that shows nothing.
    let challenge = missing.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error="), "{challenge}");
    for twice in [[&*right, &*right], [&*right, "Bearer x"], ["Bearer x", &*right], ["", &*right], [&*right, ""]] {
        let answer = app.post_with(&twice.map(|value| ("authorization", value)), BODY).await;
        refused_for(&answer, "authorization");
        assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn a_token_in_another_place_is_none() {
    let app = guarded("bearer", TOKEN).await;
    for (name, value) in [
        ("cookie", format!("access_token={TOKEN}")),
        ("x-authorization", format!("Bearer {TOKEN}")),
        ("proxy-authorization", format!("Bearer {TOKEN}")),
    ] {
        refused_for(&app.post_with(&[(name, &value)], BODY).await, "authorization");
    }
    let url = app.relay().url(&format!("/customers?access_token={TOKEN}"));
    let request = crate::harness::client().post(url).header("content-type", "application/json").body(BODY);
    let answer = crate::harness::Answer::of(request.send().await.unwrap()).await.unwrap();
    refused_for(&answer, "authorization");
}

#[tokio::test]
async fn every_visible_character_but_the_comma_may_stand_in_a_token() {
    let token: String = ('!'..='~').filter(|character| *character != ',').collect();
    let app = guarded("bearer", &token).await;
    assert!(with(&app, &format!("Bearer {token}")).await.is_accepted());
    refused(&with(&app, &format!("Bearer {}", token.to_uppercase())).await);
}

#[tokio::test]
async fn it_is_the_same_over_http_2() {
    let (app, client) = (guarded("bearer", TOKEN).await, h2_client());
    let right = format!("bearer {TOKEN}");
    assert!(post_by(&client, app.relay(), &[("authorization", &right)], BODY).await.is_accepted());
    let wrong = post_by(&client, app.relay(), &[("authorization", "Bearer x")], BODY).await;
    refused(&wrong);
    assert!(wrong.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    refused_for(&post_by(&client, app.relay(), &[], BODY).await, "authorization");
    let twice = [("authorization", &*right), ("authorization", &*right)];
    refused_for(&post_by(&client, app.relay(), &twice, BODY).await, "authorization");
    assert_eq!(app.segment().received().await.len(), 1);
}
