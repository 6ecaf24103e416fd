//! The store's tests: the contract of every store, and what only a file can do.

mod contract;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{SqliteOutbox, SqliteSettings};
use crate::lifecycle::Lifecycle;
use crate::outbox::Stored;
use crate::status::Status;

/// More than any test stores.
const ROOMY: u64 = 1024 * 1024 * 1024;

fn settings(path: &Path) -> SqliteSettings {
    SqliteSettings { path: path.to_owned(), max_bytes: ROOMY, window: Duration::from_secs(3600) }
}

type Opened = anyhow::Result<(Arc<SqliteOutbox>, mpsc::Receiver<Vec<Stored>>)>;

fn open(settings: &SqliteSettings) -> Opened {
    SqliteOutbox::open(settings, Arc::new(Status::new()?), &Lifecycle::new())
}
