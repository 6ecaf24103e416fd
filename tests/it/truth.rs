//! Every answer is true: the oracle on a healthy Segment and on one with all its troubles.

use serde_json::json;

use crate::harness::App;
use crate::oracle::{CALLS, Crowd, POISONED, crowd};

/// Long enough for every call to outlive the troubles here.
const PATIENT: (&str, &str) = ("RELAY_REQUEST_TIMEOUT", "30s");

/// That all strangers to the poisoned users were accepted, and only they.
#[track_caller]
fn check_strangers_accepted(crowd: &Crowd, poisoned: &[&str]) {
    for outcome in &crowd.outcomes {
        let is_poisoned = poisoned.contains(&&*outcome.user_id);
        assert_eq!(outcome.answer.is_accepted(), !is_poisoned, "{}: {:?}", outcome.user_id, outcome.answer);
    }
}

#[tokio::test]
async fn of_a_thousand_overlapping_calls_only_the_poisoned_are_refused() {
    let app = App::with(&[PATIENT]).await;
    let crowd = crowd(&app, json!({"poisonUserIds": POISONED})).await;
    crowd.check();
    check_strangers_accepted(&crowd, &POISONED);
    assert!(crowd.outcomes.iter().all(|outcome| [200, 422].contains(&outcome.answer.status)));
}

#[tokio::test]
async fn a_thousand_calls_travel_in_a_few_requests() {
    let app = App::with(&[PATIENT]).await;
    let crowd = crowd(&app, json!({})).await;
    crowd.check();
    check_strangers_accepted(&crowd, &[]);
    // At the pace of 900 requests a second: how many they are depends on how long the callers take to send.
    assert!(crowd.stats["requests"].as_u64() < Some(CALLS as u64 / 5), "{}", crowd.stats);
    assert_eq!(crowd.stats["duplicates"], 0, "{}", crowd.stats);
}

#[tokio::test]
async fn the_truth_survives_compression() {
    let app = App::with(&[PATIENT, ("SEGMENT_GZIP", "true")]).await;
    let crowd = crowd(&app, json!({"poisonUserIds": POISONED})).await;
    crowd.check();
    check_strangers_accepted(&crowd, &POISONED);
    let requests = app.segment().requests().await;
    assert!(requests.iter().all(|request| request["headers"]["content-encoding"] == "gzip"));
}

#[tokio::test]
async fn the_truth_survives_failures() {
    let app = App::with(&[PATIENT]).await;
    let crowd = crowd(&app, json!({"status": 503, "rate": 0.2, "poisonUserIds": POISONED})).await;
    crowd.check();
    assert!(crowd.accepted() > CALLS * 9 / 10, "{}", crowd.accepted());
}

#[tokio::test]
async fn the_truth_survives_rate_limits() {
    let app = App::with(&[PATIENT]).await;
    let crowd = crowd(&app, json!({"status": 429, "retryAfter": "1", "count": 3, "poisonUserIds": POISONED})).await;
    crowd.check();
    check_strangers_accepted(&crowd, &POISONED);
}

#[tokio::test]
async fn the_truth_survives_resets() {
    let app = App::with(&[PATIENT]).await;
    let crowd = crowd(&app, json!({"reset": true, "rate": 0.2, "poisonUserIds": POISONED})).await;
    crowd.check();
    assert!(crowd.accepted() > CALLS * 9 / 10, "{}", crowd.accepted());
}

#[tokio::test]
async fn the_truth_survives_lost_answers() {
    let app = App::with(&[PATIENT]).await;
    let faults = json!({"reset": true, "afterAccepting": true, "rate": 0.2, "poisonUserIds": POISONED});
    let crowd = crowd(&app, faults).await;
    crowd.check();
    assert!(crowd.accepted() > CALLS * 9 / 10, "{}", crowd.accepted());
}

#[tokio::test]
async fn the_truth_survives_requests_that_hang() {
    let app = App::with(&[PATIENT, ("SEGMENT_TIMEOUT", "500ms")]).await;
    let crowd = crowd(&app, json!({"hang": true, "count": 5, "poisonUserIds": POISONED})).await;
    crowd.check();
    assert!(crowd.accepted() > CALLS * 9 / 10, "{}", crowd.accepted());
}

#[tokio::test]
async fn one_user_whose_calls_always_fail_takes_nobody_down() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "12s")]).await;
    // One of the users who come to rest after a few rounds: on a slow machine the crowd may have to wait for answers.
    let failing = ["user-150"];
    let crowd = crowd(&app, json!({"poisonUserIds": failing, "poisonStatus": 500})).await;
    crowd.check();
    check_strangers_accepted(&crowd, &failing);
}

#[tokio::test]
async fn callers_in_a_hurry_hear_the_truth_too() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "3s"), ("SEGMENT_TIMEOUT", "300ms")]).await;
    let faults = json!({"reset": true, "afterAccepting": true, "rate": 0.6, "latency": "100ms"});
    crowd(&app, faults).await.check_in_a_hurry();
}
