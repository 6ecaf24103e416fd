//! The disk fails at the n-th operation, for every n: whatever the store said holds when it is opened again.

use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, Failure};
use super::oracle::Oracle;
use super::{SqliteOutbox, in_memory, open, settings};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::outbox::sqlite::file::Place;
use crate::supervisor::Supervisor;

/// So short that the script's few calls make it necessary to copy the log, more than once.
const LOG_PAGES: i32 = 8;

/// A store on this disk, if it can be opened.
fn open_on(path: &Path, vfs: &'static str, supervisor: &Supervisor) -> Option<Arc<SqliteOutbox>> {
    let place = Place { vfs: Some(vfs), log_pages: LOG_PAGES, ..Place::at(path) };
    let opened = SqliteOutbox::open_at(&place, &settings(path), Arc::new(Metrics::new().unwrap()), supervisor);
    opened.ok().map(|(store, _fresh)| store)
}

/// Everything that a store does, with what it said.
async fn script(path: &Path, vfs: &'static str) -> Oracle {
    let (mut oracle, supervisor) = (Oracle::default(), Supervisor::new());
    let Some(store) = open_on(path, vfs, &supervisor) else { return oracle };
    for n in 1..=3 {
        oracle.append(&store, n, 100).await;
    }
    oracle.settle(&store, 1, true).await;
    oracle.settle(&store, 2, false).await;
    oracle.append(&store, 4, 20_000).await;
    oracle.replay(&store, 2).await;
    oracle.settle(&store, 4, false).await;
    for n in 5..=8 {
        oracle.append(&store, n, 30_000).await;
    }
    oracle.settle(&store, 3, false).await;
    oracle.settle(&store, 2, true).await;
    store.close().await;
    assert!(!oracle.unsaid || supervisor.is_stopping(), "it left something unsaid and goes on");

    let supervisor = Supervisor::new();
    let Some(store) = open_on(path, vfs, &supervisor) else { return oracle };
    oracle.append(&store, 9, 10).await;
    oracle.replay_all(&store).await;
    oracle.settle(&store, 5, true).await;
    store.close().await;
    oracle
}

async fn every_operation_fails(failure: Failure, for_good: bool) {
    let (disk, vfs) = Disk::new();
    let mut failed = 0;
    for nth in 1.. {
        let directory = in_memory();
        let path = directory.path().join("outbox.db");
        disk.fail(nth, failure, for_good);
        let oracle = script(&path, vfs).await;
        let was_reached = disk.heal();
        let (store, _fresh) = open(&settings(&path)).unwrap();
        if let Err(wrong) = oracle.check(&store).await {
            panic!("operation {nth} failed ({failure:?}, for good: {for_good}): {wrong}");
        }
        store.close().await;
        if !was_reached {
            break;
        }
        failed += 1;
    }
    assert!(failed > 100, "the script has more than {failed} operations");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_operation_fails_once_what_was_said_holds() {
    every_operation_fails(Failure::Broken, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_whatever_operation_on_the_disk_is_broken_what_was_said_holds() {
    every_operation_fails(Failure::Broken, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_whatever_operation_the_disk_is_full_once_what_was_said_holds() {
    every_operation_fails(Failure::Full, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_whatever_operation_on_the_disk_is_full_what_was_said_holds() {
    every_operation_fails(Failure::Full, true).await;
}
