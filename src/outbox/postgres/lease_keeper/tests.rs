//! Tests of the keeper: several relays and a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::super::connect::{Connection, Connector};
use super::super::test_cluster::TestCluster;
use super::{LeaseKeeper, Tenure};
use crate::segment::SendFence;
use crate::supervisor::Supervisor;

/// So the lease lasts six seconds.
const SEGMENT_TIMEOUT: Duration = Duration::from_secs(1);

const TABLES: &str = "CREATE SCHEMA segment_relay;
    CREATE TABLE segment_relay.lease (one boolean PRIMARY KEY DEFAULT true CHECK (one), owner bigint NOT NULL,
        epoch bigint NOT NULL, expires timestamptz NOT NULL, since timestamptz NOT NULL);
    INSERT INTO segment_relay.lease (owner, epoch, expires, since) VALUES (0, 0, '-infinity', now());
    CREATE TABLE segment_relay.members (relay bigint PRIMARY KEY, name text NOT NULL, version text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz NOT NULL DEFAULT now());";

/// A relay as far as its lease is concerned.
struct Relay {
    number: i64,
    fence: Arc<SendFence>,
    tenure: watch::Receiver<Option<Tenure>>,
    is_gate_shut: Arc<AtomicBool>,
    has_all_back: Arc<AtomicBool>,
    supervisor: Supervisor,
}

struct Fleet {
    relays: Vec<Relay>,
    admin: Connection,
    _cluster: TestCluster,
}

impl Fleet {
    async fn start(relays: i64) -> Self {
        let cluster = TestCluster::start(&[], "").await;
        let admin = cluster.admin("postgres").await;
        admin.batch(TABLES).await.unwrap();
        let url = cluster.url("postgres", "postgres", "sslmode=disable").parse().unwrap();
        let connector = Connector::new(&url).unwrap();
        let relays = (1..=relays).map(|number| Relay::start(number, connector.clone())).collect();
        Self { relays, admin, _cluster: cluster }
    }

    /// Waits until the fence of one relay is open, and no other one's, and returns its place.
    async fn owner(&self, is_it: impl Fn(usize) -> bool) -> usize {
        self.until("nobody delivers", || {
            let open: Vec<usize> = (0..self.relays.len()).filter(|place| self.relays[*place].may_send()).collect();
            assert!(open.len() <= 1, "{open:?} may send at once");
            open.first().copied().filter(|place| is_it(*place))
        })
        .await
    }

