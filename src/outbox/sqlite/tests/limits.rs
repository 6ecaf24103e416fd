//! Tests of the limits, and of a disk that is full or fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fake_disk::{DiskFailure, FakeDisk};
use super::{SqliteOutbox, open, settings};
use crate::config::OutboxSettings;
use crate::metrics::Metrics;
use crate::outbox::sqlite::file::DatabaseFile;
use crate::outbox::suite::{accepted, append, call, keyed, letters, plain, refused, settle, sized, waiting};
use crate::outbox::{DeadLetters, Outbox, OutboxError};
use crate::supervisor::Supervisor;

#[tokio::test]
async fn a_full_outbox_refuses_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let limit = OutboxSettings { max_bytes: 2 * 1024 * 1024, ..settings(&directory.path().join("outbox.db")) };
    let store = open(&limit).unwrap();
    append(&*store, keyed(call("u", "first"), 1, 1)).await.unwrap();
    let mut stored = 1;
    // Of one user each: a single user may take an eighth.
    while let Ok(_appended) = append(&*store, plain(sized(&format!("u{stored}"), "m", 30_000))).await {
        stored += 1;
    }
    assert!(stored > 20);
    assert_eq!(append(&*store, plain(call("u", "m"))).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.stats().trouble, Some("the outbox is full"));
    assert!(store.stats().bytes <= store.stats().max_bytes);
    // A repeated call is still recognised, and another body is still refused.
    assert!(append(&*store, keyed(call("u", "first"), 1, 1)).await.unwrap().replayed);
    assert_eq!(append(&*store, keyed(call("u", "first"), 1, 2)).await.unwrap_err(), OutboxError::KeyReused);
    store.close().await;

    // A full outbox reports that at once when it is opened again.
    let store = open(&limit).unwrap();
    assert_eq!(store.stats().trouble, Some("the outbox is full"));
    let all = waiting(&*store).await;
    settle(&*store, all[1..10].iter().map(|stored| refused(stored.id, "words")).collect()).await;
    let ids = letters(&*store).await.unwrap().into_iter().map(|letter| letter.id).collect();
    assert_eq!(store.discard(ids).await.unwrap(), 9);
    assert_eq!(store.stats().trouble, None);
    append(&*store, plain(sized("u", "m", 30_000))).await.unwrap();
    store.close().await;
}

/// A store on a disk that fails on request.
fn open_on_fake_disk(path: &Path) -> (Arc<SqliteOutbox>, Arc<FakeDisk>, Supervisor) {
    let (disk, vfs) = FakeDisk::new();
    let supervisor = Supervisor::new();
    let file = DatabaseFile { vfs: Some(vfs), ..DatabaseFile::new(path) };
    let store = SqliteOutbox::open_file(&file, &settings(path), Metrics::new().unwrap().into(), &supervisor).unwrap();
    (store, disk, supervisor)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_survived_and_recovers_without_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let (store, disk, supervisor) = open_on_fake_disk(&path);
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    let id = waiting(&*store).await[0].id;
    disk.fail(1, DiskFailure::Full, true);
    assert_eq!(append(&*store, plain(call("u", "m1"))).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.settle(vec![accepted(id)].into()).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.stats().trouble, Some("the disk is full"));
    disk.heal();
    while store.stats().trouble.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    append(&*store, plain(call("u", "m2"))).await.unwrap();
    assert_eq!(waiting(&*store).await.len(), 2);
    assert!(!supervisor.is_stopping());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let (store, disk, supervisor) = open_on_fake_disk(&path);
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    disk.fail(1, DiskFailure::IoError, false);
    assert_eq!(append(&*store, plain(call("u", "m1"))).await.unwrap_err(), OutboxError::Unconfirmed);
    assert_eq!(append(&*store, plain(call("u", "m2"))).await.unwrap_err(), OutboxError::Closed);
    assert!(supervisor.is_stopping());
    assert_eq!(store.stats().trouble, Some("the outbox failed"));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let file = DatabaseFile { wal_pages: 16, ..DatabaseFile::new(&path) };
    let store =
        SqliteOutbox::open_file(&file, &settings(&path), Metrics::new().unwrap().into(), &Supervisor::new()).unwrap();
    // Each call writes several pages, without a pause: many times the limit of the log. On a busy machine the thread that
    // copies the log may come late, but then the log stays as it is while the file grows.
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let log = directory.path().join("outbox.db-wal");
    let mut calls = 0;
    while calls < 600 || size(&log) >= size(&path) {
        append(&*store, plain(sized("u", &format!("m{calls}"), 20_000))).await.unwrap();
        calls += 1;
        assert!(calls < 6_000, "{} bytes of log, {} in the file", size(&log), size(&path));
    }
    assert_eq!(store.stats().waiting, calls);
    store.close().await;
    assert_eq!(std::fs::metadata(directory.path().join("outbox.db-wal")).map_or(0, |log| log.len()), 0);
}
