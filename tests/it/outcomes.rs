//! What a caller hears when Segment fails, is too slow or wants us to wait, and when the relay has no room.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::harness::{App, Relay, ada, customer, eventually};

/// Where nothing listens.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_segment_that_keeps_failing_is_502_and_certainly_did_not_accept() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "600ms")]).await;
    for status in [500, 503, 408, 410, 460] {
        app.segment().fail(json!({"status": status})).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(502, "segment_unavailable");
        assert!(answer.retry_after() >= Some(1), "{status}: {answer:?}");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn segments_retry_after_on_any_failure_reaches_a_caller_who_cannot_wait() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 503, "retryAfter": "120"})).await;
    let answer = app.post(&ada()).await;
    answer.assert_failed(502, "segment_unavailable");
    assert!((118..=120).contains(&answer.retry_after().unwrap_or_default()), "{answer:?}");
}

#[tokio::test]
async fn a_segment_that_cannot_be_reached_is_502() {
    let settings = [("SEGMENT_ENDPOINT", &*closed_port()), ("RELAY_REQUEST_TIMEOUT", "600ms")];
    let relay = Relay::start(&settings).await;
    let answer = relay.post(&ada()).await;
    answer.assert_failed(502, "segment_unavailable");
    assert!(answer.retry_after() >= Some(1), "{answer:?}");
}

#[tokio::test]
async fn a_segment_that_recovers_in_time_is_no_failure() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 503, "count": 2})).await;
    assert!(app.post(&ada()).await.is_accepted());
    assert_eq!(app.segment().received().await.len(), 1);
}

#[tokio::test]
async fn a_rate_limit_that_lasts_too_long_is_503_with_segments_retry_after() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 429, "retryAfter": "30"})).await;
    let answer = app.post(&ada()).await;
    answer.assert_failed(503, "segment_rate_limited");
    assert!((29..=30).contains(&answer.retry_after().unwrap_or_default()), "{answer:?}");
    // The next one is told at once, and Segment is left alone.
    app.segment().heal().await;
    let answer = app.post(&customer("c-2")).await;
    answer.assert_failed(503, "segment_rate_limited");
    assert!((1..=30).contains(&answer.retry_after().unwrap_or_default()), "{answer:?}");
    assert_eq!(app.segment().stats().await["requests"], 1);
}

#[tokio::test]
async fn a_rate_limit_may_name_a_date() {
    let app = App::start().await;
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
    app.segment().fail(json!({"status": 429, "retryAfter": date})).await;
    let answer = app.post(&ada()).await;
    answer.assert_failed(503, "segment_rate_limited");
    assert!((40..=60).contains(&answer.retry_after().unwrap_or_default()), "{answer:?}");
}

#[tokio::test]
async fn a_short_rate_limit_is_waited_for() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 429, "retryAfter": "1", "count": 1})).await;
    let (ada, other) = (ada(), customer("c-2"));
    let (first, second) = tokio::join!(app.post(&ada), app.post(&other));
    assert!(first.is_accepted() && second.is_accepted(), "{first:?} {second:?}");
}

#[tokio::test]
async fn too_many_requests_in_flight_are_503_and_health_is_still_told() {
    let app =
        App::with(&[("RELAY_MAX_IN_FLIGHT", "1"), ("SEGMENT_TIMEOUT", "2s"), ("RELAY_REQUEST_TIMEOUT", "2s")]).await;
    app.segment().fail(json!({"hang": true})).await;
    let ada = ada();
    let crowded = async {
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        let answer = app.post(&customer("c-2")).await;
        answer.assert_failed(503, "overloaded");
        assert!(answer.retry_after() >= Some(1), "{answer:?}");
        assert_eq!(app.get("/healthz").await.status, 200);
        assert_eq!(app.get("/readyz").await.status, 200);
    };
    let (first, ()) = tokio::join!(app.post(&ada), crowded);
    first.assert_failed(504, "segment_timeout");
    app.segment().heal().await;
    assert!(app.post(&customer("c-3")).await.is_accepted());
}

#[tokio::test]
async fn a_call_whose_deadline_passes_before_it_is_sent_is_503_and_never_sent() {
    let app = App::with(&[("SEGMENT_MAX_CONCURRENCY", "1"), ("RELAY_REQUEST_TIMEOUT", "700ms")]).await;
    app.segment().fail(json!({"hang": true})).await;
    let ada = ada();
    let queued = async {
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        app.post(&customer("c-2")).await
    };
    let (first, second) = tokio::join!(app.post(&ada), queued);
    first.assert_failed(504, "segment_timeout");
    second.assert_failed(503, "overloaded");
    assert!(second.retry_after() >= Some(1), "{second:?}");
    assert_eq!(app.segment().stats().await["requests"], 1);
}

#[tokio::test]
async fn an_attempt_without_an_answer_is_504() {
    let app = App::with(&[("SEGMENT_TIMEOUT", "200ms"), ("RELAY_REQUEST_TIMEOUT", "700ms")]).await;
    for fault in [json!({"hang": true}), json!({"reset": true})] {
        app.segment().fail(fault).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(504, "segment_timeout");
        assert!(answer.retry_after() >= Some(1), "{answer:?}");
    }
}

#[tokio::test]
async fn an_attempt_without_an_answer_followed_by_failures_is_still_504() {
    let app = App::with(&[("SEGMENT_TIMEOUT", "1s")]).await;
    app.segment().fail(json!({"hang": true})).await;
    let ada = ada();
    let failing = async {
        eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
        app.segment().fail(json!({"status": 503, "retryAfter": "60"})).await;
    };
    let (answer, ()) = tokio::join!(app.post(&ada), failing);
    answer.assert_failed(504, "segment_timeout");
    assert_eq!(app.segment().stats().await["requests"], 2);
}

#[tokio::test]
async fn a_lost_answer_is_504_and_trying_again_with_the_same_key_is_safe() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "600ms")]).await;
    app.segment().fail(json!({"reset": true, "afterAccepting": true})).await;
    let key = [("idempotency-key", "order-7")];
    app.post_with(&key, ada().to_string()).await.assert_failed(504, "segment_timeout");
    let there = app.segment().received().await;
    assert!(!there.is_empty());
    app.segment().heal().await;
    let again = app.post_with(&key, ada().to_string()).await;
    assert!(again.is_accepted(), "{again:?}");
    assert!(app.segment().received().await.iter().all(|call| call["messageId"] == again.message_id()));
}
