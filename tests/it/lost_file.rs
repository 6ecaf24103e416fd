//! The outbox's files are deleted, moved, replaced or cut while the relay runs: no call is answered 202 that the next
//! start would not find, what was answered before is delivered as far as it can be read, and the process ends.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Answer, Durable, Shim, eventually};
use crate::ledger::{Ledger, body};

/// Calls that are stored before the loss.
const STORED: u64 = 20;

/// A relay with stored calls that Segment does not take yet. Its outbox is in a directory that can be moved.
async fn relay_with_stored_calls() -> (Durable, Ledger) {
    let mut durable = Durable::prepared(&[]).await;
    durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}", outbox(&durable).display()));
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    for number in 0..STORED {
        ledger.post(&durable, "c-1", number).await;
    }
    (durable, ledger)
}

fn outbox(durable: &Durable) -> std::path::PathBuf {
    durable.directory().join("data/outbox.db")
}

/// Nothing is stored any more, and every answer and the log say so.
async fn assert_nothing_more_is_stored(durable: &Durable, ledger: &mut Ledger) {
    for number in STORED..STORED + 10 {
        ledger.posting("c-1", number);
        let answer = durable.post(&body("c-1", number)).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.retry_after() >= Some(1), "{answer:?}");
    }
    let ready = durable.get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");
}

/// The lines of the log that are errors.
async fn ended_with_errors(durable: &mut Durable) -> Vec<serde_json::Value> {
    let relay = durable.relay_mut();
    let code = relay.process_mut().exit_code().await;
    assert_eq!(code, Some(1));
    let errors = relay.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
    durable.ended().await;
    errors
}

/// Segment is up again: all calls arrive, and the process ends by itself and says that nothing is lost.
async fn assert_all_arrive_before_the_end(durable: &mut Durable, ledger: &Ledger, what: &str) {
    durable.segment().heal().await;
    let errors = ended_with_errors(durable).await;
    let first = errors.first().expect("an error");
    assert!(first["message"].as_str().is_some_and(|message| message.contains(what)), "{errors:?}");
    assert!(first["file"].as_str().is_some_and(|file| file.contains("outbox.db")), "{errors:?}");
    assert_eq!(errors.last().expect("an error")["lost"], 0, "{errors:?}");
    eventually(async || durable.segment().received().await.len() >= ledger.owed()).await;
}

/// Starts the relay again, on whatever is there.
async fn assert_all_are_there_after_a_restart(durable: &mut Durable, ledger: &Ledger) {
    durable.start_relay().await;
    ledger.settle_without_refusals(durable).await;
}

async fn the_file_is_lost(lose: impl Fn(&Path), what: &str) {
    let (mut durable, mut ledger) = relay_with_stored_calls().await;
    lose(&outbox(&durable));
    assert_nothing_more_is_stored(&durable, &mut ledger).await;
    assert_all_arrive_before_the_end(&mut durable, &ledger, what).await;
    // The ledger needs a relay to ask for dead letters.
    durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}", durable.directory().join("new.db").display()));
    assert_all_are_there_after_a_restart(&mut durable, &ledger).await;
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    path.with_file_name(format!("outbox.db{suffix}"))
}

#[tokio::test]
async fn a_deleted_file_stores_nothing_more_and_its_calls_are_delivered() {
    the_file_is_lost(|file| fs::remove_file(file).unwrap(), "deleted").await;
}

#[tokio::test]
async fn a_moved_file_stores_nothing_more_and_its_calls_are_delivered() {
    the_file_is_lost(|file| fs::rename(file, beside(file, ".old")).unwrap(), "moved").await;
}

#[tokio::test]
async fn a_replaced_file_stores_nothing_more_and_its_calls_are_delivered() {
    let replace = |file: &Path| {
        fs::copy(file, beside(file, ".copy")).unwrap();
        fs::rename(beside(file, ".copy"), file).unwrap();
    };
    the_file_is_lost(replace, "replaced").await;
}

