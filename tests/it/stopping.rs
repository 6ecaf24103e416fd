//! SIGTERM with an outbox: callers get an answer, the process ends without waiting for Segment, and the next process
//! delivers what is stored.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Answer, Durable, eventually};
use crate::ledger::{Ledger, body};

/// Longer than the harness waits, so that a test fails if the relay waits for the end of the grace period.
const LONG_GRACE: (&str, &str) = ("RELAY_SHUTDOWN_GRACE", "10m");

async fn with_backlog(settings: &[(&str, &str)], calls: u64) -> (Durable, Ledger) {
    let durable = Durable::with(settings).await;
    durable.segment().fail(json!({"status": 503})).await;
    let mut ledger = Ledger::default();
    for number in 0..calls {
        ledger.post(&durable, &format!("c-{}", number % 10), number).await;
    }
    (durable, ledger)
}

#[tokio::test]
async fn shutdown_does_not_wait_for_segment_to_recover() {
    let (mut durable, ledger) = with_backlog(&[LONG_GRACE], 100).await;
    assert_eq!(durable.stop().await, Some(0));
    durable.segment().heal().await;
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_the_end_of_segments_rate_limit() {
    let mut durable = Durable::with(&[LONG_GRACE]).await;
    durable.segment().fail(json!({"status": 429, "retryAfter": "300"})).await;
    let mut ledger = Ledger::default();
    for number in 0..20 {
        ledger.post(&durable, "c-1", number).await;
    }
    eventually(async || durable.segment().stats().await["faultedRequests"].as_u64() >= Some(1)).await;
    assert_eq!(durable.stop().await, Some(0));
    durable.segment().heal().await;
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn callers_who_wait_during_shutdown_get_an_answer() {
    let mut durable = Durable::with(&[LONG_GRACE, ("RELAY_REQUEST_TIMEOUT", "15s")]).await;
    durable.segment().fail(json!({"status": 503})).await;
    let mut ledger = Ledger::default();
    let mut waiting = JoinSet::new();
    for number in 0..10 {
        ledger.posting("c-1", number);
        let mut caller = durable.relay().connect().await;
        let text = body("c-1", number).to_string();
        let head = crate::harness::head(&format!("prefer: wait=15\r\ncontent-length: {}\r\n", text.len()));
        caller.send(head + &text).await;
        // Each request is in flight before the next one is sent, so that the order is known.
        let waiting_calls = f64::from(u32::try_from(number).unwrap() + 1);
        eventually(async || durable.relay().metric("segment_relay_requests_in_flight").await == waiting_calls).await;
        waiting.spawn(async move { (number, caller.answer().await) });
    }
    eventually(async || durable.segment().stats().await["faultedRequests"].as_u64() >= Some(1)).await;
    durable.relay().process().signal("TERM");
    let mut answers: Vec<(u64, Answer)> = waiting.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    for (number, answer) in &answers {
        ledger.promised("c-1", *number, answer);
        assert_eq!(answer.header("preference-applied"), Some("wait=15"), "{answer:?}");
    }
    assert_eq!(durable.ended().await, Some(0));
    durable.segment().heal().await;
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn a_caller_whose_call_is_in_a_request_at_shutdown_hears_the_outcome() {
    let mut durable = Durable::with(&[LONG_GRACE]).await;
    durable.segment().fail(json!({"latency": "2s"})).await;
    let request = durable.relay().post_request(&body("c-1", 0)).header("prefer", "wait=9");
    let posted = JoinSet::from_iter([async move { Answer::of(request.send().await.unwrap()).await.unwrap() }]);
    eventually(async || durable.relay().metric("segment_relay_slots_busy").await == 1.0).await;
    assert_eq!(durable.stop().await, Some(0));
    let answer = posted.join_all().await.remove(0);
    // 202 is true as well. A call that was answered 200 must not be sent again.
    assert!(answer.is_accepted() || answer.is_stored(), "{answer:?}");
    durable.segment().heal().await;
    durable.start_relay().await;
    eventually(async || !durable.segment().received().await.is_empty()).await;
    if answer.is_accepted() {
        let last = durable.post_with(&[("prefer", "wait=9")], body("c-1", 1).to_string()).await;
        assert!(last.is_accepted(), "{last:?}");
        assert_eq!(durable.segment().stats().await["duplicates"], 0);
    }
}

#[tokio::test]
async fn shutdown_under_load_loses_nothing_and_sends_nothing_twice() {
    let mut durable = Durable::with(&[LONG_GRACE, ("SEGMENT_MAX_REQUESTS_PER_SECOND", "50")]).await;
    let mut ledger = Ledger::default();
    for round in 0..3 {
        durable.segment().fail(json!({"latency": "20ms"})).await;
        for number in round * 100..(round + 1) * 100 {
            ledger.post(&durable, &format!("c-{}", number % 10), number).await;
        }
        assert_eq!(durable.stop().await, Some(0));
        durable.start_relay().await;
    }
    ledger.settle_without_refusals(&durable).await;
    // Calls that were in a request are settled before the process ends.
    assert_eq!(durable.segment().stats().await["duplicates"], 0);
}

#[tokio::test]
async fn a_request_that_hangs_is_cancelled_after_the_grace_period_and_its_call_is_kept() {
    let settings = [("SEGMENT_TIMEOUT", "60s"), ("RELAY_SHUTDOWN_GRACE", "500ms")];
    let mut durable = Durable::with(&settings).await;
    durable.segment().fail(json!({"hang": true})).await;
    let mut ledger = Ledger::default();
    ledger.post(&durable, "c-1", 0).await;
    eventually(async || durable.relay().metric("segment_relay_slots_busy").await == 1.0).await;
    assert!(durable.stop().await.is_some());
    durable.segment().heal().await;
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn a_relay_without_work_stops_and_starts_on_the_same_file_repeatedly() {
    let mut durable = Durable::with(&[LONG_GRACE]).await;
    let mut ledger = Ledger::default();
    for number in 0..8 {
        ledger.post(&durable, "c-1", number).await;
        assert_eq!(durable.stop().await, Some(0));
        durable.start_relay().await;
    }
    ledger.settle_without_refusals(&durable).await;
    assert_eq!(durable.stop().await, Some(0));
}
