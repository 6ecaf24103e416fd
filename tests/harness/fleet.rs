//! Several relays with one outbox in PostgreSQL, and one Segment.
//!
//! Each relay reaches the database and Segment by cables of its own, which can be cut, and which know when it sent something.

use std::time::Instant;

use super::cable::Cable;
use super::durable::Durable;
use super::postgres::Cluster;
use super::wait::at_last;

/// The user of the call that shows which relay delivers.
pub const PROBE: &str = "who-delivers";

/// The relays.
pub struct Fleet {
    /// The first one has the sandbox.
    pub relays: Vec<Durable>,
    /// Of each relay to Segment.
    pub to_segment: Vec<Cable>,
    /// Of each relay to the database.
    pub to_database: Vec<Cable>,
    pub database: String,
}

impl Fleet {
    /// So many relays on a new database of this cluster, with these settings.
    pub async fn start(count: usize, cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let mut fleet = Self::prepared(count, cluster, settings).await;
        fleet.start_all().await;
        fleet
    }

    /// The same, without starting the relays.
    pub async fn prepared(count: usize, cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let database = cluster.create_database().await;
        let first = Durable::prepared(settings).await;
        let segment = first.segment().url().to_owned();
        let segment_port = segment.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        let mut fleet = Self { relays: vec![first], to_segment: Vec::new(), to_database: Vec::new(), database };
        for number in 0..count {
            if number > 0 {
                fleet.relays.push(Durable::sending_to(&segment, settings));
            }
            let to_segment = Cable::to(segment_port.expect("a port")).await;
            let to_database = Cable::to(cluster.port()).await;
            let relay = &mut fleet.relays[number];
            relay.set("SEGMENT_ENDPOINT", &format!("http://127.0.0.1:{}", to_segment.port()));
            let url = format!("postgres://postgres@127.0.0.1:{}/{}", to_database.port(), fleet.database);
            relay.set("RELAY_OUTBOX_URL", &url);
            settings.iter().for_each(|(name, value)| relay.set(name, value));
            fleet.to_segment.push(to_segment);
            fleet.to_database.push(to_database);
        }
        fleet
    }

    pub async fn start_all(&mut self) {
        for relay in &mut self.relays {
            relay.start_relay().await;
        }
    }

    /// Which relay sent last: the one that delivers. A call of a user of its own makes it send.
    pub async fn deliverer(&self) -> usize {
        let begin = Instant::now();
        let answer = self.relays[0].post(&serde_json::json!({"userId": PROBE, "traits": {}})).await;
        assert!(answer.is_stored(), "{answer:?}");
        at_last(async || self.to_segment.iter().any(|cable| cable.sent().last().is_some_and(|at| *at > begin))).await;
        let last = |number: &usize| self.to_segment[*number].sent().last().copied();
        (0..self.relays.len()).max_by_key(last).expect("a relay")
    }
}
