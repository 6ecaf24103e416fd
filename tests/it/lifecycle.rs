//! How the relay shuts down: after a drain, at a second signal, or when the grace period is over.

use serde_json::json;

use crate::harness::{App, H2, Raw, ada, customer, eventually, head};

async fn has_request_in_flight(app: &App) -> bool {
    app.relay().metric("segment_relay_slots_busy").await == 1.0
}

#[tokio::test]
async fn after_sigterm_the_relay_is_not_ready_and_serves_for_the_shutdown_delay() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "3s")]).await;
    app.segment().fail(json!({"latency": "4s"})).await;
    let in_flight = tokio::task::JoinSet::from_iter([app.relay().post_request(&ada()).send()]);
    eventually(async || has_request_in_flight(&app).await).await;
    app.segment().heal().await;
    app.relay().process().signal("TERM");
    eventually(async || app.get("/readyz").await.status == 503).await;
    assert_eq!(app.get("/readyz").await.body["reasons"], json!(["shutting down"]));
    assert_eq!(app.get("/healthz").await.status, 200);
    assert!(app.post(&customer("c-2")).await.is_accepted());
    // A request that is in flight at the end of the delay is finished.
    let answers = in_flight.join_all().await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)), "{answers:?}");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
    assert!(app.relay().try_get("/healthz").await.is_err());
    assert_eq!(app.segment().received().await.len(), 2);
}

#[tokio::test]
async fn sigint_and_sigquit_drain_the_relay_as_sigterm_does() {
    for signal in ["INT", "QUIT"] {
        let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "2s")]).await;
        app.segment().fail(json!({"latency": "3s"})).await;
        let in_flight = tokio::task::JoinSet::from_iter([app.relay().post_request(&ada()).send()]);
        eventually(async || has_request_in_flight(&app).await).await;
        app.relay().process().signal(signal);
        eventually(async || app.get("/readyz").await.status == 503).await;
        let answers = in_flight.join_all().await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)), "{answers:?}");
        assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn sigint_ends_a_relay_that_has_only_idle_connections() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "60s")]).await;
    let _silent = app.relay().connect().await;
    let mut idle = app.relay().connect().await;
    idle.post(&ada().to_string()).await;
    assert!(idle.answer().await.is_accepted());
    app.relay().process().signal("INT");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "60s")]).await;
    app.relay().process().signal("TERM");
    eventually(async || app.get("/readyz").await.status == 503).await;
    app.relay().process().signal("TERM");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(143));
}

#[tokio::test]
async fn when_the_grace_period_is_over_a_sent_call_is_504_and_an_unsent_one_503() {
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
    let sigterm = async {
        // Without this condition, the waiting call could be the first one.
        eventually(async || has_request_in_flight(&app).await).await;
        eventually(async || app.relay().metric("segment_relay_calls_waiting").await == 1.0).await;
        app.relay().process().signal("TERM");
    };
    let waiting = async {
        eventually(async || has_request_in_flight(&app).await).await;
        app.post(&second).await
    };
    let (sent, not_sent, ()) = tokio::join!(app.post(&first), waiting, sigterm);
    sent.assert_failed(504, "segment_timeout");
    not_sent.assert_failed(503, "shutting_down");
    assert!(not_sent.retry_after() >= Some(1), "{not_sent:?}");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(1));
}

#[tokio::test]
async fn without_a_grace_period_a_request_in_flight_is_cut_off_and_an_idle_connection_is_not() {
    let settings = [
        ("SEGMENT_TIMEOUT", "60s"),
        ("RELAY_REQUEST_TIMEOUT", "60s"),
        ("RELAY_SHUTDOWN_DELAY", "0s"),
        ("RELAY_SHUTDOWN_GRACE", "0s"),
    ];
    for (is_busy, exit_code) in [(false, 0), (true, 1)] {
        let mut app = App::with(&settings).await;
        let _silent = app.relay().connect().await;
        let _http2 = H2::connect(app.relay().address(), &[]).await;
        let mut caller = app.relay().connect().await;
        caller.post(&ada().to_string()).await;
        assert!(caller.answer().await.is_accepted());
        if is_busy {
            app.segment().fail(json!({"hang": true})).await;
            caller.post(&ada().to_string()).await;
            eventually(async || has_request_in_flight(&app).await).await;
        }
        app.relay().process().signal("TERM");
        assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(exit_code));
    }
}

#[tokio::test]
async fn when_the_grace_period_is_over_a_call_that_waits_for_its_next_attempt_is_503() {
    let settings =
        [("RELAY_REQUEST_TIMEOUT", "60s"), ("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "500ms")];
    let mut app = App::with(&settings).await;
    app.segment().fail(json!({"status": 503, "retryAfter": "30"})).await;
    let ada = ada();
    let sigterm = async {
        eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
        app.relay().process().signal("TERM");
    };
    let (answer, ()) = tokio::join!(app.post(&ada), sigterm);
    answer.assert_failed(503, "shutting_down");
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(1));
}

#[tokio::test]
async fn a_request_that_arrives_while_the_relay_drains_is_503() {
    let settings = [("SEGMENT_TIMEOUT", "60s"), ("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "5s")];
    let mut app = App::with(&settings).await;
    let mut late = app.relay().connect().await;
    let whole = ada().to_string();
    let request = head(&format!("content-length: {}\r\n", whole.len())) + &whole;
    let (now, later) = request.split_at(20);
    late.send(now).await;
    app.relay().process().signal("TERM");
    eventually(async || app.relay().try_get("/readyz").await.is_err()).await;
    // The connection may be closed already; then nothing was taken.
    if late.try_send(later).await.is_ok()
        && let Some(answer) = late.answer_within(crate::harness::PATIENCE).await
    {
        answer.assert_failed(503, "shutting_down");
    }
    assert!(app.segment().received().await.is_empty());
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
}

#[tokio::test]
async fn half_sent_requests_occupy_no_place_and_do_not_delay_the_exit() {
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
    // The process ends long before their request timeout of a minute; whether they are cancelled makes no difference.
    assert!(app.relay_mut().process_mut().exit_code().await.is_some());
}
