//! A full disk, an outbox at its limit, and files that cannot be used: no stored call is lost, and every answer is
//! true.
//!
//! A preloaded library (`tests/shim/disk.rs`) simulates the full disk. Linux only.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::{Answer, Durable, LONG_PATIENCE, Process, Shim, at_last, eventually};
use crate::ledger::{Ledger, body, heavy_body};

/// More calls than any of these outboxes has room for.
const MANY: u64 = 1_000;

/// The user of a call that is one of many: a single user may take an eighth of the outbox.
fn user(number: u64) -> String {
    format!("c-{}", number % 20)
}

/// Posts calls of some users until one is not stored. Its answer must be a 503. Returns its number.
async fn post_until_full(durable: &Durable, ledger: &mut Ledger, from: u64) -> u64 {
    for number in from..from + MANY {
        ledger.posting(&user(number), number);
        let answer = durable.post(&heavy_body(&user(number), number)).await;
        if !answer.is_stored() {
            assert_overloaded(&answer);
            return number;
        }
        ledger.promised(&user(number), number, &answer);
    }
    panic!("{MANY} calls were stored and the outbox is not full")
}

#[track_caller]
fn assert_overloaded(answer: &Answer) {
    answer.assert_failed(503, "overloaded");
    assert!(answer.retry_after() >= Some(1), "{answer:?}");
}

