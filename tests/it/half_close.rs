//! Callers who end their direction after a request and wait for the answer (RFC 9112, section 9.6), and callers who reset.

use serde_json::json;

use crate::harness::{App, ada, customer, eventually, head};

#[tokio::test]
async fn a_caller_who_half_closes_after_its_request_gets_its_answer() {
    let app = App::start().await;
    for latency in ["0ms", "200ms"] {
        app.segment().fail(json!({"latency": latency})).await;
        for _ in 0..5 {
            let mut caller = app.relay().connect().await;
            caller.post(&ada().to_string()).await;
            caller.half_close().await;
            let answer = caller.answer().await;
            assert!(answer.is_accepted(), "{answer:?}");
            assert!(caller.is_closed().await);
        }
    }
    let mut reader = app.relay().connect().await;
    reader.send("GET /openapi.json HTTP/1.1\r\nhost: relay\r\n\r\n").await;
    reader.half_close().await;
    assert_eq!(reader.answer().await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_all_answered_after_a_half_close() {
    let app = App::start().await;
    app.segment().fail(json!({"latency": "100ms"})).await;
    let mut caller = app.relay().connect().await;
    let requests = (0..5).map(|n| {
        let body = customer(&format!("c-{n}")).to_string();
        head(&format!("content-length: {}\r\n", body.len())) + &body
    });
    caller.send(requests.collect::<String>()).await;
    caller.half_close().await;
    for n in 0..5 {
        assert!(caller.answer().await.is_accepted(), "{n}");
    }
    assert!(caller.is_closed().await);
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_400_and_the_connection_ends() {
    let app = App::start().await;
    let mut caller = app.relay().connect().await;
    caller.send(head("content-length: 100\r\n") + r#"{"userId""#).await;
    caller.half_close().await;
    caller.answer().await.assert_failed(400, "invalid_json");
    assert!(caller.is_closed().await);
    for half in ["", "POST /cust"] {
        let mut caller = app.relay().connect().await;
        caller.send(half).await;
        caller.half_close().await;
        assert!(caller.is_closed_at_last().await, "{half}");
    }
}

#[tokio::test]
async fn a_caller_who_resets_while_its_call_waits_gives_its_place_back() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "10m")]).await;
    // Far longer than this test is willing to wait for anything.
    app.segment().fail(json!({"status": 503, "retryAfter": "300", "count": 1})).await;
    let mut caller = app.relay().connect().await;
    caller.post(&ada().to_string()).await;
    eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
    caller.reset();
    eventually(async || app.relay().metric("segment_relay_requests_in_flight").await == 0.0).await;
}
