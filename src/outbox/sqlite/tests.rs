//! Tests of the SQLite store: the suite of every store, and what is particular to a file.

mod clock;
mod contract;
mod fake_disk;
mod faults;
mod key_rules;
mod limits;
mod migration;
mod opening;
mod oracle;
mod power;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::SqliteOutbox;
use crate::config::OutboxSettings;
use crate::metrics::Metrics;
use crate::outbox::StoredCall;
use crate::supervisor::Supervisor;

/// A limit in bytes that no test reaches.
const NO_LIMIT: u64 = 1024 * 1024 * 1024;

fn settings(path: &Path) -> OutboxSettings {
    OutboxSettings { path: path.to_owned(), max_bytes: NO_LIMIT, window: Duration::from_secs(3600) }
}

/// A directory in memory, for tests that simulate the disk.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

type Opened = anyhow::Result<(Arc<SqliteOutbox>, mpsc::Receiver<Vec<StoredCall>>)>;

fn open(settings: &OutboxSettings) -> Opened {
    SqliteOutbox::open(settings, Arc::new(Metrics::new()?), &Supervisor::new())
}