async fn assert_not_ready_with_reasons(durable: &Durable) {
    eventually(async || durable.get("/readyz").await.status == 503).await;
    let answer = durable.get("/readyz").await;
    assert!(answer.body["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{answer:?}");
    assert_eq!(durable.get("/healthz").await.status, 200);
}

/// Waits until a new call is stored and the relay is ready.
async fn wait_until_stored_again(durable: &Durable, ledger: &mut Ledger, mut number: u64) {
    let begin = std::time::Instant::now();
    loop {
        ledger.posting(&user(number), number);
        let answer = durable.post(&heavy_body(&user(number), number)).await;
        if answer.is_stored() {
            ledger.promised(&user(number), number, &answer);
            break;
        }
        assert_overloaded(&answer);
        assert!(begin.elapsed() < LONG_PATIENCE, "the outbox stays full: {answer:?}");
        number += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    eventually(async || durable.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn a_full_disk_is_503_and_the_relay_recovers_by_itself_when_there_is_space() {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    // Room for the file and some hundred commits. The transaction in which it ends is not chosen.
    shim.fail("room 2500003");
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    let number = post_until_full(&durable, &mut ledger, 0).await;
    assert!(ledger.owed() > 10, "{}", ledger.owed());
    assert_not_ready_with_reasons(&durable).await;
    assert_overloaded(&durable.post(&body("c-1", number + 1)).await);
    ledger.posting("c-1", number + 1);
    shim.heal();
    wait_until_stored_again(&durable, &mut ledger, number + 2).await;
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn a_disk_that_is_full_during_delivery_loses_no_call() {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    for number in 0..100 {
        ledger.post(&durable, "c-1", number).await;
    }
    shim.fail("room 0");
    durable.segment().heal().await;
    ledger.posting("c-1", 100);
    assert_overloaded(&durable.post(&body("c-1", 100)).await);
    assert_not_ready_with_reasons(&durable).await;
    shim.heal();
    wait_until_stored_again(&durable, &mut ledger, 101).await;
    ledger.settle_without_refusals(&durable).await;
    // The calls that were stored before the disk was full survive a kill too.
    durable.kill().await;
    shim.removed(&mut durable);
    durable.start_relay().await;
    ledger.check(&durable).await;
}

#[tokio::test]
async fn an_outbox_at_its_limit_is_503_until_deliveries_make_room() {
    let durable = Durable::with(&[("RELAY_OUTBOX_MAX_SIZE", "1MiB")]).await;
    durable.segment().fail(json!({"status": 503})).await;
    let mut ledger = Ledger::default();
    let number = post_until_full(&durable, &mut ledger, 0).await;
    // About ten thousand bytes per call.
    assert!((50..=105).contains(&ledger.owed()), "{}", ledger.owed());
    assert_not_ready_with_reasons(&durable).await;
    durable.segment().heal().await;
    wait_until_stored_again(&durable, &mut ledger, number + 1).await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn the_size_limit_counts_only_what_is_stored_now() {
    let settings = [("RELAY_OUTBOX_MAX_SIZE", "1MiB"), ("RELAY_IDEMPOTENCY_WINDOW", "1s")];
    let durable = Durable::with(&settings).await;
    let mut ledger = Ledger::default();
    // Several times the limit in all, a part at a time.
    for part in 0..8 {
        for number in part * 50..(part + 1) * 50 {
            ledger.posting(&user(number), number);
            ledger.promised(&user(number), number, &durable.post(&heavy_body(&user(number), number)).await);
        }
        ledger.settle_without_refusals(&durable).await;
    }
    let size = fs::metadata(durable.file()).unwrap().len();
    assert!(size < 3 << 20, "the file has {size} bytes");
}

/// The files of a directory, with their bytes.
fn files(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

/// Waits for the end of a relay that must not start: it fails, and prints one line.
async fn startup_error(mut process: Process) -> String {
    let code = process.exit_code().await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    let lines = process.stderr();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains("panicked"), "{lines:?}");
    lines[0].clone()
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_not_touched() {
    let mut intact = Durable::start().await;
    intact.segment().fail(json!({"status": 503})).await;
    for number in 0..200 {
        assert!(intact.post(&body("c-1", number)).await.is_stored());
    }
    assert_eq!(intact.stop().await, Some(0));
    let intact = fs::read(intact.file()).unwrap();
    assert!(intact.len() > 8_192, "{}", intact.len());
    let with = |from: usize, bytes: &[u8]| {
        let mut file = intact.clone();
        file[from..from + bytes.len()].copy_from_slice(bytes);
        file
    };
    let damaged = [
        ("garbage", b"this is no database, but somebody's diary\n".repeat(500)),
        ("the first half of one", intact[..intact.len() / 2].to_vec()),
        ("a few bytes", intact[..50].to_vec()),
        ("zeros in the header", with(16, &[0; 64])),
        ("zeros instead of the schema", with(100, &[0; 3_000])),
        ("a schema of the future", with(60, &[0x7f, 0xff, 0xff, 0xff])),
    ];
    for (how, bytes) in damaged {
        let durable = Durable::prepared(&[]).await;
        fs::write(durable.file(), &bytes).unwrap();
        let line = startup_error(durable.spawn()).await;
        assert!(line.contains("outbox"), "{how}: {line}");
        assert!(fs::read(durable.file()).unwrap() == bytes, "{how}: the file was changed");
    }
}

#[tokio::test]
async fn an_unusable_path_is_reported_and_not_changed() {
    let mut durable = Durable::prepared(&[]).await;
    let file = durable.directory().join("file");
    fs::write(&file, "somebody's").unwrap();
    let before = files(durable.directory());
    durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}/outbox.db", file.display()));
    let line = startup_error(durable.spawn()).await;
    assert!(line.contains("outbox"), "{line}");
    durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}", durable.directory().display()));
    startup_error(durable.spawn()).await;
    assert_eq!(files(durable.directory()), before);
}

#[tokio::test]
async fn a_file_with_a_second_name_or_that_everybody_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut durable = Durable::start().await;
    assert_eq!(durable.stop().await, Some(0));
    let other = durable.directory().join("other.db");
    fs::hard_link(durable.file(), &other).unwrap();
    let line = startup_error(durable.spawn()).await;
    assert!(line.contains("hard link"), "{line}");
    fs::remove_file(&other).unwrap();
    fs::set_permissions(durable.file(), PermissionsExt::from_mode(0o666)).unwrap();
    let line = startup_error(durable.spawn()).await;
    assert!(line.contains("everybody"), "{line}");
    // What Kubernetes' fsGroup makes of it.
    fs::set_permissions(durable.file(), PermissionsExt::from_mode(0o660)).unwrap();
    durable.start_relay().await;
    let warns = |line: &serde_json::Value| line["message"].as_str().is_some_and(|message| message.contains("group"));
    assert!(durable.relay().log().iter().any(warns));
}

#[tokio::test]
async fn a_reserve_that_is_a_link_is_refused_and_what_it_points_to_is_not_changed() {
    let mut durable = Durable::start().await;
    assert_eq!(durable.stop().await, Some(0));
    let (reserve, other) = (durable.directory().join("outbox.db.reserve"), durable.directory().join("other"));
    fs::remove_file(&reserve).unwrap();
    fs::write(&other, "somebody's").unwrap();
    std::os::unix::fs::symlink(&other, &reserve).unwrap();
    let line = startup_error(durable.spawn()).await;
    assert!(line.contains("a link"), "{line}");
    assert_eq!(fs::read(&other).unwrap(), b"somebody's");
}

#[tokio::test]
async fn a_second_process_on_the_same_file_is_refused_and_the_first_continues() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    let mut ledger = Ledger::default();
    for number in 0..20 {
        ledger.post(&durable, "c-1", number).await;
    }
    let line = startup_error(durable.spawn()).await;
    assert!(line.contains("outbox"), "{line}");
    ledger.post(&durable, "c-1", 20).await;
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn the_directory_of_a_new_outbox_is_created_and_only_the_owner_can_read_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let mut durable = Durable::prepared(&[]).await;
    let file = durable.directory().join("var/lib/relay/outbox.db");
    durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}", file.display()));
    durable.start_relay().await;
    assert!(durable.post(&body("c-1", 0)).await.is_stored());
    for entry in fs::read_dir(file.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    at_last(async || durable.segment().received().await.len() == 1).await;
}
