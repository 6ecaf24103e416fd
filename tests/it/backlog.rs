//! A long backlog: it costs disk and not memory, and one user's is no stranger's business.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Durable, at_last};
use crate::storing::store_all;

/// Posts calls of these numbers, in no order; all must be stored.
async fn post_all(durable: &Durable, numbers: std::ops::Range<u64>, call: fn(u64) -> Value) {
    store_all(durable.relay(), 1, numbers.map(call)).await;
}

async fn accepted_calls(durable: &Durable) -> u64 {
    let stats = durable.segment().stats().await;
    stats["acceptedCalls"].as_u64().unwrap() - stats["duplicates"].as_u64().unwrap()
}

/// Calls of a full backlog, and the bytes of one: 160 MB together.
const FULL: u64 = 20_000;
const CALL_BYTES: usize = 8_000;

/// What memory may grow by from a short backlog to a full one: half of what the calls themselves would take. The calls in hand, the
/// requests made of them, the caches and what the allocator keeps have bounds that a short backlog does not reach: some 25 MB, and up to
/// 45 MB where answers are slow because the machine is busy.
const GROWTH: u64 = FULL * CALL_BYTES as u64 / 2;

#[tokio::test]
async fn a_long_backlog_takes_no_more_memory_than_a_short_one() {
    let call = |number: u64| json!({"userId": format!("c-{}", number % 5_000), "traits": {"n": number, "history": "x".repeat(CALL_BYTES)}});
    let mut durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    post_all(&durable, 0..1_000, call).await;
    let short = durable.relay().process().memory();
    post_all(&durable, 1_000..FULL, call).await;
    let full = durable.relay().process().memory();
    assert!(full < short + GROWTH, "{short} bytes with 1,000 calls, {full} with {FULL}");
    durable.kill().await;
    durable.start_relay().await;
    durable.segment().heal().await;
    let most = AtomicU64::new(0);
    at_last(async || {
        most.fetch_max(durable.relay().process().memory(), Ordering::Relaxed);
        accepted_calls(&durable).await == FULL
    })
    .await;
    let most = most.into_inner();
    assert!(most < short + GROWTH, "{short} bytes with 1,000 calls, {most} while {FULL} are delivered after a restart");
}

#[tokio::test]
async fn strangers_do_not_wait_for_a_user_who_is_stuck_with_a_long_backlog() {
    const STUCK: u64 = 12_000;
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["stuck"], "poisonStatus": 500})).await;
    post_all(&durable, 0..STUCK, |number| json!({"userId": "stuck", "traits": {"n": number}})).await;
    for number in 0..20 {
        let body = json!({"userId": format!("c-{number}"), "traits": {}}).to_string();
        let answer = durable.post_with(&[("prefer", "wait=10")], body).await;
        assert!(answer.is_accepted(), "{answer:?}");
    }
    assert!(durable.segment().received().await.iter().all(|call| call["userId"] != "stuck"));
    assert!(durable.dead_letters().await.is_empty());
    durable.segment().heal().await;
    at_last(async || accepted_calls(&durable).await == STUCK + 20).await;
}

#[tokio::test]
async fn strangers_do_not_wait_for_the_long_backlog_of_a_user_who_is_served() {
    const HOT: u64 = 12_000;
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    post_all(&durable, 0..HOT, |number| json!({"userId": "hot", "traits": {"n": number}})).await;
    // So slow that the backlog, which needs several requests one after another, is there for a while.
    durable.segment().fail(json!({"latency": "400ms"})).await;
    for number in 0..5 {
        let stranger = json!({"userId": format!("c-{number}"), "traits": {}});
        assert!(durable.post(&stranger).await.is_stored());
    }
    at_last(async || accepted_calls(&durable).await == HOT + 5).await;
    let received = durable.segment().received().await;
    let last = |is_hot: bool| received.iter().rposition(|call| (call["userId"] == "hot") == is_hot).unwrap();
    assert!(last(false) < last(true), "the strangers came last: at {} and {}", last(false), last(true));
    let ids: HashSet<&str> = received.iter().filter_map(|call| call["messageId"].as_str()).collect();
    assert_eq!(ids.len() as u64, HOT + 5);
}
