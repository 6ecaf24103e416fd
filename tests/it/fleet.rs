//! Several relays with one outbox in PostgreSQL: all of them store, one delivers, and neither the end of a relay nor one of the database
//! loses, doubles or disorders a call.
//!
//! The oracle is the [`Ledger`](crate::ledger::Ledger): every 202 is a promise, and each user's calls arrive in order though they are
//! posted through one relay after another.

mod database;
mod faults;
mod load;
mod operators;
mod soak;

use serde_json::json;

use crate::harness::postgres::{Cluster, PgBouncer};
use crate::harness::{Fleet, at_last};
use load::Load;

/// A lease ends 5 seconds after this: 6 seconds.
const QUICK: [(&str, &str); 1] = [("SEGMENT_TIMEOUT", "1s")];

#[tokio::test]
async fn calls_through_any_relay_arrive_in_order_and_one_relay_sends_them() {
    let fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let deliverer = fleet.deliverer().await;
    let load = Load::start(&fleet);
    load.until(2_000).await;
    let ledger = load.finish().await;
    ledger.settle_without_refusals(&fleet.relays[0]).await;
    for (number, cable) in fleet.to_segment.iter().enumerate() {
        assert_eq!(cable.sent().is_empty(), number != deliverer, "relay {number} of {deliverer}");
    }
}

#[tokio::test]
async fn a_caller_who_waits_at_a_relay_that_does_not_deliver_hears_the_outcome() {
    let fleet = Fleet::start(2, Cluster::shared(), &QUICK).await;
    let other = 1 - fleet.deliverer().await;
    fleet.relays[0].segment().fail(json!({"poisonUserIds": ["bad"]})).await;
    let wait = [("prefer", "wait=10")];
    let answer = fleet.relays[other].post_with(&wait, json!({"userId": "good", "traits": {}}).to_string()).await;
    assert!(answer.is_accepted(), "{answer:?}");
    let answer = fleet.relays[other].post_with(&wait, json!({"userId": "bad", "traits": {}}).to_string()).await;
    answer.assert_failed(422, "segment_rejected");
}

#[tokio::test]
async fn a_key_makes_one_call_whichever_relays_it_comes_to() {
    let fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    for number in 0..20 {
        let key = [("idempotency-key", &*format!("key-{number}"))];
        let body = json!({"userId": "ada", "traits": {"n": number}}).to_string();
        let post = |relay: usize| fleet.relays[relay].post_with(&key, body.clone());
        let (first, second, third) = tokio::join!(post(0), post(1), post(2));
        let answers = [first, second, third];
        assert!(answers.iter().all(|answer| answer.is_stored()), "{answers:?}");
        assert!(answers.iter().all(|answer| answer.message_id() == answers[0].message_id()), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer.is_replayed()).count(), 2, "{answers:?}");
    }
    at_last(async || fleet.relays[0].segment().received().await.len() == 20).await;
    let stats = fleet.relays[0].segment().stats().await;
    assert_eq!(stats["duplicates"], 0, "{stats}");
    fleet.relays[1]
        .post_with(&[("idempotency-key", "key-1")], json!({"userId": "ada", "traits": {}}).to_string())
        .await
        .assert_failed(422, "idempotency_key_reused");
}

#[tokio::test]
async fn users_are_parked_and_wake_in_order_while_three_relays_store() {
    let fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let segment = fleet.relays[0].segment();
    let load = Load::start(&fleet);
    for _ in 0..3 {
        segment.fail(json!({"poisonUserIds": ["u-1", "u-2", "u-3", "u-4"], "poisonStatus": 500})).await;
        let before = load.posted();
        load.until(before + 600).await;
        segment.heal().await;
        let before = load.posted();
        load.until(before + 300).await;
    }
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn relays_reach_the_database_through_pgbouncer() {
    let cluster = Cluster::shared();
    let bouncer = PgBouncer::start(cluster).await;
    let mut fleet = Fleet::prepared(3, cluster, &QUICK).await;
    let url = bouncer.url(&fleet.database);
    fleet.relays.iter_mut().for_each(|relay| relay.set("RELAY_OUTBOX_URL", &url));
    fleet.start_all().await;
    let load = Load::start(&fleet);
    load.until(500).await;
    let deliverer = fleet.deliverer().await;
    fleet.relays[deliverer].kill().await;
    load.until(load.posted() + 500).await;
    fleet.relays[deliverer].start_relay().await;
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}
