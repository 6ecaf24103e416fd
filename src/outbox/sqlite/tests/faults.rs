//! The disk fails at the n-th operation, for every n: every answer of the store holds when it is opened again.

use std::path::Path;
use std::sync::Arc;

use super::fake_disk::{DiskFailure, FakeDisk};
use super::oracle::Oracle;
use super::{SqliteOutbox, in_memory, open, settings};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::outbox::sqlite::file::DatabaseFile;
use crate::supervisor::Supervisor;

/// So few that the script's calls start more than one checkpoint.
const WAL_PAGES: i32 = 8;

/// Opens a store on this disk, if that works.
fn open_on(path: &Path, vfs: &'static str, supervisor: &Supervisor) -> Option<Arc<SqliteOutbox>> {
    let file = DatabaseFile { vfs: Some(vfs), wal_pages: WAL_PAGES, ..DatabaseFile::new(path) };
    let opened = SqliteOutbox::open_file(&file, &settings(path), Arc::new(Metrics::new().unwrap()), supervisor);
    opened.ok()
}

/// Uses every method of a store, and notes its answers.
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
    oracle.park(&store, 3).await;
    oracle.settle(&store, 4, false).await;
    for n in 5..=8 {
        oracle.append(&store, n, 30_000).await;
    }
    oracle.settle(&store, 3, false).await;
    oracle.append_group(&store, 20..24).await;
    oracle.keep(&store, 30).await;
    oracle.keep(&store, 31).await;
    oracle.settle(&store, 2, true).await;
    store.close().await;
    assert!(!oracle.has_unconfirmed || supervisor.is_stopping(), "a commit was unconfirmed and the store did not end");

    let supervisor = Supervisor::new();
    let Some(store) = open_on(path, vfs, &supervisor) else { return oracle };
    oracle.append(&store, 9, 10).await;
    oracle.park(&store, 5).await;
    oracle.give_up(&store, 5).await;
    oracle.replace(&store, 31).await;
    oracle.replay_all(&store).await;
    oracle.settle(&store, 5, true).await;
    store.close().await;
    oracle
}

async fn every_operation_fails(failure: DiskFailure, is_permanent: bool) {
    let (disk, vfs) = FakeDisk::new();
    let mut failed = 0;
    for nth in 1.. {
        let directory = in_memory();
        let path = directory.path().join("outbox.db");
        disk.fail(nth, failure, is_permanent);
        let oracle = script(&path, vfs).await;
        let was_reached = disk.heal();
        let store = open(&settings(&path)).unwrap();
        if let Err(wrong) = oracle.check(&store).await {
            panic!("operation {nth} failed ({failure:?}, permanent: {is_permanent}): {wrong}");
        }
        store.close().await;
        if !was_reached {
            break;
        }
        failed += 1;
    }
    assert!(failed > 100, "the script has only {failed} operations");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_one_io_error_at_any_operation_every_answer_holds() {
    every_operation_fails(DiskFailure::IoError, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_io_errors_from_any_operation_on_every_answer_holds() {
    every_operation_fails(DiskFailure::IoError, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_full_disk_at_any_one_operation_every_answer_holds() {
    every_operation_fails(DiskFailure::Full, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_full_disk_from_any_operation_on_every_answer_holds() {
    every_operation_fails(DiskFailure::Full, true).await;
}
