//! Users whose first call fails on its own: they wait on disk, keep nobody waiting, and arrive in order at last.

use reqwest::Method;
use serde_json::json;

use super::{check_arrivals, heavy, parked, start};
use crate::harness::{Fault, at_last, customer, eventually};
use crate::ledger::body;
use crate::storing::store_all;

#[tokio::test]
async fn strangers_do_not_wait_for_270_heavy_calls_that_are_stuck() {
    let (durable, segment) = start(&[]).await;
    segment.fail("stuck-", Fault::Status(500));
    store_all(durable.relay(), 1, (0..270).map(|number| heavy(&format!("stuck-{number}"), 0, 31_000))).await;
    store_all(durable.relay(), 1, (0..120).map(|number| customer(&format!("c-{number}")))).await;
    // Strangers go on coming. Others are at fault only while these are accepted.
    let sound = customer("sound");
    at_last(async || {
        assert!(durable.post(&sound).await.is_stored());
        segment.users_arrived("c-") == 120
    })
    .await;
    at_last(async || {
        assert!(durable.post(&sound).await.is_stored());
        parked(&durable).await.len() == 270
    })
    .await;
    assert!(durable.dead_letters().await.is_empty());
    segment.heal();
    at_last(async || segment.users_arrived("stuck-") == 270).await;
    eventually(async || parked(&durable).await.is_empty()).await;
}

#[tokio::test]
async fn parked_users_survive_a_kill_and_arrive_in_order() {
    const USERS: u64 = 20;
    let (mut durable, segment) = start(&[]).await;
    // The first call of each fails; the others are sound, and wait behind it.
    segment.fail(r#""n":0,"#, Fault::Status(500));
    for number in 0..3 {
        store_all(durable.relay(), 1, (0..USERS).map(move |user| body(&format!("stuck-{user}"), number))).await;
    }
    let sound = customer("sound");
    let all_parked = async || {
        assert!(durable.post(&sound).await.is_stored());
        parked(&durable).await.len() as u64 == USERS
    };
    at_last(all_parked).await;
    durable.kill().await;
    durable.start_relay().await;
    let listed = parked(&durable).await;
    assert_eq!(listed.len() as u64, USERS);
    assert!(listed.iter().all(|user| user["calls"] == 3 && user["status"] == 500), "{listed:?}");
    for number in 3..5 {
        store_all(durable.relay(), 1, (0..USERS).map(move |user| body(&format!("stuck-{user}"), number))).await;
    }
    assert_eq!(segment.users_arrived("stuck-"), 0);
    durable.kill().await;
    segment.heal();
    durable.start_relay().await;
    at_last(async || segment.arrivals().iter().filter(|call| call.user != "sound").count() as u64 >= 5 * USERS).await;
    let posted = (0..USERS).flat_map(|user| (0..5).map(move |number| (format!("stuck-{user}"), number)));
    check_arrivals(&segment, posted.chain([("sound".to_owned(), 0)]));
    eventually(async || parked(&durable).await.is_empty()).await;
}

#[tokio::test]
async fn a_call_that_fails_on_its_own_for_too_long_is_given_up_and_its_users_later_ones_go_on() {
    let (durable, segment) = start(&[("RELAY_GIVE_UP_AFTER", "2s")]).await;
    segment.fail(r#""n":0,"#, Fault::Status(500));
    let post = async |number: u64| {
        let body = body("stuck", number).to_string();
        durable.post_with(&[("idempotency-key", &format!("key-{number}"))], body).await
    };
    for number in 0..3 {
        assert!(post(number).await.is_stored());
    }
    let sound = json!({"userId": "sound", "traits": {"n": 1, "plan": "pro"}});
    at_last(async || {
        assert!(durable.post(&sound).await.is_stored());
        !durable.dead_letters().await.is_empty()
    })
    .await;
    at_last(async || segment.users_arrived("stuck") == 1).await;
    at_last(async || segment.arrivals().iter().filter(|call| call.user == "stuck").count() == 2).await;
    let letters = durable.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["why"], &letters[0]["userId"]), (&json!("gave_up"), &json!("stuck")), "{letters:?}");
    assert!(letters[0]["attempts"].as_u64() >= Some(5), "{letters:?}");
    let failures = segment.requests().iter().filter(|request| request.fault.is_some()).count();
    assert!(failures >= 5, "{failures}");
    check_arrivals(&segment, [("stuck", 1), ("stuck", 2), ("sound", 1)].map(|(user, n)| (user.to_owned(), n)));
    let repeat = post(0).await;
    repeat.assert_failed(422, "gave_up");
    assert!(repeat.is_replayed(), "{repeat:?}");
    segment.heal();
    let id = &letters[0]["id"];
    assert_eq!(durable.operate(Method::POST, &format!("/dead-letters/{id}/replay")).await.status, 202);
    at_last(async || segment.arrivals().iter().any(|call| call.user == "stuck" && call.number == 0)).await;
}

#[tokio::test]
async fn two_thousand_parked_users_arrive_when_their_cause_is_mended() {
    const USERS: usize = 2_000;
    let (durable, segment) = start(&[]).await;
    segment.fail("stuck-", Fault::Status(500));
    store_all(durable.relay(), 1, (0..USERS).map(|number| customer(&format!("stuck-{number}")))).await;
    let sound = customer("sound");
    at_last(async || {
        assert!(durable.post(&sound).await.is_stored());
        parked(&durable).await.len() == USERS
    })
    .await;
    segment.heal();
    at_last(async || segment.users_arrived("stuck-") == USERS).await;
    at_last(async || segment.users_arrived("sound") == 1).await;
    assert!(durable.dead_letters().await.is_empty());
    eventually(async || parked(&durable).await.is_empty()).await;
}
