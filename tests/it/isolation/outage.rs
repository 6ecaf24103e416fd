//! Segment is gone for a while, or for a moment: how often it is asked, and who waits how long after its return.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::start;
use crate::harness::{Fault, ScriptedSegment, at_last, customer, eventually};
use crate::ledger::body;
use crate::storing::{store_all, store_steadily};

/// How many requests a dead Segment may get within [`OUTAGE`].
const FEW: usize = 80;

const OUTAGE: Duration = Duration::from_secs(20);

/// The requests within [`OUTAGE`] of the first one.
fn requests_in_outage(segment: &ScriptedSegment) -> usize {
    let requests = segment.requests();
    let end = requests.first().expect("a request").at + OUTAGE;
    requests.iter().filter(|request| request.at < end).count()
}

#[tokio::test]
async fn a_dead_segment_gets_few_requests_and_everything_when_it_returns() {
    let (durable, segment) = start(&[]).await;
    segment.fail_all(Some(Fault::Status(503)));
    let users = (0..5_000).map(|number| customer(&format!("c-{number}")));
    store_steadily(durable.relay(), OUTAGE / 5_000, users).await;
    let requests = requests_in_outage(&segment);
    segment.heal();
    at_last(async || segment.users_arrived("c-") == 5_000).await;
    assert!(durable.dead_letters().await.is_empty());
    assert!(requests < FEW, "{requests} requests in {OUTAGE:?}");
}

#[tokio::test]
async fn an_outage_of_any_kind_gets_few_requests() {
    let kinds = [Fault::Status(500), Fault::Status(401), Fault::Status(404), Fault::Hang, Fault::Reset];
    join_all(kinds.map(|kind| async move {
        let (durable, segment) = start(&[("SEGMENT_TIMEOUT", "300ms")]).await;
        segment.fail_all(Some(kind));
        let users = (0..500).map(|number| customer(&format!("c-{number}")));
        store_steadily(durable.relay(), OUTAGE / 500, users).await;
        let requests = requests_in_outage(&segment);
        segment.heal();
        at_last(async || segment.users_arrived("c-") == 500).await;
        assert!(durable.dead_letters().await.is_empty());
        assert!(requests < FEW, "{kind:?}: {requests} requests in {OUTAGE:?}");
    }))
    .await;
}

#[tokio::test]
async fn each_probe_in_an_outage_holds_one_users_calls_and_the_next_one_anothers() {
    const PROBES: usize = 6;
    let (durable, segment) = start(&[]).await;
    segment.fail_all(Some(Fault::Status(503)));
    for number in 0..10 {
        assert!(durable.post(&customer(&format!("first-{number}"))).await.is_stored());
    }
    eventually(async || durable.relay().metric("segment_relay_gate_shut").await == 1.0).await;
    // Two of each user.
    store_all(durable.relay(), 1, (0..400).map(|number| body(&format!("c-{}", number / 2), number % 2))).await;
    let before = segment.request_count();
    at_last(async || segment.request_count() >= before + PROBES).await;
    let probes = &segment.requests()[before..];
    assert!(probes.iter().all(|probe| probe.users.len() == 1), "{probes:?}");
    let users: HashSet<_> = probes.iter().flat_map(|probe| &probe.users).collect();
    assert_eq!(users.len(), probes.len(), "{probes:?}");
    segment.heal();
    at_last(async || segment.users_arrived("c-") == 200 && segment.users_arrived("first-") == 10).await;
}

#[tokio::test]
async fn a_pause_that_a_blip_named_ends_when_a_stranger_is_accepted() {
    // Each names a minute.
    join_all([Fault::Status(422), Fault::RetryAfter(503, 60), Fault::RetryAfter(500, 60)].map(|blip| async move {
        let (durable, segment) = start(&[]).await;
        segment.fail_all(Some(blip));
        let early = (0..100).map(|number| customer(&format!("early-{number}")));
        store_steadily(durable.relay(), Duration::from_millis(3), early).await;
        eventually(async || segment.request_count() > 0).await;
        segment.heal();
        store_all(durable.relay(), 1, (0..20).map(|number| customer(&format!("c-{number}")))).await;
        eventually(async || segment.users_arrived("c-") == 20).await;
        eventually(async || segment.users_arrived("early-") == 100).await;
    }))
    .await;
}

#[tokio::test]
async fn a_429_stops_all_for_the_time_that_it_names() {
    let (durable, segment) = start(&[]).await;
    segment.fail("limited", Fault::RetryAfter(429, 2));
    assert!(durable.post(&customer("limited")).await.is_stored());
    // Its answer has come.
    eventually(async || durable.relay().metric("segment_relay_gate_shut").await == 1.0).await;
    segment.heal();
    for number in 0..20 {
        assert!(durable.post(&customer(&format!("c-{number}"))).await.is_stored());
    }
    eventually(async || segment.users_arrived("") == 21).await;
    let requests = segment.requests();
    // A timer never rings early: this holds on a busy machine, too.
    assert!(requests[1].at.duration_since(requests[0].at) >= Duration::from_secs(2), "{requests:?}");
}
