//! Tests of the PostgreSQL store, each with a database of its own in one cluster.

#[path = "../../../tests/harness/postgres.rs"]
pub(super) mod cluster;

mod appends;
mod contract;
mod cuts;
mod durability;
pub(super) mod proxy;
mod reads;
mod schema;
mod shares;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::Cluster;

use super::PostgresOutbox;
use super::connect::{Connection, Connector};
use crate::config::{OutboxPlace, OutboxSettings, PostgresUrl};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxStats};
use crate::supervisor::Supervisor;

/// A limit in bytes that no test reaches.
const NO_LIMIT: u64 = 1024 * 1024 * 1024;

/// A new, empty database.
struct Database {
    url: PostgresUrl,
}

impl Database {
    /// In the cluster that all tests have in common.
    async fn create() -> Self {
        Self::create_in(Cluster::shared()).await
    }

    async fn create_in(cluster: &Cluster) -> Self {
        let name = cluster.create_database().await;
        Self { url: cluster.url(&name).parse().unwrap() }
    }

    /// Reads the figures now.
    async fn read(&self, store: &PostgresOutbox) -> OutboxStats {
        store.shared.read_figures(&self.connect().await).await.unwrap();
        store.stats()
    }

    async fn connect(&self) -> Connection {
        Connector::new(&self.url).unwrap().open("test").await.unwrap()
    }

    /// The same through another port.
    fn through(&self, port: u16) -> Self {
        let (before, behind) = self.url.reveal().rsplit_once(':').unwrap();
        let (_, name) = behind.split_once('/').unwrap();
        // A proxy reads messages, and the first one of a client that would encrypt is none.
        Self { url: format!("{before}:{port}/{name}?sslmode=disable").parse().unwrap() }
    }

    fn server(&self) -> SocketAddr {
        let (_, behind) = self.url.reveal().rsplit_once(':').unwrap();
        format!("127.0.0.1:{}", behind.split_once('/').unwrap().0).parse().unwrap()
    }

    /// The calls that wait, as `user/messageId`, in order.
    async fn stored(&self) -> Vec<String> {
        let rows = self.connect().await.query("SELECT call FROM segment_relay.calls ORDER BY id", &[]).await.unwrap();
        let name = |call: &[u8]| {
            let call: serde_json::Value = serde_json::from_slice(call).unwrap();
            format!("{}/{}", call["userId"].as_str().unwrap(), call["messageId"].as_str().unwrap())
        };
        rows.iter().map(|row| name(row.get(0))).collect()
    }

    async fn open(&self) -> Arc<PostgresOutbox> {
        self.open_with(&settings()).await
    }

    async fn open_with(&self, settings: &OutboxSettings) -> Arc<PostgresOutbox> {
        let metrics = Arc::new(Metrics::new().unwrap());
        PostgresOutbox::open(
            &self.url,
            settings,
            Duration::from_secs(10),
            Box::new(|| None),
            metrics,
            &Supervisor::new(),
        )
        .await
        .unwrap()
    }
}

fn settings() -> OutboxSettings {
    OutboxSettings {
        place: OutboxPlace::Sqlite(PathBuf::new()),
        max_bytes: NO_LIMIT,
        dead_letter_retention: None,
        window: Duration::from_secs(3600),
        give_up_after: Some(Duration::from_secs(24 * 3600)),
    }
}
