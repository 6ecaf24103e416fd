//! A key stores one call: when it is repeated, concurrently, after a restart, after a kill, and until it is forgotten.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Durable, at_last, eventually};

/// The headers and the field that carry a key; `true` if the key itself is the messageId.
const KEY_SOURCES: [(&str, bool); 3] = [("messageId", true), ("webhook-id", false), ("idempotency-key", false)];

/// Posts with a key in this header or field.
async fn post(durable: &Durable, source: &str, key: &str, user: &str, plan: &str) -> Answer {
    let mut body = json!({"userId": user, "traits": {"plan": plan}});
    if source == "messageId" {
        body["messageId"] = key.into();
        return durable.post(&body).await;
    }
    durable.post_with(&[(source, key)], body.to_string()).await
}

#[track_caller]
fn assert_new(answer: &Answer) {
    assert!(answer.is_stored() && answer.header("idempotent-replayed").is_none(), "{answer:?}");
}

#[track_caller]
fn assert_repeat_of(answer: &Answer, first: &Answer) {
    assert!(answer.is_stored() && answer.is_replayed(), "{answer:?}");
    assert_eq!(answer.message_id(), first.message_id());
}

/// Posts a last call, waits until it and `count` others have arrived, and returns the messageIds of the others.
async fn arrived(durable: &Durable, count: usize) -> Vec<String> {
    let last = durable.post(&json!({"userId": "last", "traits": {}})).await;
    assert!(last.is_stored(), "{last:?}");
    let received = || durable.segment().received();
    eventually(async || {
        let received = received().await;
        let of_others = received.iter().filter(|call| call["userId"] != "last").count();
        of_others >= count && received.iter().any(|call| call["messageId"] == last.message_id())
    })
    .await;
    let received = received().await;
    let of_others = received.iter().filter(|call| call["userId"] != "last");
    of_others.map(|call| call["messageId"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_repeated_key_stores_one_call_and_both_answers_have_its_message_id() {
    for (source, is_id) in KEY_SOURCES {
        let durable = Durable::start().await;
        let first = post(&durable, source, "k-1", "c-1", "pro").await;
        assert_new(&first);
        assert_eq!(first.message_id() == "k-1", is_id, "{first:?}");
        assert_repeat_of(&post(&durable, source, "k-1", "c-1", "pro").await, &first);
        // The key is still known after the call arrived.
        assert_eq!(arrived(&durable, 1).await, [first.message_id()], "{source}");
        assert_repeat_of(&post(&durable, source, "k-1", "c-1", "pro").await, &first);
        assert_eq!(arrived(&durable, 1).await, [first.message_id()], "{source}");
    }
}

#[tokio::test]
async fn a_key_with_another_body_is_refused_and_stores_nothing() {
    for (source, _) in KEY_SOURCES {
        let durable = Durable::start().await;
        durable.segment().fail(json!({"status": 503, "count": 1})).await;
        let first = post(&durable, source, "k-1", "c-1", "pro").await;
        assert_new(&first);
        post(&durable, source, "k-1", "c-1", "free").await.assert_failed(422, "idempotency_key_reused");
        assert_eq!(arrived(&durable, 1).await, [first.message_id()]);
        post(&durable, source, "k-1", "c-1", "free").await.assert_failed(422, "idempotency_key_reused");
        assert_repeat_of(&post(&durable, source, "k-1", "c-1", "pro").await, &first);
        let received = durable.segment().received().await;
        assert!(received.iter().all(|call| call["traits"]["plan"] != "free"), "{received:?}");
    }
}

#[tokio::test]
async fn bodies_are_compared_byte_for_byte() {
    let durable = Durable::start().await;
    let key = [("idempotency-key", "k-1")];
    assert_new(&durable.post_with(&key, r#"{"userId":"c-1","traits":{"a":1}}"#).await);
    assert!(durable.post_with(&key, r#"{"userId":"c-1","traits":{"a":1}}"#).await.is_replayed());
    let other_spelling = durable.post_with(&key, r#"{"userId":"c-1", "traits":{"a":1}}"#).await;
    other_spelling.assert_failed(422, "idempotency_key_reused");
}

#[tokio::test]
async fn the_message_id_of_the_body_wins_over_webhook_id_and_that_over_idempotency_key() {
    let durable = Durable::start().await;
    let both = [("idempotency-key", "k-other"), ("webhook-id", "k-1")];
    let body = json!({"userId": "c-1", "traits": {}}).to_string();
    let first = durable.post_with(&both, body.clone()).await;
    assert_new(&first);
    assert_repeat_of(&durable.post_with(&[("webhook-id", "k-1")], body.clone()).await, &first);
    assert_new(&durable.post_with(&[("idempotency-key", "k-other")], body).await);
    let with_id = json!({"userId": "c-1", "messageId": "m-1", "traits": {}}).to_string();
    assert_eq!(durable.post_with(&both, with_id).await.message_id(), "m-1");
}

#[tokio::test]
async fn two_customers_with_one_key_are_two_calls_and_calls_without_a_key_are_always_new() {
    let durable = Durable::start().await;
    let [first, second] = [
        post(&durable, "webhook-id", "k-1", "c-1", "pro").await,
        post(&durable, "webhook-id", "k-1", "c-2", "pro").await,
    ];
    assert_new(&first);
    assert_new(&second);
    let other_kind = post(&durable, "idempotency-key", "k-1", "c-1", "pro").await;
    assert_new(&other_kind);
    let keyless = json!({"userId": "c-3", "traits": {}});
    let [third, fourth] = [durable.post(&keyless).await, durable.post(&keyless).await];
    assert_new(&third);
    assert_new(&fourth);
    let mut ids = arrived(&durable, 5).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "{ids:?}");
}

#[tokio::test]
async fn concurrent_calls_with_one_key_are_stored_once() {
    let durable = Durable::start().await;
    for round in 0..10 {
        let key = format!("k-{round}");
        let answers = join_all((0..40).map(|_| post(&durable, "webhook-id", &key, "c-1", "pro"))).await;
        let new: Vec<_> = answers.iter().filter(|answer| !answer.is_replayed()).collect();
        assert_eq!(new.len(), 1, "{new:?}");
        for answer in &answers {
            assert!(answer.is_stored() && answer.message_id() == new[0].message_id(), "{answer:?}");
        }
    }
    assert_eq!(arrived(&durable, 10).await.len(), 10);
}

#[tokio::test]
async fn of_concurrent_bodies_with_one_key_one_is_stored() {
    let durable = Durable::start().await;
    let plans: Vec<String> = (0..20).map(|plan| format!("plan-{plan}")).collect();
    let answers = join_all(plans.iter().map(|plan| post(&durable, "webhook-id", "k-1", "c-1", plan))).await;
    let (stored, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert_eq!(stored.len(), 1, "{stored:?}");
    refused.iter().for_each(|answer| answer.assert_failed(422, "idempotency_key_reused"));
    assert_eq!(arrived(&durable, 1).await.len(), 1);
}

#[tokio::test]
async fn a_key_is_known_after_a_restart_and_after_a_kill() {
    let mut durable = Durable::start().await;
    let first = post(&durable, "webhook-id", "k-1", "c-1", "pro").await;
    assert_eq!(arrived(&durable, 1).await.len(), 1);
    assert_eq!(durable.stop().await, Some(0));
    durable.start_relay().await;
    assert_repeat_of(&post(&durable, "webhook-id", "k-1", "c-1", "pro").await, &first);
    durable.segment().fail(json!({"status": 503})).await;
    let second = post(&durable, "webhook-id", "k-2", "c-1", "pro").await;
    assert_new(&second);
    durable.kill().await;
    durable.segment().heal().await;
    durable.start_relay().await;
    assert_repeat_of(&post(&durable, "webhook-id", "k-1", "c-1", "pro").await, &first);
    assert_repeat_of(&post(&durable, "webhook-id", "k-2", "c-1", "pro").await, &second);
    post(&durable, "webhook-id", "k-2", "c-1", "free").await.assert_failed(422, "idempotency_key_reused");
    let ids: HashSet<String> = arrived(&durable, 2).await.into_iter().collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test]
async fn a_key_is_forgotten_when_its_window_after_the_settlement_ends_and_not_before() {
    let durable = Durable::with(&[("RELAY_IDEMPOTENCY_WINDOW", "1s")]).await;
    durable.segment().fail(json!({"status": 503, "retryAfter": "3", "count": 1})).await;
    let first = post(&durable, "webhook-id", "k-1", "c-1", "pro").await;
    // The call waits for longer than the window, and its key is known while it waits.
    at_last(async || {
        assert_repeat_of(&post(&durable, "webhook-id", "k-1", "c-1", "pro").await, &first);
        !durable.segment().received().await.is_empty()
    })
    .await;
    at_last(async || !post(&durable, "webhook-id", "k-1", "c-1", "pro").await.is_replayed()).await;
    // The messageId is the same, because it is derived from the key.
    let ids = arrived(&durable, 2).await;
    assert_eq!(ids, [first.message_id(), first.message_id()]);
}

#[tokio::test]
async fn the_answer_to_a_repeat_equals_the_first() {
    let durable = Durable::start().await;
    let first = post(&durable, "messageId", "m-1", "c-1", "pro").await;
    let second = post(&durable, "messageId", "m-1", "c-1", "pro").await;
    assert_eq!(first.body, json!({"success": true, "messageId": "m-1", "status": "stored"}));
    assert_eq!(second.body, first.body);
    assert_eq!(first.headers.get("content-type"), second.headers.get("content-type"));
    assert!(matches!(&first.body, Value::Object(fields) if fields.len() == 3));
}
