//! What Segment says no to: refused calls, credentials and endpoints that are wrong.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{App, ada, customer};

#[tokio::test]
async fn a_call_that_segment_refuses_is_422_with_segments_words() {
    let app = App::start().await;
    app.segment().fail(json!({"poisonUserIds": ["c-1042"]})).await;
    let answer = app.post(&ada()).await;
    answer.assert_failed(422, "segment_rejected");
    assert!(answer.message().contains("the batch holds a call of a poisoned user"), "{answer:?}");
    assert_eq!(answer.retry_after(), None);
    assert!(app.post(&customer("c-2")).await.is_accepted());
    assert_eq!(app.segment().received().await.len(), 1);
}

#[tokio::test]
async fn segments_words_need_not_be_json() {
    let app = App::start().await;
    for (status, body, words) in [
        (400, "no such thing as\n a <b>customer</b>", "no such thing as a <b>customer</b>"),
        (413, r#"{"success":false,"message":"exceeds the size limit","code":"x"}"#, "exceeds the size limit"),
        (413, "", "413"),
        (400, &"long ".repeat(10_000), "long long"),
    ] {
        app.segment().fail(json!({"status": status, "body": body})).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(422, "segment_rejected");
        assert!(answer.message().contains(words), "{status}: {answer:?}");
        assert!(answer.message().len() < 2_000, "{}", answer.message().len());
    }
}

#[tokio::test]
async fn a_2xx_that_says_failure_is_a_refusal() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 200, "body": r#"{"success":false,"message":"not this one"}"#})).await;
    let answer = app.post(&ada()).await;
    answer.assert_failed(422, "segment_rejected");
    assert!(answer.message().contains("not this one"), "{answer:?}");
    for body in [r#"{"success":true}"#, "", "{}"] {
        app.segment().fail(json!({"status": 202, "body": body})).await;
        assert!(app.post(&ada()).await.is_accepted(), "{body}");
    }
}

#[tokio::test]
async fn refused_credentials_are_502_and_no_customers_fault() {
    join_all([401, 403, 407].map(|status| async move {
        let app = App::start().await;
        app.segment().fail(json!({"status": status, "body": "invalid write key"})).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(502, "segment_unauthorized");
        assert!(answer.message().contains(&status.to_string()), "{answer:?}");
        assert_eq!(answer.retry_after(), None);
        assert!(app.segment().received().await.is_empty());
    }))
    .await;
}

#[tokio::test]
async fn what_is_not_segments_api_is_502() {
    join_all([301, 304, 404, 405, 451, 501, 505].map(|status| async move {
        let app = App::start().await;
        app.segment().fail(json!({"status": status})).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(502, "segment_misconfigured");
        assert_eq!(answer.retry_after(), None);
        assert!(app.segment().received().await.is_empty());
    }))
    .await;
}
