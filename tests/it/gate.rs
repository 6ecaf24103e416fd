//! How the relay speaks to Segment: what an attempt says, what is never followed, and when all wait.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{App, Durable, Relay, Segment, WRITE_KEY, ada, customer, eventually};

#[tokio::test]
async fn credentials_that_are_mended_are_noticed() {
    let app = App::start().await;
    for status in [401, 404] {
        app.segment().fail(json!({"status": status})).await;
        assert_eq!(app.post(&ada()).await.status, 502);
        app.segment().heal().await;
        let answer = app.post(&customer("c-2")).await;
        assert!(answer.is_accepted(), "{answer:?}");
    }
}

#[tokio::test]
async fn all_who_wait_at_the_gate_go_when_the_probe_went_through() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 401, "count": 1})).await;
    assert_eq!(app.post(&ada()).await.status, 502);
    let customers: Vec<_> = (0..20).map(|number| customer(&format!("c-{number}"))).collect();
    let answers = futures_util::future::join_all(customers.iter().map(|customer| app.post(customer))).await;
    assert!(answers.iter().all(|answer| answer.is_accepted()), "{answers:?}");
}

#[tokio::test]
async fn a_probe_without_an_answer_does_not_open_the_gate() {
    let durable = Durable::with(&[("SEGMENT_TIMEOUT", "300ms")]).await;
    durable.segment().fail(json!({"status": 401})).await;
    for number in 0..20 {
        assert!(durable.post(&customer(&format!("c-{number}"))).await.is_stored());
    }
    let gate_shut = async || durable.relay().metric("segment_relay_gate_shut").await;
    eventually(async || gate_shut().await == 1.0).await;
    durable.segment().fail(json!({"reset": true})).await;
    let unanswered = r#"segment_relay_segment_attempts_total{result="unknown"}"#;
    eventually(async || durable.relay().metric(unanswered).await >= 3.0).await;
    assert_eq!(gate_shut().await, 1.0);
    durable.segment().heal().await;
    eventually(async || gate_shut().await == 0.0).await;
    eventually(async || durable.segment().received().await.len() == 20).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let segment = Segment::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", elsewhere.local_addr().unwrap());
    let location = format!("{}/v1/batch", segment.url());
    std::thread::spawn(move || {
        let (mut stream, _) = elsewhere.accept().unwrap();
        let mut request = [0; 16 * 1024];
        let _ = stream.read(&mut request).unwrap();
        let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let relay = Relay::start(&[("SEGMENT_ENDPOINT", &endpoint)]).await;
    relay.post(&ada()).await.assert_failed(502, "segment_misconfigured");
    assert_eq!(segment.stats().await["requests"], 0);
}

#[tokio::test]
async fn every_attempt_says_who_speaks_when_and_how_often() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 503, "afterAccepting": true, "retryAfter": "1", "count": 2})).await;
    let answer = app.post(&ada()).await;
    assert!(answer.is_accepted(), "{answer:?}");
    let requests = app.segment().requests().await;
    let counts: Vec<&Value> = requests.iter().map(|request| &request["headers"]["x-retry-count"]).collect();
    assert_eq!(counts, [&Value::Null, &json!("1"), &json!("2")]);
    let mut sent_at: Vec<&str> = requests.iter().filter_map(|request| request["envelope"]["sentAt"].as_str()).collect();
    assert!(sent_at.iter().all(|at| at.len() == 24 && at.ends_with('Z')), "{sent_at:?}");
    sent_at.dedup();
    assert_eq!(sent_at.len(), 3, "{sent_at:?}");
    for request in &requests {
        assert_eq!(request["path"], "/v1/batch");
        assert_eq!(request["headers"]["content-type"], "application/json");
        assert_eq!(request["envelope"]["writeKey"], WRITE_KEY);
        assert!(request["headers"]["authorization"].as_str().is_some_and(|value| value.starts_with("Basic ")));
        assert_eq!(request["headers"]["content-encoding"], Value::Null);
    }
    // The same call each time, its id and timestamp included.
    let mut calls = app.segment().received_lines().await;
    assert_eq!(calls.len(), 3);
    calls.dedup();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].contains(answer.message_id()));
}

#[tokio::test]
async fn no_more_requests_a_second_than_were_allowed() {
    let app = App::with(&[("SEGMENT_MAX_REQUESTS_PER_SECOND", "2"), ("RELAY_REQUEST_TIMEOUT", "20s")]).await;
    let customers: Vec<_> = (0..100).map(|number| customer(&format!("c-{number}"))).collect();
    let answers = futures_util::future::join_all(customers.iter().map(|customer| app.post(customer))).await;
    assert!(answers.iter().all(|answer| answer.is_accepted()));
    let requests = app.segment().requests().await;
    let sent: Vec<jiff::Timestamp> =
        requests.iter().map(|request| request["envelope"]["sentAt"].as_str().unwrap().parse().unwrap()).collect();
    assert!(sent.len() < 20, "{}", sent.len());
    // Half a second lies between two, less what a busy machine adds to the stamping of the first.
    assert!(sent.windows(3).all(|three| three[2].duration_since(three[0]).as_millis() >= 500), "{sent:?}");
}

#[tokio::test]
async fn calls_that_still_waited_when_a_rate_limit_came_hear_segments_retry_after_too() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 429, "retryAfter": "120", "latency": "500ms"})).await;
    let waiting = async {
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        app.post(&ada()).await
    };
    let ada = ada();
    let (sent, waited) = tokio::join!(app.post(&ada), waiting);
    for answer in [sent, waited] {
        assert_eq!((answer.status, answer.code()), (503, "segment_rate_limited"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("120"), "{answer:?}");
    }
}
