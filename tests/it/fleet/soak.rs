//! A soak of a fleet: random troubles of relays, the database and Segment, for minutes or for hours.
//!
//! `tests/soak fleet MINUTES [SEED]` runs it. What happens comes from the seed; when it happens is the machine's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::QUICK;
use super::load::Load;
use crate::harness::postgres::{Cluster, Stop};
use crate::harness::{Cut, Fleet};
use crate::soak::number;

/// After so many troubles everything must have arrived, and what arrived is forgotten: a soak of hours takes little memory.
const TROUBLES_A_ROUND: u64 = 3;

/// Longest trouble, in milliseconds. A lease of [`QUICK`] is half as long.
const LONGEST: u64 = 12_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    RelayKilled,
    RelayStopped,
    RelayStoodStill,
    DatabaseCut,
    SegmentCut,
    SegmentFailed,
    UsersFailed,
    DatabaseRestarted,
    ConnectionsEnded,
    ServerProcessKilled,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::RelayKilled,
    Trouble::RelayStopped,
    Trouble::RelayStoodStill,
    Trouble::DatabaseCut,
    Trouble::SegmentCut,
    Trouble::SegmentFailed,
    Trouble::UsersFailed,
    Trouble::DatabaseRestarted,
    Trouble::ConnectionsEnded,
    Trouble::ServerProcessKilled,
];

#[tokio::test]
#[ignore = "a soak, by command: tests/soak fleet MINUTES [SEED]"]
async fn three_relays_keep_each_users_order_in_all_troubles_for_as_long_as_they_are_watched() {
    let seed = number("SOAK_SEED", fastrand::u64(..));
    let minutes = number("SOAK_MINUTES", 2);
    println!("SOAK_SEED={seed} SOAK_MINUTES={minutes}");
    let cluster = Cluster::start(&[]);
    let mut fleet = Fleet::start(3, &cluster, &QUICK).await;
    let mut random = Rng::with_seed(seed);
    let (mut calls, mut troubles, mut rounds) = (0, BTreeMap::new(), 0_u64);
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    while Instant::now() < end {
        let prefix = format!("round-{rounds}-");
        let load = Load::of(&fleet, &prefix);
        for _ in 0..TROUBLES_A_ROUND {
            load.until(load.posted() + random.u64(10..300)).await;
            let trouble = random.choice(TROUBLES).expect("a trouble");
            println!("round {rounds}, {} calls: {trouble:?}", load.posted());
            *troubles.entry(trouble).or_insert(0) += 1;
            trouble.happen(&mut fleet, &cluster, &load, &prefix, &mut random).await;
        }
        load.until(load.posted() + 10).await;
        let ledger = load.finish().await;
        ledger.settle_without_refusals(&fleet.relays[0]).await;
        fleet.relays[0].segment().reset().await;
        calls += ledger.owed();
        rounds += 1;
    }
    println!("{rounds} rounds, {calls} calls, all there and in order; {troubles:?}");
}

impl Trouble {
    /// Begins, lasts a while, and is over.
    async fn happen(self, fleet: &mut Fleet, cluster: &Cluster, load: &Load, prefix: &str, random: &mut Rng) {
        let number = random.usize(..fleet.relays.len());
        let moment = Duration::from_millis(random.u64(..LONGEST));
        let cut = if random.bool() { Cut::Silent } else { Cut::Reset };
        let segment = fleet.relays[0].segment();
        match self {
            Self::RelayKilled | Self::RelayStopped => {
                let relay = &mut fleet.relays[number];
                if self == Self::RelayKilled {
                    relay.kill().await;
                } else {
                    assert_eq!(relay.stop().await, Some(0), "relay {number} was stopped");
                }
                load.moved(fleet);
                sleep(moment).await;
                fleet.relays[number].start_relay().await;
                load.moved(fleet);
            }
            Self::RelayStoodStill => {
                fleet.relays[number].relay().process().signal("STOP");
                sleep(moment).await;
                fleet.relays[number].relay().process().signal("CONT");
            }
            Self::DatabaseCut => {
                fleet.to_database[number].cut(cut);
                sleep(moment).await;
                fleet.to_database[number].cut(Cut::None);
            }
            Self::SegmentCut => {
                fleet.to_segment[number].cut(cut);
                sleep(moment).await;
                fleet.to_segment[number].cut(Cut::None);
            }
            Self::SegmentFailed => {
                let status = random.choice([500, 503, 429, 401]).expect("a status");
                segment.fail(json!({"status": status, "rate": 0.5})).await;
                sleep(moment).await;
                segment.heal().await;
            }
            Self::UsersFailed => {
                let users: Vec<_> = (0..8).map(|user| format!("{prefix}{user}")).collect();
                segment.fail(json!({"poisonUserIds": users, "poisonStatus": 500})).await;
                sleep(moment).await;
                segment.heal().await;
            }
            Self::DatabaseRestarted => {
                cluster.stop(random.choice([Stop::Fast, Stop::Immediate, Stop::Kill]).expect("a way"));
                sleep(moment).await;
                cluster.restart();
            }
            Self::ConnectionsEnded => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                cluster.execute(&fleet.database, sql).await;
            }
            Self::ServerProcessKilled => {
                let sql = "SELECT pid FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid() LIMIT 1";
                let rows = cluster.client(&fleet.database).await.query(sql, &[]).await.expect("rows");
                if let Some(row) = rows.first() {
                    cluster.kill_backend(row.get(0));
                }
            }
        }
    }
}
