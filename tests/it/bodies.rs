//! Bodies that are too slow or too large, and senders who still get to read why.

use serde_json::{Value, json};

use crate::harness::{App, ada, head};

/// The largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The largest call as sent, in bytes.
const MAX_CALL: usize = 32_768;

/// A customer whose JSON has this many bytes.
fn customer_of(bytes: usize) -> String {
    let body =
        |padding: usize| json!({"userId": "c-1", "messageId": "m-1", "traits": {"a": "x".repeat(padding)}}).to_string();
    body(bytes - body(0).len())
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "300ms")]).await;
    let mut caller = app.relay().connect().await;
    caller.send(head("content-length: 100\r\n") + r#"{"userId": "#).await;
    caller.answer().await.assert_failed(408, "request_timeout");
    assert!(caller.is_closed().await);
}

#[tokio::test]
async fn a_body_over_64_kib_is_413_announced_or_not() {
    let app = App::start().await;
    app.post_with(&[], customer_of(MAX_BODY + 1)).await.assert_failed(413, "message_too_large");
    // A sender who reads nothing before all is sent still reads the answer.
    app.post_with(&[], customer_of(1_000_000)).await.assert_failed(413, "message_too_large");

    let mut caller = app.relay().connect().await;
    caller.send(head("transfer-encoding: chunked\r\n")).await;
    for _ in 0..10 {
        caller.send(format!("{:x}\r\n{}\r\n", 10_000, " ".repeat(10_000))).await;
    }
    caller.send("0\r\n\r\n").await;
    caller.answer().await.assert_failed(413, "message_too_large");
}

#[tokio::test]
async fn a_sender_who_asks_first_need_not_send_what_is_too_large() {
    let app = App::start().await;
    let mut caller = app.relay().connect().await;
    // Less could be several customers.
    caller.send(head("expect: 100-continue\r\ncontent-length: 2000000\r\n")).await;
    caller.answer().await.assert_failed(413, "message_too_large");
}

#[tokio::test]
async fn a_body_of_just_64_kib_is_read_in_pieces_too() {
    let app = App::start().await;
    let mut body = ada().to_string();
    body.push_str(&" ".repeat(MAX_BODY - body.len()));
    assert!(app.post_with(&[], body.clone()).await.is_accepted());
    let mut caller = app.relay().connect().await;
    caller.send(head("transfer-encoding: chunked\r\n")).await;
    for piece in body.as_bytes().chunks(5_000) {
        caller.send(format!("{:x}\r\n", piece.len())).await;
        caller.send(piece).await;
        caller.send("\r\n").await;
    }
    caller.send("0\r\n\r\n").await;
    assert!(caller.answer().await.is_accepted());
}

#[tokio::test]
async fn a_call_over_the_limit_as_sent_is_413_and_one_of_just_the_limit_passes() {
    let app = App::start().await;
    assert!(app.post_with(&[], customer_of(1_000)).await.is_accepted());
    let envelope = app.segment().received_lines().await[0].len() - 1_000;
    assert!(app.post_with(&[], customer_of(MAX_CALL - envelope)).await.is_accepted());
    assert_eq!(app.segment().received_lines().await[1].len(), MAX_CALL);
    app.post_with(&[], customer_of(MAX_CALL - envelope + 1)).await.assert_failed(413, "message_too_large");
    app.post_with(&[], customer_of(MAX_BODY)).await.assert_failed(413, "message_too_large");
    assert_eq!(app.segment().received().await.len(), 2);
}

#[tokio::test]
async fn large_calls_together_never_exceed_what_segment_takes() {
    let app = App::with(&[("SEGMENT_MAX_CONCURRENCY", "1")]).await;
    app.segment().fail(json!({"latency": "200ms"})).await;
    let customers: Vec<Value> =
        (0..40).map(|n| json!({"userId": format!("c-{n}"), "traits": {"a": "x".repeat(30_000)}})).collect();
    let answers = futures_util::future::join_all(customers.iter().map(|customer| app.post(customer))).await;
    assert!(answers.iter().all(|answer| answer.is_accepted()));
    let stats = app.segment().stats().await;
    assert_eq!(stats["refusedRequests"], 0, "{stats}");
    assert!(stats["largestBatch"]["calls"].as_u64() > Some(1), "{stats}");
}
