//! A reader that stays open keeps the write-ahead log from being emptied: the log counts against the outbox's limit, the
//! relay says who reads, and it recovers by itself when the reader has gone.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Durable, Shim, at_last, eventually};
use crate::ledger::{Ledger, body};

/// Bytes of the log that the relay empties if nobody hinders it, about.
const USUAL: u64 = 17 << 20;

/// `RELAY_OUTBOX_MAX_SIZE` of these relays.
const LIMIT: u64 = 24 << 20;

fn heavy(number: u64) -> Value {
    json!({"userId": format!("c-{}", number % 50), "traits": {"history": "x".repeat(30_000)}})
}

fn log_length(durable: &Durable) -> u64 {
    fs::metadata(durable.file().with_file_name("outbox.db-wal")).unwrap().len()
}

/// A reader that holds the log.
fn reader(durable: &Durable) -> Connection {
    let reader = Connection::open(durable.file()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM calls").unwrap();
    reader
}

/// A line of the log that says this.
fn said(durable: &Durable, words: &str) -> Option<Value> {
    let says = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(words));
    durable.relay().log().into_iter().find(says)
}

#[tokio::test]
async fn a_reader_that_stays_open_fills_the_outbox_and_not_the_disk() {
    let durable = Durable::with(&[("RELAY_OUTBOX_MAX_SIZE", "24MiB")]).await;
    assert!(durable.post(&heavy(0)).await.is_stored());
    let reader = reader(&durable);
    let mut number = 0;
    loop {
        number += 1;
        let answer = durable.post(&heavy(number)).await;
        assert!(log_length(&durable) < LIMIT + 2 * USUAL, "the log takes {} bytes", log_length(&durable));
        if !answer.is_stored() {
            answer.assert_failed(503, "overloaded");
            break;
        }
    }
    assert!(log_length(&durable) > LIMIT, "the log takes {} bytes only", log_length(&durable));
    // A delivery makes room for a moment, and small calls fill it.
    at_last(async || {
        durable.post(&body("c-1", number)).await;
        let ready = durable.get("/readyz").await;
        ready.status == 503 && ready.body["reasons"].to_string().contains("reader")
    })
    .await;
    eventually(async || said(&durable, "a reader keeps").is_some()).await;
    let line = said(&durable, "a reader keeps").unwrap();
    assert_eq!((&line["level"], &line["pid"]), (&json!("WARN"), &json!(std::process::id())), "{line}");
    assert!(durable.relay().metric("segment_relay_outbox_log_bytes").await > LIMIT as f64);

    drop(reader);
    at_last(async || durable.post(&heavy(0)).await.is_stored()).await;
    eventually(async || durable.get("/readyz").await.status == 200).await;
    eventually(async || said(&durable, "the reader has gone").is_some()).await;
    assert!(log_length(&durable) < USUAL, "the log still takes {} bytes", log_length(&durable));
    let all = durable.relay().log();
    let told = all.iter().filter(|told| told["message"] == line["message"]).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_relay_starts_beside_a_reader_that_stays_open_and_says_who_reads() {
    let mut durable = Durable::prepared(&[]).await;
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    for number in 0..10 {
        ledger.post(&durable, "c-1", number).await;
    }
    let reader = reader(&durable);
    for number in 10..20 {
        ledger.post(&durable, "c-1", number).await;
    }
    durable.kill().await;
    durable.start_relay().await;
    let line = said(&durable, "a reader keeps").unwrap();
    assert_eq!((&line["level"], &line["pid"]), (&json!("WARN"), &json!(std::process::id())), "{line}");
    for number in 20..30 {
        ledger.post(&durable, "c-1", number).await;
    }
    assert_eq!(durable.get("/readyz").await.status, 200);
    // A stop does not wait for the reader, and neither does the next start.
    durable.stop().await;
    durable.start_relay().await;
    ledger.post(&durable, "c-1", 30).await;
    drop(reader);
    eventually(async || said(&durable, "the reader has gone").is_some()).await;
    eventually(async || log_length(&durable) == 0).await;
    let all = durable.relay().log();
    assert_eq!(all.iter().filter(|told| told["message"] == line["message"]).count(), 1);
    durable.kill().await;
    durable.start_relay().await;
    assert!(said(&durable, "a reader keeps").is_none());
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn no_disk_space_for_the_shared_memory_is_a_full_disk_and_the_process_goes_on() {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    ledger.post(&durable, "c-1", 0).await;
    // The log grows until SQLite needs more shared memory to know what is in it.
    let reader = reader(&durable);
    shim.fail("no-shared-memory 1");
    let mut number = 0;
    loop {
        number += 1;
        ledger.posting("c-1", number);
        let mut customer = body("c-1", number);
        customer["traits"]["history"] = "x".repeat(30_000).into();
        let answer = durable.post(&customer).await;
        if !answer.is_stored() {
            // It was synced, so whether it is stored is unknown.
            answer.assert_failed(504, "outbox_timeout");
            break;
        }
        ledger.promised("c-1", number, &answer);
        assert!(log_length(&durable) < 2 * USUAL, "the shared memory is large enough");
    }
    eventually(async || durable.get("/readyz").await.status == 503).await;
    assert_eq!(durable.get("/healthz").await.status, 200);
    shim.heal();
    drop(reader);
    at_last(async || durable.get("/readyz").await.status == 200).await;
    number += 1;
    ledger.post(&durable, "c-1", number).await;
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
}
