//! 401, 403 and 404: one customer's are not everybody's, and everybody's are known after a few requests.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{parked, start};
use crate::harness::{Fault, Relay, ScriptedSegment, at_last, customer, eventually};

/// Shorter than the pause after an outage's first failures is by the hundredth, and longer than any request takes here.
const DEADLINE: (&str, &str) = ("RELAY_REQUEST_TIMEOUT", "4s");

#[tokio::test]
async fn one_customers_403_keeps_no_direct_stranger_out() {
    join_all([401, 403, 404].map(|status| async move {
        let segment = ScriptedSegment::start();
        let relay = Relay::start(&[("SEGMENT_ENDPOINT", &segment.url()), DEADLINE]).await;
        segment.fail("blocked", Fault::Status(status));
        let blocked = customer("blocked");
        let keep_posting = async {
            loop {
                assert_eq!(relay.post(&blocked).await.status, 502);
                sleep(Duration::from_millis(50)).await;
            }
        };
        let strangers = async {
            assert_eq!(relay.post(&blocked).await.status, 502);
            for number in 0..5 {
                let answer = relay.post(&customer(&format!("c-{number}"))).await;
                assert!(answer.is_accepted(), "{status}, {number}: {answer:?}");
            }
        };
        tokio::select! { () = keep_posting => {}, () = strangers => {} }
    }))
    .await;
}

#[tokio::test]
async fn one_customers_403_keeps_no_stored_stranger_waiting() {
    join_all([401, 403, 404].map(|status| async move {
        let (durable, segment) = start(&[]).await;
        segment.fail("blocked", Fault::Status(status));
        assert!(durable.post(&customer("blocked")).await.is_stored());
        eventually(async || segment.request_count() >= 1).await;
        for number in 0..5 {
            let user = format!("c-{number}");
            assert!(durable.post(&customer(&user)).await.is_stored());
            eventually(async || segment.users_arrived(&user) == 1).await;
        }
        at_last(async || parked(&durable).await.len() == 1).await;
        let listed = parked(&durable).await.remove(0);
        assert_eq!((&listed["userId"], &listed["status"]), (&"blocked".into(), &status.into()), "{listed}");
        assert_eq!(durable.relay().metric("segment_relay_gate_shut").await, 0.0);
        segment.heal();
        at_last(async || segment.users_arrived("blocked") == 1).await;
    }))
    .await;
}

#[tokio::test]
async fn credentials_that_are_wrong_for_all_are_known_to_direct_callers_after_three_requests() {
    join_all([401, 403, 404].map(|status| async move {
        let segment = ScriptedSegment::start();
        // Nobody waits for so long: the client gives up before.
        let relay = Relay::start(&[("SEGMENT_ENDPOINT", &segment.url()), ("RELAY_REQUEST_TIMEOUT", "10m")]).await;
        segment.fail_all(Some(Fault::Status(status)));
        for number in 0..3 {
            assert_eq!(relay.post(&customer(&format!("first-{number}"))).await.status, 502);
        }
        let before = segment.request_count();
        let users: Vec<_> = (0..200).map(|number| customer(&format!("c-{number}"))).collect();
        for answer in join_all(users.iter().map(|user| relay.post(user))).await {
            assert_eq!(answer.status, 502, "{status}: {answer:?}");
        }
        let asked = segment.request_count() - before;
        assert!(asked < 20, "{status}: 200 callers made {asked} requests");
        segment.heal();
        let late = customer("late");
        eventually(async || relay.post(&late).await.is_accepted()).await;
    }))
    .await;
}
