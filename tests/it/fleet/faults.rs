//! A relay ends, stops for a while or loses its way: another one delivers, and no two send at once.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::QUICK;
use super::load::Load;
use crate::harness::postgres::Cluster;
use crate::harness::{Cut, Fleet, at_last};

/// Longer than a lease of [`QUICK`].
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(9);

/// Waits until a relay other than this one sends. Returns which, and when it began.
async fn successor(fleet: &Fleet, before: usize, since: Instant) -> (usize, Instant) {
    let found = || {
        let others = fleet.to_segment.iter().enumerate().filter(|(number, _)| *number != before);
        let first =
            others.filter_map(|(number, cable)| Some((number, cable.sent().into_iter().find(|at| *at > since)?)));
        first.min_by_key(|(_, at)| *at)
    };
    at_last(async || found().is_some()).await;
    found().expect("just found")
}

/// That this relay sent nothing from then on.
fn assert_silent(fleet: &Fleet, number: usize, since: Instant) {
    let late: Vec<_> = fleet.to_segment[number].sent().into_iter().filter(|at| *at > since).collect();
    assert!(late.is_empty(), "relay {number} sent {} times after another one had begun", late.len());
}

#[tokio::test]
async fn another_relay_delivers_when_the_deliverer_is_killed() {
    let mut fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let load = Load::start(&fleet);
    load.until(300).await;
    let deliverer = fleet.deliverer().await;
    let killed = Instant::now();
    fleet.relays[deliverer].kill().await;
    load.moved(&fleet);
    successor(&fleet, deliverer, killed).await;
    fleet.relays[deliverer].start_relay().await;
    load.moved(&fleet);
    load.until(load.posted() + 300).await;
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn a_deliverer_that_stood_still_longer_than_its_lease_sends_nothing_when_it_goes_on() {
    let fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let load = Load::start(&fleet);
    load.until(300).await;
    let deliverer = fleet.deliverer().await;
    let stopped = Instant::now();
    fleet.relays[deliverer].relay().process().signal("STOP");
    let (_, began) = successor(&fleet, deliverer, stopped).await;
    sleep(LONGER_THAN_A_LEASE.saturating_sub(stopped.elapsed())).await;
    fleet.relays[deliverer].relay().process().signal("CONT");
    load.until(load.posted() + 500).await;
    assert_silent(&fleet, deliverer, began);
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn a_deliverer_whose_cable_to_the_database_is_cut_stops_sending_before_another_begins() {
    let fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let load = Load::start(&fleet);
    load.until(300).await;
    let deliverer = fleet.deliverer().await;
    let cut = Instant::now();
    fleet.to_database[deliverer].cut(Cut::Silent);
    let (_, began) = successor(&fleet, deliverer, cut).await;
    at_last(async || fleet.relays[deliverer].get("/readyz").await.status == 503).await;
    load.until(load.posted() + 300).await;
    assert_silent(&fleet, deliverer, began);
    fleet.to_database[deliverer].cut(Cut::None);
    at_last(async || fleet.relays[deliverer].get("/readyz").await.status == 200).await;
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn relays_that_are_replaced_one_after_the_other_lose_nothing() {
    let mut fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let load = Load::start(&fleet);
    for number in [0, 1, 2, 0] {
        load.until(load.posted() + 200).await;
        assert_eq!(fleet.relays[number].stop().await, Some(0));
        load.moved(&fleet);
        load.until(load.posted() + 200).await;
        fleet.relays[number].start_relay().await;
        load.moved(&fleet);
    }
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn a_deliverer_that_cannot_reach_segment_lets_another_one_try() {
    let fleet = Fleet::start(3, Cluster::shared(), &QUICK).await;
    let load = Load::start(&fleet);
    load.until(300).await;
    let deliverer = fleet.deliverer().await;
    let cut = Instant::now();
    fleet.to_segment[deliverer].cut(Cut::Reset);
    successor(&fleet, deliverer, cut).await;
    load.until(load.posted() + 100).await;
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}
