//! Runs the suite of every store on SQLite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use super::{SqliteOutbox, open, settings};
use crate::config::OutboxSettings;
use crate::outbox::suite::{StoreFactory, contract};

struct Directory(TempDir);

fn directory() -> Directory {
    Directory(tempfile::tempdir().unwrap())
}

#[async_trait]
impl StoreFactory for Directory {
    type Store = SqliteOutbox;

    async fn open_with_window(&self, window: Duration) -> Arc<SqliteOutbox> {
        open(&OutboxSettings { window, ..settings(&self.0.path().join("outbox.db")) }).unwrap()
    }
}

contract!(directory());
