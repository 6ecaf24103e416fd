//! What is written to the logs. What never is, `secrets.rs` looks for.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{App, Relay, ada, eventually};

/// All that can go wrong and one that does not, each under its own request id; the ids of those that failed.
async fn noise(app: &App) -> Vec<String> {
    let good = ada().to_string();
    let post = async |id: &str, headers: &[(&str, &str)], body: String| {
        let headers: Vec<_> = [("x-request-id", id), ("idempotency-key", "key-of-the-caller")]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        app.post_with(&headers, body).await
    };
    assert!(post("fine", &[], good.clone()).await.is_accepted());
    assert_eq!(post("bad-json", &[], r#"{"userId":"c-1042" "ada@example.com"}"#.into()).await.status, 400);
    let invalid =
        json!({"userId": "c-1042", "traits": {"email": ["ada@example.com"]}, "anonymousId": {"a": "anon-17"}});
    assert_eq!(post("invalid", &[], invalid.to_string()).await.status, 422);
    assert_eq!(post("media", &[("content-type", "text/plain")], good.clone()).await.status, 415);
    let large = json!({"userId": "c-1042", "traits": {"email": "ada@example.com".repeat(3_000)}});
    assert_eq!(post("large", &[], large.to_string()).await.status, 413);
    app.segment().fail(json!({"poisonUserIds": ["c-poison"]})).await;
    assert_eq!(post("poison", &[], r#"{"userId":"c-poison","traits":{}}"#.into()).await.status, 422);
    app.segment().fail(json!({"status": 400, "body": "words of Segment about ada@example.com"})).await;
    assert_eq!(post("refused", &[], good.clone()).await.status, 422);
    app.segment().fail(json!({"status": 503, "body": "words of Segment", "retryAfter": "60"})).await;
    assert_eq!(post("failed", &[], good.clone()).await.status, 502);
    app.segment().fail(json!({"status": 401, "body": "words of Segment about c-1042"})).await;
    assert_eq!(post("credentials", &[], good.clone()).await.status, 502);
    app.segment().fail(json!({"status": 429, "retryAfter": "60"})).await;
    assert_eq!(post("limited", &[], good).await.status, 503);
    let failed = ["bad-json", "invalid", "media", "large", "poison", "refused", "failed", "credentials", "limited"];
    failed.map(str::to_owned).to_vec()
}

fn lines_of<'a>(log: &'a [Value], request_id: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["request_id"] == request_id).collect()
}

/// Waits until all that happened before is written: a failure's line comes after it.
async fn written(relay: &Relay) {
    relay.post_with(&[("x-request-id", "the-last")], "").await.assert_failed(400, "invalid_json");
    eventually(async || !lines_of(&relay.log(), "the-last").is_empty()).await;
}

#[tokio::test]
async fn every_failure_has_one_line_and_a_success_has_none() {
    let app = App::start().await;
    let failed = noise(&app).await;
    written(app.relay()).await;
    let log = app.relay().log();
    for id in failed {
        let lines = lines_of(&log, &id);
        assert_eq!(lines.len(), 1, "{id}: {lines:?}");
        assert!(lines[0]["code"].is_string() && lines[0]["timestamp"].is_string(), "{lines:?}");
    }
    assert!(lines_of(&log, "fine").is_empty());
    assert!(app.relay().process().stderr().is_empty());
}

#[tokio::test]
async fn successes_write_nothing_at_all() {
    let app = App::start().await;
    let before = app.relay().log().len();
    for _ in 0..20 {
        assert!(app.post(&ada()).await.is_accepted());
    }
    written(app.relay()).await;
    assert_eq!(app.relay().log().len(), before + 1, "{:?}", app.relay().log());
}

/// The line of the failed request `id`, when it is written.
async fn line_of(relay: &Relay, id: &str) -> Value {
    eventually(async || !lines_of(&relay.log(), id).is_empty()).await;
    lines_of(&relay.log(), id)[0].clone()
}

#[tokio::test]
async fn the_line_of_a_call_that_segment_did_not_accept_says_why() {
    // Without the limit of lines: there may be many posts before the answer is the one that is waited for.
    let log = ("RELAY_LOG", "info,segment_relay::publisher=debug");
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "900ms"), ("SEGMENT_TIMEOUT", "200ms"), log]).await;
    for (id, fault, code, reason, status) in [
        ("failed", json!({"status": 503}), "segment_unavailable", "status", Some(503)),
        ("limited", json!({"status": 429, "retryAfter": "2"}), "segment_rate_limited", "status", Some(429)),
        ("silent", json!({"hang": true}), "segment_timeout", "timeout", None),
        ("sign-in", json!({"status": 200, "body": "<html>sign in</html>"}), "segment_misconfigured", "body", Some(200)),
    ] {
        app.segment().fail(fault).await;
        // A pause that a fault before asked for is over when another code is there.
        eventually(async || {
            let request_id = format!("{id}-{}", fastrand::u32(..));
            let answer = app.post_with(&[("x-request-id", &request_id)], ada().to_string()).await;
            let line = line_of(app.relay(), &request_id).await;
            assert_eq!(line["code"], answer.code());
            (&line["code"], &line["reason"], line["status"].as_u64()) == (&code.into(), &reason.into(), status)
        })
        .await;
    }
}

#[tokio::test]
async fn the_line_says_that_nothing_listens_at_the_endpoint() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [("SEGMENT_ENDPOINT", &*format!("http://{closed}")), ("RELAY_REQUEST_TIMEOUT", "600ms")];
    let relay = Relay::start(&settings).await;
    relay.post_with(&[("x-request-id", "refused")], ada().to_string()).await.assert_failed(502, "segment_unavailable");
    let line = line_of(&relay, "refused").await;
    assert_eq!((&line["reason"], &line["status"]), (&"connection_refused".into(), &Value::Null), "{line}");
}