#[tokio::test]
async fn a_deleted_directory_stores_nothing_more_and_its_calls_are_delivered() {
    the_file_is_lost(|file| fs::remove_dir_all(file.parent().unwrap()).unwrap(), "deleted").await;
}

#[tokio::test]
async fn a_moved_directory_stores_nothing_more_and_its_calls_are_delivered() {
    let moved = |file: &Path| fs::rename(file.parent().unwrap(), file.parent().unwrap().with_file_name("old")).unwrap();
    the_file_is_lost(moved, "moved").await;
}

/// Without its log or its shared memory the file can still take everything: the process ends at once, and the next one
/// has every call.
async fn a_file_beside_is_lost(suffix: &str, lose: impl Fn(&Path), what: &str) {
    let (mut durable, mut ledger) = relay_with_stored_calls().await;
    lose(&beside(&outbox(&durable), suffix));
    for number in STORED..STORED + 10 {
        ledger.posting("c-1", number);
        if let Ok(answer) = durable.relay().try_post(&body("c-1", number)).await {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    }
    let errors = ended_with_errors(&mut durable).await;
    let first = errors.first().expect("an error");
    assert!(first["message"].as_str().is_some_and(|message| message.contains(what)), "{errors:?}");
    assert!(first["file"].as_str().is_some_and(|file| file.contains(suffix)), "{errors:?}");
    assert_eq!(errors.last().expect("an error")["lost"], 0, "{errors:?}");
    durable.segment().heal().await;
    assert_all_are_there_after_a_restart(&mut durable, &ledger).await;
}

#[tokio::test]
async fn the_calls_of_a_deleted_log_are_copied_into_the_file() {
    a_file_beside_is_lost("-wal", |file| fs::remove_file(file).unwrap(), "deleted").await;
}

#[tokio::test]
async fn the_calls_of_a_moved_log_are_copied_into_the_file() {
    let moved = |file: &Path| fs::rename(file, file.with_file_name("elsewhere")).unwrap();
    a_file_beside_is_lost("-wal", moved, "moved").await;
}

#[tokio::test]
async fn a_relay_whose_shared_memory_is_deleted_ends_with_every_call_in_the_file() {
    a_file_beside_is_lost("-shm", |file| fs::remove_file(file).unwrap(), "deleted").await;
}

/// Until the relay says that it cannot copy the calls yet.
async fn assert_the_copy_is_hindered(durable: &Durable) {
    let says = |line: &serde_json::Value| line["message"].as_str().is_some_and(|it| it.contains("cannot be copied"));
    eventually(async || durable.relay().log().iter().any(says)).await;
    assert_eq!(durable.get("/readyz").await.status, 503);
}

/// A relay whose log was deleted while a reader keeps what was stored last from being copied.
async fn relay_whose_copy_a_reader_hinders(suffix: &str) -> (Durable, Ledger, Connection) {
    let (durable, mut ledger) = relay_with_stored_calls().await;
    let reader = Connection::open(outbox(&durable)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM calls").unwrap();
    for number in STORED..STORED + 10 {
        ledger.post(&durable, "c-1", number).await;
    }
    fs::remove_file(beside(&outbox(&durable), suffix)).unwrap();
    assert_the_copy_is_hindered(&durable).await;
    (durable, ledger, reader)
}

async fn assert_it_ends_and_the_file_holds_all(mut durable: Durable, ledger: &Ledger) {
    let errors = ended_with_errors(&mut durable).await;
    assert_eq!(errors.last().expect("an error")["lost"], 0, "{errors:?}");
    durable.segment().heal().await;
    assert_all_are_there_after_a_restart(&mut durable, ledger).await;
}

#[tokio::test]
async fn the_calls_of_a_deleted_log_are_copied_when_the_reader_that_hinders_it_has_gone() {
    let (durable, ledger, reader) = relay_whose_copy_a_reader_hinders("-wal").await;
    drop(reader);
    assert_it_ends_and_the_file_holds_all(durable, &ledger).await;
}

#[tokio::test]
async fn the_calls_are_copied_without_the_shared_memory_when_the_reader_that_hinders_it_has_gone() {
    let (durable, ledger, reader) = relay_whose_copy_a_reader_hinders("-shm").await;
    drop(reader);
    assert_it_ends_and_the_file_holds_all(durable, &ledger).await;
}

#[tokio::test]
async fn the_calls_of_a_deleted_log_are_delivered_while_a_reader_hinders_the_copy() {
    let (durable, ledger, reader) = relay_whose_copy_a_reader_hinders("-wal").await;
    durable.segment().heal().await;
    eventually(async || durable.segment().received().await.len() >= ledger.owed()).await;
    drop(reader);
    assert_it_ends_and_the_file_holds_all(durable, &ledger).await;
}

#[tokio::test]
async fn the_calls_of_a_deleted_log_are_copied_when_the_disk_is_no_longer_full() {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    for number in 0..STORED {
        ledger.post(&durable, "c-1", number).await;
    }
    shim.fail("room 0");
    fs::remove_file(beside(&durable.file(), "-wal")).unwrap();
    assert_the_copy_is_hindered(&durable).await;
    shim.heal();
    assert_it_ends_and_the_file_holds_all(durable, &ledger).await;
}

fn cut(file: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

/// What is in memory is delivered, and nothing is read from what was cut.
async fn a_file_is_cut(suffix: &str, length: u64) {
    let (mut durable, mut ledger) = relay_with_stored_calls().await;
    cut(&beside(&outbox(&durable), suffix), length);
    assert_nothing_more_is_stored(&durable, &mut ledger).await;
    durable.segment().heal().await;
    eventually(async || durable.segment().received().await.len() >= ledger.owed()).await;
    let errors = durable.relay().log().into_iter().filter(|line| line["level"] == "ERROR").collect::<Vec<_>>();
    let first = errors.first().expect("an error");
    assert!(first["message"].as_str().is_some_and(|message| message.contains("truncated")), "{errors:?}");
    let _ = durable.stop().await;
}

#[tokio::test]
async fn a_log_cut_to_nothing_stores_nothing_more_and_what_is_in_memory_is_delivered() {
    a_file_is_cut("-wal", 0).await;
}

#[tokio::test]
async fn a_log_cut_in_the_middle_stores_nothing_more_and_what_is_in_memory_is_delivered() {
    a_file_is_cut("-wal", 20_000).await;
}

#[tokio::test]
async fn a_file_cut_to_nothing_stores_nothing_more_and_what_is_in_memory_is_delivered() {
    a_file_is_cut("", 0).await;
}

#[tokio::test]
async fn a_relay_that_is_stopped_after_its_file_was_deleted_says_how_many_calls_are_lost() {
    let (mut durable, _ledger) = relay_with_stored_calls().await;
    fs::remove_file(outbox(&durable)).unwrap();
    durable.relay().process().signal("TERM");
    let errors = ended_with_errors(&mut durable).await;
    assert_eq!(errors.last().expect("an error")["lost"], STORED, "{errors:?}");
}

#[tokio::test]
async fn a_caller_who_waits_when_the_file_is_deleted_does_not_hear_that_its_call_is_stored() {
    let (durable, _ledger) = relay_with_stored_calls().await;
    let waiting = durable.relay().post_request(&body("c-2", 0)).header("prefer", "wait=5").send();
    let deletes = async {
        eventually(async || durable.relay().metric("segment_relay_outbox_calls").await > STORED as f64).await;
        fs::remove_file(outbox(&durable)).unwrap();
        eventually(async || durable.get("/readyz").await.status == 503).await;
    };
    let (answer, ()) = tokio::join!(waiting, deletes);
    Answer::of(answer.unwrap()).await.unwrap().assert_failed(504, "outbox_timeout");
}
