//! Backups: a copy of the outbox is whole, holds what was promised, is made under load, and hinders nobody.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::harness::{Answer, App, Durable, Process, Shim, TOKEN, at_last, eventually};
use crate::ledger::{Ledger, body, heavy_body};

/// Calls whose copy takes several steps, and does not fit into what a connection may hold of it.
const MANY: u64 = 1_200;

/// Runs `segment-relay backup`. Returns its exit code, and the lines of its output and of its errors.
async fn back_up(url: &str, file: &Path) -> (Option<i32>, Vec<String>, Vec<String>) {
    let file = file.to_str().unwrap();
    let mut process = Process::start(&["backup", file, "--url", url], &[("RELAY_ADMIN_TOKEN", TOKEN)]);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}

/// A relay whose calls wait, with many of these.
async fn with_many(ledger: &mut Ledger) -> Durable {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    fill(&durable, ledger).await;
    durable
}

async fn fill(durable: &Durable, ledger: &mut Ledger) {
    let filled = futures_util::future::join_all((0..8).map(|writer| async move {
        let (user, mut ledger) = (format!("before-{writer}"), Ledger::default());
        for number in 0..MANY / 8 {
            ledger.posting(&user, number);
            ledger.promised(&user, number, &durable.post(&heavy_body(&user, number)).await);
        }
        ledger
    }));
    filled.await.into_iter().for_each(|part| ledger.join(part));
}

#[track_caller]
fn assert_is_whole(file: &Path) {
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    // Read-only, so that no log can be made.
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let text = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(text("PRAGMA journal_mode"), "delete");
    let id: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 0x5367_526c);
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_under_load_ends_and_a_relay_on_it_delivers_what_was_stored_before() {
    let mut ledger = Ledger::default();
    let mut durable = with_many(&mut ledger).await;
    let copies = tempfile::tempdir().unwrap();
    let file = copies.path().join("copy.db");
    let (has_ended, stored) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = futures_util::future::join_all((0..8).map(|writer| {
        let (durable, has_ended, stored) = (&durable, &has_ended, &stored);
        async move {
            let (user, mut posted, mut number) = (format!("during-{writer}"), Ledger::default(), 0);
            while !has_ended.load(Ordering::Relaxed) {
                posted.posting(&user, number);
                assert!(durable.post(&heavy_body(&user, number)).await.is_stored());
                stored.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
            posted
        }
    }));
    let backup = async {
        eventually(async || stored.load(Ordering::Relaxed) > 50).await;
        let before = stored.load(Ordering::Relaxed);
        let outcome = back_up(&durable.relay().url(""), &file).await;
        has_ended.store(true, Ordering::Relaxed);
        (outcome, stored.load(Ordering::Relaxed) - before)
    };
    let (posted, ((code, stdout, stderr), stored_meanwhile)) = tokio::join!(load, backup);
    assert_eq!((code, stderr), (Some(0), vec![]));
    let bytes = fs::metadata(&file).unwrap().len();
    assert_eq!(stdout, [format!("wrote {}: {bytes} bytes", file.display())]);
    assert!(stored_meanwhile > 0 && bytes > MANY * 10_000, "{stored_meanwhile} {bytes}");
    posted.into_iter().for_each(|part| ledger.join(part));
    assert_eq!(names(copies.path()), ["copy.db"]);
    assert_eq!(names(durable.directory()), ["outbox.db", "outbox.db-shm", "outbox.db-wal", "outbox.db.reserve"]);
    assert_is_whole(&file);

    durable.kill().await;
    durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}", file.display()));
    durable.segment().heal().await;
    durable.start_relay().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn who_asks_for_the_headers_alone_makes_no_copy() {
    let durable = Durable::start().await;
    let answer = durable.operate(Method::HEAD, "/backup").await;
    assert_eq!((answer.status, answer.header("content-length")), (200, None), "its length is that of a copy");
    assert_eq!(answer.header("content-type"), Some("application/vnd.sqlite3"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"outbox.db\""));
    // A copy that was begun holds this one back, or is in the log by the end of this one.
    assert_eq!(durable.operate(Method::GET, "/backup").await.status, 200);
    let sent = || durable.relay().log().iter().filter(|line| line["message"] == "a backup was sent").count();
    eventually(async || sent() > 0).await;
    assert_eq!(sent(), 1);
}

#[tokio::test]
async fn there_is_one_backup_at_a_time_and_a_reader_who_leaves_gives_its_space_back() {
    let durable = with_many(&mut Ledger::default()).await;
    let request = || durable.relay().request(Method::GET, "/backup").bearer_auth(TOKEN);
    let mut unread = request().send().await.unwrap();
    assert_eq!(unread.status(), 200);
    let header = |name: &str| unread.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/vnd.sqlite3");
    assert_eq!(header("content-disposition"), "attachment; filename=\"outbox.db\"");
    let bytes = unread.content_length().unwrap();
    assert!(unread.chunk().await.unwrap().unwrap().starts_with(b"SQLite format 3\0"));
    let copies = || {
        let files = fs::read_dir(format!("/proc/{}/fd", durable.relay().process().id())).unwrap();
        let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("backup-in-progress")).count()
    };
    assert_eq!(copies(), 1);
    let second = Answer::of(request().send().await.unwrap()).await.unwrap();
    second.assert_failed(503, "overloaded");
    assert!(second.message().contains("another backup") && second.retry_after().is_some(), "{second:?}");
    // Nobody else waits for the reader.
    assert!(durable.post(&body("c-1", 0)).await.is_stored());
    drop(unread);
    eventually(async || copies() == 0).await;
    // The next backup may begin a moment after the file of this one was closed.
    eventually(async || {
        let answer = request().send().await.unwrap();
        answer.status() == 200 && answer.bytes().await.unwrap().len() as u64 >= bytes
    })
    .await;
}

