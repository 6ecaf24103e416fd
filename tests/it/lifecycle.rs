//! How the relay ends: politely, at once, or when the grace is over; and callers who are slow on purpose.

use serde_json::json;

use crate::harness::{App, Raw, ada, customer, eventually, head};

async fn is_hanging(app: &App) -> bool {
    app.relay().metric("segment_relay_slots_busy").await == 1.0
}

#[tokio::test]
async fn a_relay_told_to_stop_is_not_ready_and_still_serves_for_a_while() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "3s")]).await;
    app.segment().fail(json!({"latency": "4s"})).await;
    let in_flight = tokio::task::JoinSet::from_iter([app.relay().post_request(&ada()).send()]);
    eventually(async || is_hanging(&app).await).await;
    app.segment().heal().await;
    app.relay().process().signal("TERM");
    eventually(async || app.get("/readyz").await.status == 503).await;
    assert_eq!(app.get("/readyz").await.body["reasons"], json!(["shutting down"]));
    assert_eq!(app.get("/healthz").await.status, 200);
    assert!(app.post(&customer("c-2")).await.is_accepted());
    // What is in flight is finished after the delay, too.
    let answers = in_flight.join_all().await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)), "{answers:?}");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
    assert!(app.relay().try_get("/healthz").await.is_err());
    assert_eq!(app.segment().received().await.len(), 2);
}

#[tokio::test]
async fn a_quiet_relay_ends_at_an_interrupt_with_idle_connections_open() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "60s")]).await;
    let _silent = app.relay().connect().await;
    let mut idle = app.relay().connect().await;
    idle.post(&ada().to_string()).await;
    assert!(idle.answer().await.is_accepted());
    app.relay().process().signal("INT");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "60s")]).await;
    app.relay().process().signal("TERM");
    eventually(async || app.get("/readyz").await.status == 503).await;
    app.relay().process().signal("TERM");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(143));
}

#[tokio::test]
async fn when_the_grace_is_over_every_caller_is_told_the_truth() {
    let settings = [
        ("SEGMENT_MAX_CONCURRENCY", "1"),
        ("SEGMENT_TIMEOUT", "60s"),
        ("RELAY_REQUEST_TIMEOUT", "60s"),
        ("RELAY_SHUTDOWN_DELAY", "0s"),
        ("RELAY_SHUTDOWN_GRACE", "500ms"),
    ];
    let mut app = App::with(&settings).await;
    app.segment().fail(json!({"hang": true})).await;
    let (first, second) = (ada(), customer("c-2"));
    let told_to_stop = async {
        // Before that it is the first that waits.
        eventually(async || is_hanging(&app).await).await;
        eventually(async || app.relay().metric("segment_relay_calls_waiting").await == 1.0).await;
        app.relay().process().signal("TERM");
    };
    let waiting = async {
        eventually(async || is_hanging(&app).await).await;
        app.post(&second).await
    };
    let (sent, not_sent, ()) = tokio::join!(app.post(&first), waiting, told_to_stop);
    sent.assert_failed(504, "segment_timeout");
    not_sent.assert_failed(503, "shutting_down");
    assert!(not_sent.retry_after() >= Some(1), "{not_sent:?}");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(1));
}

#[tokio::test]
async fn a_call_that_waits_for_another_attempt_is_not_lost_in_silence() {
    let settings =
        [("RELAY_REQUEST_TIMEOUT", "60s"), ("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "500ms")];
    let mut app = App::with(&settings).await;
    app.segment().fail(json!({"status": 503, "retryAfter": "30"})).await;
    let ada = ada();
    let told_to_stop = async {
        eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
        app.relay().process().signal("TERM");
    };
    let (answer, ()) = tokio::join!(app.post(&ada), told_to_stop);
    answer.assert_failed(503, "shutting_down");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(1));
}

#[tokio::test]
async fn a_request_that_comes_while_the_relay_drains_is_503() {
    let settings = [("SEGMENT_TIMEOUT", "60s"), ("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "5s")];
    let mut app = App::with(&settings).await;
    let mut late = app.relay().connect().await;
    let whole = ada().to_string();
    let request = head(&format!("content-length: {}\r\n", whole.len())) + &whole;
    let (now, later) = request.split_at(20);
    late.send(now).await;
    app.relay().process().signal("TERM");
    eventually(async || app.relay().try_get("/readyz").await.is_err()).await;
    // It may be too late even for that, but then nothing was taken.
    if late.try_send(later).await.is_ok()
        && let Some(answer) = late.answer_within(crate::harness::PATIENCE).await
    {
        answer.assert_failed(503, "shutting_down");
    }
    assert!(app.segment().received().await.is_empty());
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
}

#[tokio::test]
async fn callers_who_send_half_a_request_hold_no_place_and_not_the_end() {
    let settings = [
        ("RELAY_MAX_IN_FLIGHT", "1"),
        ("RELAY_REQUEST_TIMEOUT", "60s"),
        ("RELAY_SHUTDOWN_DELAY", "0s"),
        ("RELAY_SHUTDOWN_GRACE", "500ms"),
    ];
    let mut app = App::with(&settings).await;
    let mut slow: Vec<Raw> = Vec::new();
    // Some stop in the body, some in the head, some in the first line.
    let half = head("content-length: 100\r\n") + r#"{"userId""#;
    for cut in 0..20 {
        let mut caller = app.relay().connect().await;
        caller.send(&half[..half.len() - cut * 5]).await;
        slow.push(caller);
    }
    for _ in 0..3 {
        assert!(app.post(&ada()).await.is_accepted());
    }
    app.relay().process().signal("TERM");
    // Far earlier than their minute. Whether they were cut off or had an end, it is over.
    assert!(app.relay_mut().process_mut().exit_code().await.is_some());
}
