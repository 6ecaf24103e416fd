//! Segment is down, and limits, and is slow, and resets, while customers are posted: all are answered 202, and all arrive.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::callers::{Callers, Progress};
use crate::harness::{Durable, eventually};
use crate::ledger::Ledger;

/// Callers at once.
const CALLERS: usize = 6;

/// Long enough for calls of every user to come while Segment is in a trouble.
const CALLS: u64 = 150;

/// Waits until so many more calls were answered, and so many requests went into the trouble.
async fn lasts(durable: &Durable, progress: &Arc<Progress>, requests: u64) {
    let count = async || {
        let stats = durable.segment().stats().await;
        stats["requests"].as_u64().expect("a count")
    };
    let (answered, before) = (progress.answered(), count().await);
    eventually(async || progress.answered() >= answered + CALLS && count().await >= before + requests).await;
}

#[tokio::test]
async fn nothing_is_lost_in_an_outage_of_many_kinds() {
    let mut durable = Durable::with(&[("SEGMENT_TIMEOUT", "500ms")]).await;
    let mut callers = Callers::new(CALLERS, &mut Rng::with_seed(6));
    callers
        .post_during(&mut durable, async |durable, progress| {
            let troubles = [
                (json!({"status": 503}), 3),
                (json!({"status": 429, "retryAfter": "1"}), 2),
                (json!({"latency": "200ms"}), 3),
                (json!({"reset": true, "rate": 0.5}), 6),
                (json!({"reset": true, "afterAccepting": true, "rate": 0.5}), 6),
                (json!({"hang": true, "rate": 0.3}), 6),
                (json!({"status": 500, "rate": 0.5}), 6),
                (json!({}), 3),
            ];
            for (faults, requests) in troubles {
                durable.segment().fail(faults).await;
                lasts(durable, &progress, requests).await;
            }
            assert_eq!(progress.unanswered(), 0);
        })
        .await;
    durable.segment().heal().await;
    let ledger = callers.post_last(&durable).await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn calls_wait_for_a_segment_that_refuses_connections() {
    // Bound and not listening: nobody else can get it, and whoever connects is refused.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut durable = Durable::prepared(&[]).await;
    let endpoint = durable.segment().url().to_owned();
    durable.set("SEGMENT_ENDPOINT", &format!("http://{}", closed.local_addr().unwrap()));
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    for number in 0..100 {
        ledger.post(&durable, &format!("c-{}", number % 7), number).await;
    }
    eventually(async || {
        durable.relay().metric(r#"segment_relay_segment_attempts_total{result="unavailable"}"#).await >= 1.0
    })
    .await;
    assert_eq!(durable.get("/readyz").await.status, 200);
    assert_eq!(durable.stop().await, Some(0));
    durable.set("SEGMENT_ENDPOINT", &endpoint);
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

/// The lines that somebody should read.
fn warnings(durable: &Durable) -> Vec<Value> {
    let is_loud = |line: &Value| line["level"] == "WARN" || line["level"] == "ERROR";
    durable.relay().log().into_iter().filter(is_loud).collect()
}

#[tokio::test]
async fn trouble_about_us_refuses_no_call_and_is_said_once_a_change() {
    let durable = Durable::start().await;
    let mut ledger = Ledger::default();
    let mut number = 0;
    for status in [401, 404] {
        durable.segment().fail(json!({"status": status})).await;
        let before = durable.segment().stats().await["faultedRequests"].as_u64().unwrap();
        for _ in 0..50 {
            ledger.post(&durable, &format!("c-{}", number % 5), number).await;
            number += 1;
        }
        // The first request and at least two probes.
        eventually(async || durable.segment().stats().await["faultedRequests"].as_u64() >= Some(before + 3)).await;
        assert_eq!(durable.get("/readyz").await.status, 200);
        assert!(durable.dead_letters().await.is_empty());
        assert!(durable.segment().received().await.is_empty());
    }
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
    let lines = warnings(&durable);
    assert!((2..=3).contains(&lines.len()), "401, 404 and perhaps that it is over: {lines:?}");
    for code in ["segment_unauthorized", "segment_misconfigured"] {
        assert_eq!(lines.iter().filter(|line| line["code"] == code).count(), 1, "{code}: {lines:?}");
    }
}

#[tokio::test]
async fn a_long_outage_is_said_in_a_few_lines_too() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    let mut ledger = Ledger::default();
    for number in 0..200 {
        ledger.post(&durable, &format!("c-{number}"), number).await;
    }
    eventually(async || durable.segment().stats().await["faultedRequests"].as_u64() >= Some(4)).await;
    let lines = warnings(&durable);
    assert!(lines.len() < 20, "{} lines: {:?}", lines.len(), lines.first());
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
}
