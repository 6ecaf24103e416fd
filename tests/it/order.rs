//! One user's calls and their strangers: who waits for whom, and who does not.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Answer, App, ada, customer, eventually};

#[tokio::test]
async fn a_caller_who_left_before_its_call_was_sent_is_not_sent_and_the_next_one_goes_on() {
    let app = App::with(&[("SEGMENT_MAX_CONCURRENCY", "1"), ("SEGMENT_TIMEOUT", "5s")]).await;
    app.segment().fail(json!({"hang": true, "count": 1})).await;
    let (ada, next) = (ada(), json!({"userId": "c-2", "traits": {"call": "next"}}));
    let leaving = async {
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        let mut caller = app.relay().connect().await;
        caller.post(r#"{"userId":"c-2","traits":{"call":"left"}}"#).await;
        eventually(async || app.relay().metric("segment_relay_calls_waiting").await == 1.0).await;
        caller.reset();
        eventually(async || app.relay().metric("segment_relay_requests_in_flight").await == 1.0).await;
        app.post(&next).await
    };
    let (first, second) = tokio::join!(app.post(&ada), leaving);
    assert!(first.is_accepted() && second.is_accepted(), "{first:?} {second:?}");
    let received = app.segment().received().await;
    let calls: Vec<_> =
        received.iter().filter(|call| call["userId"] == "c-2").map(|call| &call["traits"]["call"]).collect();
    assert_eq!(calls, ["next"]);
}

#[tokio::test]
async fn a_user_who_is_stuck_keeps_no_stranger_waiting() {
    let app = App::with(&[("SEGMENT_TIMEOUT", "9s")]).await;
    app.segment().fail(json!({"hang": true, "count": 1})).await;
    let mut hot = JoinSet::new();
    for number in 0..50 {
        hot.spawn(app.relay().post_request(&json!({"userId": "hot", "traits": {"n": number}})).send());
    }
    // One request hangs with a part of them; the others wait for it.
    eventually(async || {
        let metrics = app.get("/metrics").await;
        metrics.metric("segment_relay_requests_in_flight") == Some(50.0)
            && metrics.metric("segment_relay_slots_busy") == Some(1.0)
    })
    .await;
    let strangers: Vec<_> = (0..20).map(|number| customer(&format!("c-{number}"))).collect();
    for answer in join_all(strangers.iter().map(|stranger| app.post(stranger))).await {
        assert!(answer.is_accepted(), "{answer:?}");
    }
    assert_eq!(app.relay().metric("segment_relay_requests_in_flight").await, 50.0);
    assert!(app.segment().received().await.iter().all(|call| call["userId"] != "hot"));
}

#[tokio::test]
async fn a_refused_call_does_not_fail_its_neighbours_in_the_same_request() {
    let app = App::with(&[("SEGMENT_MAX_CONCURRENCY", "1")]).await;
    app.segment().fail(json!({"latency": "150ms", "poisonUserIds": ["c-3"]})).await;
    let ada = ada();
    let together = async {
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        let customers: Vec<_> = (0..8).map(|number| customer(&format!("c-{number}"))).collect();
        join_all(customers.iter().map(|customer| app.post(customer))).await
    };
    let (_, answers) = tokio::join!(app.post(&ada), together);
    for (number, answer) in answers.iter().enumerate() {
        match number {
            3 => answer.assert_failed(422, "segment_rejected"),
            _ => assert!(answer.is_accepted(), "{number}: {answer:?}"),
        }
    }
    assert!(app.segment().stats().await["largestBatch"]["calls"].as_u64() > Some(1));
}

#[tokio::test]
async fn a_refused_call_lets_its_users_later_ones_go_on() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 400, "count": 1})).await;
    let first = app.post(&ada()).await;
    first.assert_failed(422, "segment_rejected");
    assert!(app.post(&ada()).await.is_accepted());
}

#[tokio::test]
async fn a_users_calls_stay_in_order_while_the_refused_among_them_are_searched() {
    // Long enough for the search on a busy machine.
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "30s")]).await;
    app.segment().fail(json!({"status": 429, "retryAfter": "5", "count": 1})).await;
    let mut posts = JoinSet::from_iter([app.relay().post_request(&ada()).send()]);
    eventually(async || app.relay().metric("segment_relay_gate_shut").await == 1.0).await;
    for round in 0..6 {
        for user in 0..20 {
            let id = format!("c-{user}");
            let call = json!({"userId": id, "messageId": format!("{id}/{round}"), "traits": {}});
            posts.spawn(app.relay().post_request(&call).send());
        }
        // All of a round are in hand before the next is posted; the first call of all, which shut the gate, waits too.
        let waiting = f64::from(20 * (round + 1) + 1);
        eventually(async || app.relay().metric("segment_relay_calls_waiting").await == waiting).await;
    }
    // Splitting down to each user's six calls takes 39 requests; so many are refused that some of these are split, too.
    app.segment().fail(json!({"status": 400, "count": 60})).await;
    let mut accepted = HashSet::new();
    for response in posts.join_all().await {
        let answer = Answer::of(response.unwrap()).await.unwrap();
        match answer.status {
            200 => assert!(accepted.insert(answer.message_id().to_owned())),
            _ => answer.assert_failed(422, "segment_rejected"),
        }
    }
    let received = app.segment().received().await;
    let mut arrived: Vec<&str> = received.iter().filter_map(|call| call["messageId"].as_str()).collect();
    assert_eq!(arrived.iter().map(|id| (*id).to_owned()).collect::<HashSet<_>>(), accepted);
    // Sorted by user, and a user's calls as they came.
    arrived.sort_by_key(|id| id.split('/').next());
    assert!(arrived.is_sorted(), "{arrived:?}");
}

#[tokio::test]
async fn a_caller_who_leaves_during_a_pause_does_not_keep_its_users_next_call_waiting() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "10m")]).await;
    // Far longer than this test is willing to wait for anything.
    app.segment().fail(json!({"status": 503, "retryAfter": "300", "count": 1})).await;
    let mut caller = app.relay().connect().await;
    caller.post(r#"{"userId":"c-1","traits":{"call":"left"}}"#).await;
    eventually(async || {
        app.relay().metric(r#"segment_relay_segment_attempts_total{result="unavailable"}"#).await == 1.0
    })
    .await;
    caller.reset();
    let next = app.post(&json!({"userId": "c-1", "traits": {"call": "next"}})).await;
    assert!(next.is_accepted(), "{next:?}");
    let received = app.segment().received().await;
    assert_eq!(received.iter().map(|call| &call["traits"]["call"]).collect::<Vec<_>>(), ["next"]);
}
