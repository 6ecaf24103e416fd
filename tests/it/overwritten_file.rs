//! Another file is copied over the outbox while the relay runs, and the inode stays the same: nothing more is stored, and
//! what is in memory is delivered. What another program may do to a file is no loss.

use std::fs;

use reqwest::Method;
use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Durable, TOKEN, at_last, eventually};
use crate::ledger::{Ledger, body, heavy_body};

const STORED: u64 = 20;

async fn relay_whose_calls_wait() -> Durable {
    let mut durable = Durable::prepared(&[]).await;
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    durable
}

async fn store(durable: &Durable, ledger: &mut Ledger, user: &str) {
    for number in 0..STORED {
        ledger.posting(user, number);
        ledger.promised(user, number, &durable.post(&heavy_body(user, number)).await);
    }
}

async fn assert_it_is_noticed_and_what_is_in_memory_is_delivered(durable: &mut Durable, ledger: &mut Ledger) {
    for number in 0..10 {
        ledger.posting("late", number);
        durable.post(&body("late", number)).await.assert_failed(503, "overloaded");
    }
    assert_eq!(durable.get("/readyz").await.status, 503);
    durable.segment().heal().await;
    eventually(async || durable.segment().received().await.len() >= ledger.owed()).await;
    let overwritten = |line: &serde_json::Value| line["message"].as_str().is_some_and(|it| it.contains("overwritten"));
    assert!(durable.relay().log().iter().any(overwritten), "{:?}", durable.relay().log());
    assert_eq!(durable.stop().await, Some(1));
}

#[tokio::test]
async fn a_backup_copied_over_the_file_is_noticed() {
    let (mut durable, mut ledger) = (relay_whose_calls_wait().await, Ledger::default());
    store(&durable, &mut ledger, "before").await;
    let backup = durable.relay().request(Method::GET, "/backup").bearer_auth(TOKEN).send().await.unwrap();
    let backup = backup.bytes().await.unwrap();
    store(&durable, &mut ledger, "after").await;
    // Now the file holds all, and is longer than the backup.
    durable.stop().await;
    durable.start_relay().await;
    assert!(fs::metadata(durable.file()).unwrap().len() > backup.len() as u64);
    fs::write(durable.file(), backup).unwrap();
    assert_it_is_noticed_and_what_is_in_memory_is_delivered(&mut durable, &mut ledger).await;
}

#[tokio::test]
async fn a_longer_backup_copied_over_the_file_is_noticed() {
    let (mut durable, mut ledger) = (relay_whose_calls_wait().await, Ledger::default());
    store(&durable, &mut ledger, "before").await;
    let backup = durable.relay().request(Method::GET, "/backup").bearer_auth(TOKEN).send().await.unwrap();
    let backup = backup.bytes().await.unwrap();
    assert!(fs::metadata(durable.file()).unwrap().len() < backup.len() as u64);
    fs::write(durable.file(), backup).unwrap();
    assert_it_is_noticed_and_what_is_in_memory_is_delivered(&mut durable, &mut ledger).await;

    // The log beside it is not its own.
    let mut next = durable.spawn();
    assert_eq!(next.exit_code().await, Some(1));
    assert!(next.stderr().iter().any(|line| line.contains("belongs to another file")), "{:?}", next.stderr());
    fs::remove_file(durable.file().with_file_name("outbox.db-wal")).unwrap();
    fs::remove_file(durable.file().with_file_name("outbox.db-shm")).unwrap();
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn an_older_copy_of_the_file_that_is_shorter_is_noticed() {
    let (mut durable, mut ledger) = (relay_whose_calls_wait().await, Ledger::default());
    store(&durable, &mut ledger, "before").await;
    durable.stop().await;
    let copy = fs::read(durable.file()).unwrap();
    durable.start_relay().await;
    store(&durable, &mut ledger, "after").await;
    durable.stop().await;
    durable.start_relay().await;
    ledger.post(&durable, "after", STORED).await;
    assert!(fs::metadata(durable.file()).unwrap().len() > copy.len() as u64);
    fs::write(durable.file(), copy).unwrap();
    assert_it_is_noticed_and_what_is_in_memory_is_delivered(&mut durable, &mut ledger).await;
}

#[tokio::test]
async fn a_file_that_another_program_vacuums_is_not_lost() {
    let (mut durable, mut ledger) = (relay_whose_calls_wait().await, Ledger::default());
    store(&durable, &mut ledger, "before").await;
    durable.stop().await;
    durable.segment().heal().await;
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
    let before = fs::metadata(durable.file()).unwrap().len();
    let shell = Connection::open(durable.file()).unwrap();
    shell.busy_timeout(crate::harness::PATIENCE).unwrap();
    shell.execute_batch("VACUUM").unwrap();
    for number in 0..10 {
        ledger.post(&durable, "after", number).await;
    }
    let is_shorter = || fs::metadata(durable.file()).unwrap().len() < before;
    at_last(async || shell.execute_batch("PRAGMA wal_checkpoint").is_ok() && is_shorter()).await;
    for number in 10..20 {
        ledger.post(&durable, "after", number).await;
    }
    assert_eq!(durable.get("/readyz").await.status, 200);
    ledger.settle_without_refusals(&durable).await;
    assert_eq!(durable.stop().await, Some(0));
}