    async fn until<T>(&self, otherwise: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{otherwise}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until this number comes.
    async fn count(&self, sql: &str, expected: i64) {
        let begun = Instant::now();
        loop {
            let found: i64 = self.admin.query(sql, &[]).await.unwrap()[0].get(0);
            if found == expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{found} and not {expected}: {sql}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Relay {
    fn start(number: i64, connector: Connector) -> Self {
        let (sender, tenure) = watch::channel(None);
        let relay = Self {
            number,
            fence: Arc::new(SendFence::new_shut()),
            tenure,
            is_gate_shut: Arc::default(),
            has_all_back: Arc::new(AtomicBool::new(true)),
            supervisor: Supervisor::new(),
        };
        let (is_gate_shut, has_all_back) = (relay.is_gate_shut.clone(), relay.has_all_back.clone());
        LeaseKeeper {
            connector,
            relay: number,
            name: format!("relay-{number}"),
            segment_timeout: SEGMENT_TIMEOUT,
            fence: relay.fence.clone(),
            tenure: sender,
            gate_shut_for: Box::new(move || is_gate_shut.load(Ordering::Relaxed).then_some(Duration::from_secs(3600))),
            has_all_back: Box::new(move || has_all_back.load(Ordering::Relaxed)),
            supervisor: relay.supervisor.clone(),
        }
        .start();
        relay
    }

    /// Opens the fence as the deliverer does.
    fn may_send(&self) -> bool {
        if let Some(Tenure { epoch }) = *self.tenure.borrow()
            && !self.fence.is_open()
        {
            self.fence.open(epoch);
        }
        self.fence.may_send()
    }

    fn epoch(&self) -> i64 {
        self.tenure.borrow().unwrap().epoch
    }
}

#[tokio::test]
async fn one_of_several_relays_delivers_and_another_one_when_it_has_died() {
    let fleet = Fleet::start(3).await;
    let first = fleet.owner(|_| true).await;
    fleet.count("SELECT count(*) FROM segment_relay.members WHERE version <> ''", 3).await;
    let epoch = fleet.relays[first].epoch();
    fleet.relays[first].supervisor.cancel();
    let second = fleet.owner(|place| place != first).await;
    assert_eq!(fleet.relays[second].epoch(), epoch + 1, "nobody released the lease");
    let number = fleet.relays[second].number;
    fleet
        .count(
            &format!("SELECT owner FROM segment_relay.lease WHERE expires > now() AND epoch = {}", epoch + 1),
            number,
        )
        .await;
}

#[tokio::test]
async fn a_relay_that_drains_releases_the_lease_when_its_calls_are_settled() {
    let fleet = Fleet::start(2).await;
    let first = fleet.owner(|_| true).await;
    let Relay { number, supervisor, has_all_back, .. } = &fleet.relays[first];
    let epoch = fleet.relays[first].epoch();
    has_all_back.store(false, Ordering::Relaxed);
    let before = "SELECT count(*) FROM segment_relay.lease WHERE expires > since + interval '8 seconds'";
    let signals = crate::supervisor::Signals::install().unwrap();
    supervisor.stop();
    let stopped = supervisor.run(signals, Duration::ZERO, Duration::from_secs(60));
    let settled = async {
        // It renews while it waits: a lease lasts for six seconds.
        fleet.count(before, 1).await;
        let sql = format!("SELECT count(*) FROM segment_relay.lease WHERE owner = {number} AND epoch = {epoch}");
        fleet.count(&sql, 1).await;
        has_all_back.store(true, Ordering::Relaxed);
    };
    tokio::join!(stopped, settled);
    assert_eq!(*fleet.relays[first].tenure.borrow(), None);
    let second = fleet.owner(|place| place != first).await;
    assert_eq!(fleet.relays[second].epoch(), epoch + 1, "a hand-over is one tenure more");
    fleet.count("SELECT count(*) FROM segment_relay.members", 1).await;
}

#[tokio::test]
async fn a_relay_whose_renewals_hang_stops_sending_and_delivers_again_later_in_another_tenure() {
    let fleet = Fleet::start(1).await;
    fleet.owner(|_| true).await;
    let epoch = fleet.relays[0].epoch();
    fleet.admin.batch("BEGIN; LOCK TABLE segment_relay.lease IN ACCESS EXCLUSIVE MODE").await.unwrap();
    fleet.until("it sends on", || (!fleet.relays[0].may_send()).then_some(())).await;
    assert!(fleet.relays[0].tenure.borrow().is_none_or(|tenure| tenure.epoch == epoch));
    fleet.admin.batch("COMMIT").await.unwrap();
    fleet.owner(|_| fleet.relays[0].epoch() > epoch).await;
}

#[tokio::test]
async fn a_relay_whose_connections_are_cut_goes_on() {
    let fleet = Fleet::start(2).await;
    let first = fleet.owner(|_| true).await;
    let cut =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'segment-relay lease'";
    for _ in 0..5 {
        fleet.admin.query(cut, &[]).await.unwrap();
        sleep(Duration::from_millis(300)).await;
    }
    fleet.owner(|_| true).await;
    let seen = "SELECT count(*) FROM segment_relay.members WHERE seen_at > started_at + interval '2 seconds'";
    fleet.count(seen, 2).await;
    assert!(fleet.relays[first].fence.is_open() || fleet.relays[1 - first].fence.is_open());
}

#[tokio::test]
async fn a_relay_that_cannot_reach_segment_hands_the_lease_over() {
    let fleet = Fleet::start(2).await;
    let first = fleet.owner(|_| true).await;
    fleet.relays[first].is_gate_shut.store(true, Ordering::Relaxed);
    let second = fleet.owner(|place| place != first).await;
    fleet.relays[first].is_gate_shut.store(false, Ordering::Relaxed);
    let params = [(&fleet.relays[second].number as _, Type::INT8)];
    let rows = fleet.admin.query("SELECT count(*) FROM segment_relay.lease WHERE owner = $1", &params).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 1);
}
