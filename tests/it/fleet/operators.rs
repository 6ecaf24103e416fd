//! Operators ask any relay, also one that does not deliver.

use reqwest::Method;
use serde_json::json;

use super::QUICK;
use crate::harness::postgres::Cluster;
use crate::harness::{Durable, Fleet, TOKEN, at_last};

/// Two relays, the one that does not deliver, and a user `bad` whose first call fails while others are accepted.
async fn with_a_parked_user() -> (Fleet, usize) {
    let fleet = Fleet::start(2, Cluster::shared(), &QUICK).await;
    let other = 1 - fleet.deliverer().await;
    fleet.relays[0].segment().fail(json!({"poisonUserIds": ["bad"], "poisonStatus": 500})).await;
    for number in 0..3 {
        assert!(fleet.relays[other].post(&json!({"userId": "bad", "traits": {"n": number}})).await.is_stored());
    }
    at_last(async || {
        assert!(fleet.relays[other].post(&json!({"userId": "good", "traits": {}})).await.is_stored());
        !parked(&fleet.relays[other]).await.is_empty()
    })
    .await;
    (fleet, other)
}

async fn parked(relay: &Durable) -> Vec<serde_json::Value> {
    relay.operate(Method::GET, "/parked").await.body["parked"].as_array().expect("a list").clone()
}

async fn received_of(fleet: &Fleet, user: &str) -> usize {
    fleet.relays[0].segment().received().await.iter().filter(|call| call["userId"] == user).count()
}

#[tokio::test]
async fn a_parked_user_is_given_up_and_the_dead_letter_is_replayed() {
    let (fleet, other) = with_a_parked_user().await;
    let relay = &fleet.relays[other];
    let id = parked(relay).await[0]["id"].to_string();
    assert_eq!(relay.operate(Method::POST, &format!("/parked/{id}/give-up")).await.status, 202);
    at_last(async || relay.dead_letters().await.len() == 1).await;
    fleet.relays[0].segment().heal().await;
    assert_eq!(relay.operate(Method::POST, "/parked/retry").await.status, 202);
    at_last(async || received_of(&fleet, "bad").await == 2).await;
    let letter = relay.dead_letters().await[0].clone();
    assert_eq!((&letter["why"], &letter["call"]["traits"]["n"]), (&json!("operator"), &json!(0)));
    assert_eq!(relay.operate(Method::POST, &format!("/dead-letters/{}/replay", letter["id"])).await.status, 202);
    at_last(async || received_of(&fleet, "bad").await == 3).await;
    assert!(relay.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_parked_user_is_tried_again_by_the_relay_that_takes_over_although_no_other_call_comes() {
    let (mut fleet, other) = with_a_parked_user().await;
    at_last(async || fleet.relays[other].operate(Method::GET, "/status").await.body["outbox"]["waiting"] == 3).await;
    fleet.relays[1 - other].kill().await;
    fleet.relays[0].segment().heal().await;
    at_last(async || parked(&fleet.relays[other]).await.is_empty()).await;
    at_last(async || received_of(&fleet, "bad").await == 3).await;
}

#[tokio::test]
async fn a_person_is_forgotten() {
    let (fleet, other) = with_a_parked_user().await;
    let relay = &fleet.relays[other];
    let request = relay.relay().request(Method::POST, "/forget").bearer_auth(TOKEN).json(&json!({"userId": "bad"}));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let answer: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(answer, json!({"waiting": 3, "deadLetters": 0}));
    fleet.relays[0].segment().heal().await;
    assert!(parked(relay).await.is_empty());
    let answer = relay.post_with(&[("prefer", "wait=10")], json!({"userId": "good", "traits": {}}).to_string()).await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(received_of(&fleet, "bad").await, 0);
}

#[tokio::test]
async fn only_the_person_who_is_named_is_forgotten_whatever_the_name_is() {
    let fleet = Fleet::start(2, Cluster::shared(), &QUICK).await;
    let other = 1 - fleet.deliverer().await;
    let relay = &fleet.relays[other];
    fleet.relays[0].segment().fail(json!({"status": 503})).await;
    // The second and the third one are the first one to somebody who takes NUL away.
    let names = ["ab", "a\u{0}b", "a\\u0000b"];
    for name in names {
        assert!(relay.post(&json!({"userId": name, "traits": {}})).await.is_stored());
    }
    for name in &names[1..] {
        let request = relay.relay().request(Method::POST, "/forget").bearer_auth(TOKEN).json(&json!({"userId": name}));
        let response = request.send().await.expect("an answer");
        let answer: serde_json::Value = response.json().await.expect("JSON");
        assert_eq!(answer, json!({"waiting": 1, "deadLetters": 0}), "{name:?}");
    }
    fleet.relays[0].segment().heal().await;
    at_last(async || received_of(&fleet, names[0]).await == 1).await;
    assert_eq!(received_of(&fleet, names[1]).await + received_of(&fleet, names[2]).await, 0);
}

#[tokio::test]
async fn what_became_of_a_call_is_known_to_every_relay() {
    let (fleet, other) = with_a_parked_user().await;
    let key = [("idempotency-key", "k-1")];
    let answer = fleet.relays[other].post_with(&key, json!({"userId": "good", "traits": {}}).to_string()).await;
    let path = format!("/calls/{}", answer.message_id());
    for relay in &fleet.relays {
        at_last(async || relay.operate(Method::GET, &path).await.body["outcome"] == "accepted").await;
    }
    let first = parked(&fleet.relays[0]).await[0]["messageId"].as_str().expect("an id").to_owned();
    for relay in &fleet.relays {
        assert_eq!(relay.operate(Method::GET, &format!("/calls/{first}")).await.body["outcome"], "parked");
    }
}
