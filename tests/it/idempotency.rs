//! One key, one call: repeated, at the same instant, after a restart, after a kill, and until the key is forgotten.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Durable, at_last, eventually};

/// By what header or field a key may come; `true` if the key itself is the messageId.
const WAYS: [(&str, bool); 3] = [("messageId", true), ("webhook-id", false), ("idempotency-key", false)];

/// Posts with a key that comes this way.
async fn post(durable: &Durable, way: &str, key: &str, user: &str, plan: &str) -> Answer {
    let mut body = json!({"userId": user, "traits": {"plan": plan}});
    if way == "messageId" {
        body["messageId"] = key.into();
        return durable.post(&body).await;
    }
    durable.post_with(&[(way, key)], body.to_string()).await
}

#[track_caller]
fn is_new(answer: &Answer) {
    assert!(answer.is_stored() && answer.header("idempotent-replayed").is_none(), "{answer:?}");
}

#[track_caller]
fn is_repeat_of(answer: &Answer, first: &Answer) {
    assert!(answer.is_stored() && answer.is_replayed(), "{answer:?}");
    assert_eq!(answer.message_id(), first.message_id());
}

/// The messageIds that arrived, when there are so many and a last call, posted now, is there too.
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
async fn a_repeated_key_makes_one_call_and_both_hear_its_message_id() {
    for (way, is_id) in WAYS {
        let durable = Durable::start().await;
        let first = post(&durable, way, "k-1", "c-1", "pro").await;
        is_new(&first);
        assert_eq!(first.message_id() == "k-1", is_id, "{first:?}");
        is_repeat_of(&post(&durable, way, "k-1", "c-1", "pro").await, &first);
        // The call is remembered after it arrived as well.
        assert_eq!(arrived(&durable, 1).await, [first.message_id()], "{way}");
        is_repeat_of(&post(&durable, way, "k-1", "c-1", "pro").await, &first);
        assert_eq!(arrived(&durable, 1).await, [first.message_id()], "{way}");
    }
}

#[tokio::test]
async fn a_key_that_comes_with_another_body_is_a_mistake_and_stores_nothing() {
    for (way, _) in WAYS {
        let durable = Durable::start().await;
        durable.segment().fail(json!({"status": 503, "count": 1})).await;
        let first = post(&durable, way, "k-1", "c-1", "pro").await;
        is_new(&first);
        post(&durable, way, "k-1", "c-1", "free").await.assert_failed(422, "idempotency_key_reused");
        assert_eq!(arrived(&durable, 1).await, [first.message_id()]);
        post(&durable, way, "k-1", "c-1", "free").await.assert_failed(422, "idempotency_key_reused");
        is_repeat_of(&post(&durable, way, "k-1", "c-1", "pro").await, &first);
        let received = durable.segment().received().await;
        assert!(received.iter().all(|call| call["traits"]["plan"] != "free"), "{received:?}");
    }
}

#[tokio::test]
async fn the_same_body_byte_for_byte_is_the_same_and_another_spelling_is_not() {
    let durable = Durable::start().await;
    let key = [("idempotency-key", "k-1")];
    is_new(&durable.post_with(&key, r#"{"userId":"c-1","traits":{"a":1}}"#).await);
    assert!(durable.post_with(&key, r#"{"userId":"c-1","traits":{"a":1}}"#).await.is_replayed());
    let spelt_otherwise = durable.post_with(&key, r#"{"userId":"c-1", "traits":{"a":1}}"#).await;
    spelt_otherwise.assert_failed(422, "idempotency_key_reused");
}

#[tokio::test]
async fn the_body_goes_before_the_webhook_and_that_before_the_other_header() {
    let durable = Durable::start().await;
    let both = [("idempotency-key", "k-other"), ("webhook-id", "k-1")];
    let body = json!({"userId": "c-1", "traits": {}}).to_string();
    let first = durable.post_with(&both, body.clone()).await;
    is_new(&first);
    is_repeat_of(&durable.post_with(&[("webhook-id", "k-1")], body.clone()).await, &first);
    is_new(&durable.post_with(&[("idempotency-key", "k-other")], body).await);
    let with_id = json!({"userId": "c-1", "messageId": "m-1", "traits": {}}).to_string();
    assert_eq!(durable.post_with(&both, with_id).await.message_id(), "m-1");
}

#[tokio::test]
async fn two_customers_under_one_key_stay_two_and_no_key_is_a_new_call_each_time() {
    let durable = Durable::start().await;
    let [first, second] = [
        post(&durable, "webhook-id", "k-1", "c-1", "pro").await,
        post(&durable, "webhook-id", "k-1", "c-2", "pro").await,
    ];
    is_new(&first);
    is_new(&second);
    let other_kind = post(&durable, "idempotency-key", "k-1", "c-1", "pro").await;
    is_new(&other_kind);
    let keyless = json!({"userId": "c-3", "traits": {}});
    let [third, fourth] = [durable.post(&keyless).await, durable.post(&keyless).await];
    is_new(&third);
    is_new(&fourth);
    let mut ids = arrived(&durable, 5).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "{ids:?}");
}

#[tokio::test]
async fn many_at_the_same_instant_under_one_key_make_one_call() {
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
async fn of_many_bodies_at_the_same_instant_under_one_key_one_is_stored() {
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
    is_repeat_of(&post(&durable, "webhook-id", "k-1", "c-1", "pro").await, &first);
    durable.segment().fail(json!({"status": 503})).await;
    let second = post(&durable, "webhook-id", "k-2", "c-1", "pro").await;
    is_new(&second);
    durable.kill().await;
    durable.segment().heal().await;
    durable.start_relay().await;
    is_repeat_of(&post(&durable, "webhook-id", "k-1", "c-1", "pro").await, &first);
    is_repeat_of(&post(&durable, "webhook-id", "k-2", "c-1", "pro").await, &second);
    post(&durable, "webhook-id", "k-2", "c-1", "free").await.assert_failed(422, "idempotency_key_reused");
    let ids: HashSet<String> = arrived(&durable, 2).await.into_iter().collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test]
async fn a_key_is_forgotten_a_while_after_its_call_was_settled_and_not_before() {
    let durable = Durable::with(&[("RELAY_IDEMPOTENCY_WINDOW", "1s")]).await;
    durable.segment().fail(json!({"status": 503, "retryAfter": "3", "count": 1})).await;
    let first = post(&durable, "webhook-id", "k-1", "c-1", "pro").await;
    // It waits for longer than the window, and is known for as long as it waits.
    at_last(async || {
        is_repeat_of(&post(&durable, "webhook-id", "k-1", "c-1", "pro").await, &first);
        !durable.segment().received().await.is_empty()
    })
    .await;
    at_last(async || !post(&durable, "webhook-id", "k-1", "c-1", "pro").await.is_replayed()).await;
    // Under the same messageId: it is made from the key.
    let ids = arrived(&durable, 2).await;
    assert_eq!(ids, [first.message_id(), first.message_id()]);
}

#[tokio::test]
async fn the_answer_to_a_repeat_says_nothing_else_than_the_first() {
    let durable = Durable::start().await;
    let first = post(&durable, "messageId", "m-1", "c-1", "pro").await;
    let second = post(&durable, "messageId", "m-1", "c-1", "pro").await;
    assert_eq!(first.body, json!({"success": true, "messageId": "m-1", "status": "stored"}));
    assert_eq!(second.body, first.body);
    assert_eq!(first.headers.get("content-type"), second.headers.get("content-type"));
    assert!(matches!(&first.body, Value::Object(fields) if fields.len() == 3));
}
