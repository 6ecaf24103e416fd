//! The store's tests: the contract of every store, and what only a file can do.

mod clock;
mod contract;
mod disk;
mod faults;
mod limits;
mod opening;
mod oracle;
mod power;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{SqliteOutbox, SqliteSettings};
use crate::metrics::Metrics;
use crate::outbox::Stored;
use crate::supervisor::Supervisor;

/// More than any test stores.
const ROOMY: u64 = 1024 * 1024 * 1024;

fn settings(path: &Path) -> SqliteSettings {
    SqliteSettings { path: path.to_owned(), max_bytes: ROOMY, window: Duration::from_secs(3600) }
}

/// A directory for tests that play the disk themselves and need none that is slow.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

type Opened = anyhow::Result<(Arc<SqliteOutbox>, mpsc::Receiver<Vec<Stored>>)>;

fn open(settings: &SqliteSettings) -> Opened {
    SqliteOutbox::open(settings, Arc::new(Metrics::new()?), &Supervisor::new())
}
