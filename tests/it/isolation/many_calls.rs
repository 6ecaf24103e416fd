//! One user has a great many calls waiting: strangers go between them.

use std::collections::HashSet;
use std::time::Duration;

use super::start;
use crate::harness::{Fault, at_last, customer};
use crate::ledger::body;
use crate::storing::store_all;

/// The calls of a round are posted at once, and a round after the one before it.
const ROUNDS: u64 = 20;
const CALLS_OF_ROUND: u64 = 1_000;
const CALLS: usize = (ROUNDS * CALLS_OF_ROUND) as usize;

const STRANGERS: usize = 50;

#[tokio::test]
async fn strangers_do_not_wait_for_a_user_with_20_000_calls() {
    let (mut durable, segment) = start(&[]).await;
    segment.fail_all(Some(Fault::Status(503)));
    for round in 0..ROUNDS {
        store_all(durable.relay(), 1, (0..CALLS_OF_ROUND).map(move |_| body("hot", round))).await;
    }
    store_all(durable.relay(), 1, (0..STRANGERS).map(|number| customer(&format!("stored-{number}")))).await;
    durable.kill().await;
    segment.heal();
    // The backlog of one user goes one request after another, so it is there for a while.
    segment.delay(Duration::from_millis(400));
    durable.start_relay().await;
    store_all(durable.relay(), 1, (0..STRANGERS).map(|number| customer(&format!("new-{number}")))).await;
    let hot = || segment.arrivals().into_iter().filter(|arrival| arrival.user == "hot").collect::<Vec<_>>();
    at_last(async || segment.users_arrived("stored-") == STRANGERS && segment.users_arrived("new-") == STRANGERS).await;
    let arrived = hot().len();
    assert!(arrived < CALLS * 3 / 4, "the strangers came when {arrived} of {CALLS} had arrived");
    segment.delay(Duration::ZERO);
    at_last(async || hot().len() >= CALLS).await;
    let hot = hot();
    assert_eq!(hot.iter().map(|arrival| &arrival.message_id).collect::<HashSet<_>>().len(), CALLS);
    assert!(hot.iter().map(|arrival| arrival.number).is_sorted());
}
