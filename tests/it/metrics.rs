//! What `/metrics` counts when Segment does not accept a call, and how full what is bounded is.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{App, Durable, ada, eventually, head};

async fn assert_counted(app: &App, series: &[&str]) {
    for series in series {
        assert_eq!(app.relay().metric(&format!("segment_relay_{series}")).await, 1.0, "{series}");
    }
}

#[tokio::test]
async fn a_call_that_was_certainly_not_accepted_counts_as_failed() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 401})).await;
    app.post(&ada()).await.assert_failed(502, "segment_unauthorized");
    let series = [
        r#"requests_total{code="segment_unauthorized",result="failed"}"#,
        r#"segment_attempts_total{result="unauthorized"}"#,
        r#"calls_total{result="failed"}"#,
    ];
    assert_counted(&app, &series).await;
    assert_eq!(app.relay().metric(r#"segment_relay_calls_total{result="unknown"}"#).await, 0.0);
}

#[tokio::test]
async fn a_call_whose_outcome_is_unknown_counts_as_unknown() {
    let app = App::with(&[("SEGMENT_TIMEOUT", "3s"), ("RELAY_REQUEST_TIMEOUT", "60s")]).await;
    app.segment().fail(json!({"hang": true})).await;
    let ada = ada();
    let rate_limit = async {
        eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
        app.segment().fail(json!({"status": 429, "retryAfter": "300"})).await;
    };
    let (answer, ()) = tokio::join!(app.post(&ada), rate_limit);
    answer.assert_failed(504, "segment_timeout");
    let series = [
        r#"requests_total{code="segment_timeout",result="failed"}"#,
        r#"segment_attempts_total{result="unknown"}"#,
        r#"segment_attempts_total{result="rate_limited"}"#,
        r#"calls_total{result="unknown"}"#,
    ];
    assert_counted(&app, &series).await;
    assert_eq!(app.relay().metric(r#"segment_relay_calls_total{result="failed"}"#).await, 0.0);
}

#[tokio::test]
async fn places_of_waiting_callers_room_for_bodies_and_connections_are_seen_while_they_are_taken() {
    let durable = Durable::with(&[("RELAY_MAX_IN_FLIGHT", "64"), ("RELAY_REQUEST_TIMEOUT", "120s")]).await;
    let is = async |series: &str, value: f64| durable.relay().metric(&format!("segment_relay_{series}")).await == value;
    durable.segment().fail(json!({"hang": true})).await;
    let waiting = durable.relay().post_request(&ada()).header("prefer", "wait=100");
    let mut caller = JoinSet::new();
    caller.spawn(waiting.send());
    let mut slow = durable.relay().connect().await;
    slow.send(head("content-length: 9000\r\n") + &"x".repeat(5000)).await;
    eventually(async || is("requests_waiting", 1.0).await && is("requests_in_flight", 1.0).await).await;
    // The first KiB takes none.
    let room = r#"body_room_used_bytes{route="customers"}"#;
    eventually(async || durable.relay().metric(&format!("segment_relay_{room}")).await >= 5000.0 - 1024.0).await;
    assert!(is("requests_waiting_max", 32.0).await && is("requests_in_flight_max", 64.0).await);
    // Those of the caller, of the slow one, and of these questions.
    assert!(durable.relay().metric(r#"segment_relay_connections{listener="senders"}"#).await >= 3.0);
    drop(slow);
    durable.segment().heal().await;
    // The caller leaves.
    drop(caller);
    eventually(async || is(room, 0.0).await && is("requests_waiting", 0.0).await).await;
}

#[tokio::test]
async fn a_full_outbox_is_seen_with_its_limit_and_what_is_in_it() {
    let durable = Durable::with(&[("RELAY_OUTBOX_MAX_SIZE", "1MiB")]).await;
    let metric = async |name: &str| durable.relay().metric(&format!("segment_relay_outbox_{name}")).await;
    assert_eq!((metric("max_bytes").await, metric("unwritable").await), (1048576.0, 0.0));
    durable.segment().fail(json!({"hang": true})).await;
    let mut users = 0..200;
    let large = |n: i32| json!({"userId": format!("c-{n}"), "traits": {"note": "n".repeat(20_000)}});
    while durable.post(&large(users.next().expect("a limit"))).await.is_stored() {}
    eventually(async || metric("unwritable").await == 1.0).await;
    assert!(metric("size_bytes").await > 0.5 * 1048576.0);
    assert_eq!(durable.get("/readyz").await.status, 503);
}