#[tokio::test]
async fn only_operators_of_a_relay_with_an_outbox_get_a_backup() {
    let durable = Durable::start().await;
    durable.get("/backup").await.assert_failed(401, "unauthorized");
    let app = App::with(&[("RELAY_ADMIN_TOKEN", TOKEN)]).await;
    let directory = tempfile::tempdir().unwrap();
    let (code, _, stderr) = back_up(&app.relay().url(""), &directory.path().join("copy.db")).await;
    assert_eq!(code, Some(1));
    assert!(stderr.len() == 1 && stderr[0].contains("no outbox is configured"), "{stderr:?}");
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn a_disk_that_fills_up_fails_the_backup_and_not_the_relay() {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut ledger = Ledger::default();
    fill(&durable, &mut ledger).await;
    shim.fail("room 0");
    let answer = durable.operate(Method::GET, "/backup").await;
    answer.assert_failed(503, "overloaded");
    shim.heal();
    at_last(async || durable.get("/readyz").await.status == 200).await;
    ledger.post(&durable, "c-1", 0).await;
    assert_eq!(durable.operate(Method::GET, "/backup").await.status, 200);
    durable.segment().heal().await;
    ledger.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn the_file_of_a_killed_backup_is_deleted_at_the_next_start_and_no_link_is_followed() {
    let mut durable = Durable::start().await;
    let (leftover, other) =
        (durable.directory().join("outbox.db.backup-in-progress"), durable.directory().join("other"));
    assert!(durable.post(&body("c-1", 0)).await.is_stored());
    fs::write(&other, "somebody's").unwrap();
    symlink(&other, &leftover).unwrap();
    // A backup while the link is there, and a start.
    assert_eq!(durable.operate(Method::GET, "/backup").await.status, 200);
    assert!(leftover.symlink_metadata().is_err());
    durable.kill().await;
    fs::write(&leftover, "half a copy").unwrap();
    durable.start_relay().await;
    assert!(leftover.symlink_metadata().is_err());
    assert_eq!(fs::read_to_string(&other).unwrap(), "somebody's");
}

#[tokio::test]
async fn a_backup_does_not_replace_a_database_in_use() {
    let durable = Durable::start().await;
    let (code, _, stderr) = back_up(&durable.relay().url(""), &durable.file()).await;
    assert_eq!(code, Some(1));
    assert!(stderr.len() == 1 && stderr[0].contains("in use"), "{stderr:?}");
    assert!(durable.post(&body("c-1", 0)).await.is_stored());
}

/// Answers one request with these bytes, and closes the connection.
fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(&answer);
    });
    url
}

#[tokio::test]
async fn a_backup_that_is_not_whole_is_no_backup() {
    let durable = Durable::start().await;
    let request = durable.relay().request(Method::GET, "/backup").bearer_auth(TOKEN);
    let whole = request.send().await.unwrap().bytes().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("copy.db");
    fs::write(&file, "the last backup").unwrap();
    let answer = |length: usize, body: &[u8]| {
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(), body].concat()
    };
    for (why, answer) in [
        ("broken off", answer(whole.len(), &whole[..whole.len() / 2])),
        ("cut by a proxy", answer(4096, &whole[..4096])),
        ("no length", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", &whole[..8192]].concat()),
        ("empty", answer(0, b"")),
        ("a page to sign in", answer(13, b"<html></html>")),
    ] {
        let (code, stdout, stderr) = back_up(&answering(answer), &file).await;
        assert_eq!((code, stdout.len(), stderr.len()), (Some(1), 0, 1), "{why}: {stdout:?} {stderr:?}");
        assert_eq!(names(directory.path()), ["copy.db"], "{why}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "the last backup", "{why}");
    }
    let (code, _, stderr) = back_up(&answering(answer(whole.len(), &whole)), &file).await;
    assert_eq!((code, stderr), (Some(0), vec![]));
    assert_eq!(fs::read(&file).unwrap(), whole);
}

#[tokio::test]
async fn a_backup_replaces_regular_files_alone() {
    let durable = Durable::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let _listener = UnixListener::bind(path("socket")).unwrap();
    fs::write(path("other"), "somebody's").unwrap();
    symlink(path("other"), path("link")).unwrap();
    symlink(path("nothing"), path("dangling")).unwrap();
    symlink(durable.file(), path("link-to-outbox")).unwrap();
    let before = names(directory.path());
    for name in ["pipe", "socket", "link", "dangling", "link-to-outbox"] {
        let (code, stdout, stderr) = back_up(&durable.relay().url(""), &path(name)).await;
        assert_eq!((code, stdout.len(), stderr.len()), (Some(1), 0, 1), "{name}: {stdout:?} {stderr:?}");
        assert!(stderr[0].contains("is no regular file"), "{name}: {stderr:?}");
    }
    assert_eq!(names(directory.path()), before);
    let kind = |name: &str| path(name).symlink_metadata().unwrap().file_type();
    assert!(kind("pipe").is_fifo() && kind("socket").is_socket());
    assert!(["link", "dangling", "link-to-outbox"].iter().all(|name| kind(name).is_symlink()));
    assert_eq!(fs::read_to_string(path("other")).unwrap(), "somebody's");
    // A file of this name that is no backup is replaced as before.
    assert_eq!(back_up(&durable.relay().url(""), &path("other")).await.0, Some(0));
    assert_is_whole(&path("other"));
}
