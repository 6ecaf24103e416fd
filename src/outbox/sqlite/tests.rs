//! Tests of the SQLite store: the suite of every store, and what is particular to a file.

mod clock;
mod contract;
mod expire;
mod fake_disk;
mod faults;
mod key_rules;
mod letters;
mod limits;
mod migration;
mod opening;
mod oracle;
mod parked;
mod parking_rules;
mod power;
mod source_shares;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, Row};
use tempfile::TempDir;

use super::SqliteOutbox;
use super::calls::call_from_row;
use crate::config::{OutboxPlace, OutboxSettings};
use crate::metrics::Metrics;
use crate::outbox::suite::Inspect;
use crate::outbox::{OutboxError, SourceStats, Store, StoredCall};
use crate::supervisor::Supervisor;

/// A limit in bytes that no test reaches.
const NO_LIMIT: u64 = 1024 * 1024 * 1024;

fn settings(path: &Path) -> OutboxSettings {
    OutboxSettings {
        place: OutboxPlace::Sqlite(path.to_owned()),
        max_bytes: NO_LIMIT,
        dead_letter_retention: None,
        window: Duration::from_secs(3600),
        give_up_after: Some(Duration::from_secs(24 * 3600)),
    }
}

/// A directory in memory, for tests that simulate the disk.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(settings: &OutboxSettings) -> anyhow::Result<Arc<SqliteOutbox>> {
    let OutboxPlace::Sqlite(path) = &settings.place else { unreachable!() };
    SqliteOutbox::open(path, settings, Arc::new(Metrics::new()?), &Supervisor::new())
}

#[async_trait]
impl Inspect for SqliteOutbox {
    async fn inspect(&self) -> Result<Vec<StoredCall>, OutboxError> {
        let read = |conn: &Connection| {
            let sql = "SELECT id, user_id, call, 0, source FROM calls
                       UNION ALL SELECT id, user_id, call, 1, source FROM parked_calls ORDER BY id";
            let call = |row: &Row<'_>| {
                Ok(StoredCall {
                    id: row.get(0)?,
                    call: call_from_row(row.get(1)?, row.get::<_, Option<String>>(4)?.map(Arc::from), row.get(2)?),
                    is_parked: row.get(3)?,
                })
            };
            conn.prepare(sql)?.query_map([], call)?.collect()
        };
        self.reads.read(read).await
    }

    fn sources(&self) -> Vec<SourceStats> {
        self.source_stats()
    }

    fn set_windows(&self, windows: BTreeMap<Arc<str>, Duration>) {
        self.set_key_windows(windows);
    }
}
