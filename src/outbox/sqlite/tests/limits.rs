//! What is bounded: what is on disk, the log, the keys that are remembered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, Failure};
use super::{SqliteOutbox, SqliteSettings, open, settings};
use crate::metrics::Metrics;
use crate::outbox::sqlite::file::Place;
use crate::outbox::suite::{accepted, append, call, keyed, plain, refused, settle, sized, waiting};
use crate::outbox::{DeadLetters, Outbox, OutboxError};
use crate::supervisor::Supervisor;

#[tokio::test]
async fn a_full_outbox_refuses_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let limit = SqliteSettings { max_bytes: 2 * 1024 * 1024, ..settings(&directory.path().join("outbox.db")) };
    let (store, _fresh) = open(&limit).unwrap();
    append(&*store, keyed(call("u", "first"), 1, 1)).await.unwrap();
    let mut stored = 1;
    while let Ok(_appended) = append(&*store, plain(sized("u", "m", 30_000))).await {
        stored += 1;
    }
    assert!(stored > 20);
    assert_eq!(append(&*store, plain(call("u", "m"))).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.contents().trouble, Some("the outbox is full"));
    assert!(store.contents().bytes <= store.contents().max_bytes);
    // What was stored is still known, and what is another's is still a mistake.
    assert!(append(&*store, keyed(call("u", "first"), 1, 1)).await.unwrap().replayed);
    assert_eq!(append(&*store, keyed(call("u", "first"), 1, 2)).await.unwrap_err(), OutboxError::KeyReused);
    store.close().await;

    // It is full when it is opened again, and says so at once.
    let (store, _fresh) = open(&limit).unwrap();
    assert_eq!(store.contents().trouble, Some("the outbox is full"));
    let all = waiting(&*store).await;
    settle(&*store, all[1..10].iter().map(|stored| refused(stored.id, "words")).collect()).await;
    for letter in store.list(1000, None).await.unwrap() {
        store.discard(letter.id).await.unwrap();
    }
    assert_eq!(store.contents().trouble, None);
    append(&*store, plain(sized("u", "m", 30_000))).await.unwrap();
    store.close().await;
}

/// A store on a disk that fails when it is told to.
fn open_on_a_disk(path: &Path) -> (Arc<SqliteOutbox>, Arc<Disk>, Supervisor) {
    let (disk, vfs) = Disk::new();
    let supervisor = Supervisor::new();
    let place = Place { vfs: Some(vfs), ..Place::at(path) };
    let (store, _fresh) =
        SqliteOutbox::open_at(&place, &settings(path), Metrics::new().unwrap().into(), &supervisor).unwrap();
    (store, disk, supervisor)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_survived_and_healed_without_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let (store, disk, supervisor) = open_on_a_disk(&path);
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    let id = waiting(&*store).await[0].id;
    disk.fail(1, Failure::Full, true);
    assert_eq!(append(&*store, plain(call("u", "m1"))).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.settle(vec![accepted(id)].into()).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.contents().trouble, Some("the disk is full"));
    disk.heal();
    while store.contents().trouble.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    append(&*store, plain(call("u", "m2"))).await.unwrap();
    assert_eq!(waiting(&*store).await.len(), 2);
    assert!(!supervisor.is_stopping());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let (store, disk, supervisor) = open_on_a_disk(&path);
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    disk.fail(1, Failure::Broken, false);
    assert_eq!(append(&*store, plain(call("u", "m1"))).await.unwrap_err(), OutboxError::Unconfirmed);
    assert_eq!(append(&*store, plain(call("u", "m2"))).await.unwrap_err(), OutboxError::Closed);
    assert!(supervisor.is_stopping());
    assert_eq!(store.contents().trouble, Some("the outbox failed"));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_does_not_grow_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let place = Place { log_pages: 16, ..Place::at(&path) };
    let (store, _fresh) =
        SqliteOutbox::open_at(&place, &settings(&path), Metrics::new().unwrap().into(), &Supervisor::new()).unwrap();
    // Each writes several pages: many times what the log may have, without a pause.
    for n in 0..600 {
        append(&*store, plain(sized("u", &format!("m{n}"), 20_000))).await.unwrap();
    }
    let log = std::fs::metadata(directory.path().join("outbox.db-wal")).unwrap().len();
    let file = std::fs::metadata(&path).unwrap().len();
    assert!(log < file, "{log} bytes of log, {file} in the file");
    assert_eq!(waiting(&*store).await.len(), 600);
    store.close().await;
    assert_eq!(std::fs::metadata(directory.path().join("outbox.db-wal")).map_or(0, |log| log.len()), 0);
}
