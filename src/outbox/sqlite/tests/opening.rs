//! Tests of opening: what is created, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::{open, settings};
use crate::outbox::suite::{append, call, plain, waiting};
use crate::outbox::{Outbox, OutboxStats};

/// The error of opening this path.
fn refusal(path: &Path) -> String {
    format!("{:#}", open(&settings(path)).err().expect("it was opened"))
}

#[track_caller]
fn refuses(path: &Path, why: &str) {
    let refusal = refusal(path);
    assert!(refusal.contains(why) && refusal.contains(&path.display().to_string()), "{refusal}");
    assert!(!refusal.contains('\n'), "{refusal}");
}

#[tokio::test]
async fn only_the_owner_can_read_new_files_and_directories() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/outbox.db");
    let store = open(&settings(&path)).unwrap();
    append(&*store, plain(call("u", "m"))).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in ["outbox.db", "outbox.db-wal", "outbox.db-shm", "outbox.db.reserve"] {
        assert_eq!(mode(&directory.path().join("a/b").join(file)), 0o600, "{file}");
    }
    assert_eq!((mode(&directory.path().join("a")), mode(&directory.path().join("a/b"))), (0o700, 0o700));
    store.close().await;
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let store = open(&settings(&path)).unwrap();
    refuses(&path, "another process uses this outbox");
    // Links to the same file are refused too.
    let (link, hard_link) = (directory.path().join("link.db"), directory.path().join("hard_link.db"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::hard_link(&path, &hard_link).unwrap();
    refuses(&link, "another process uses this outbox");
    refuses(&hard_link, "another process uses this outbox");
    store.close().await;
    fs::remove_file(hard_link).unwrap();
    let store = open(&settings(&link)).unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_file_that_others_can_change_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let store = open(&settings(&path)).unwrap();
    append(&*store, plain(call("u", "m"))).await.unwrap();
    store.close().await;
    let before = fs::read(&path).unwrap();
    let beside = |name: &str| directory.path().join(name);
    let other_name = beside("other");
    for name in ["outbox.db", "outbox.db-wal", "outbox.db-shm", "outbox.db.reserve"] {
        fs::hard_link(beside(name), &other_name).unwrap();
        refuses(&path, "hard link");
        fs::remove_file(&other_name).unwrap();
        fs::set_permissions(beside(name), PermissionsExt::from_mode(0o602)).unwrap();
        refuses(&path, "written by everybody");
        fs::set_permissions(beside(name), PermissionsExt::from_mode(0o660)).unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(beside(name), Some(12_345), None).is_ok() {
            refuses(&path, "another user (12345)");
            std::os::unix::fs::chown(beside(name), Some(rustix::process::geteuid().as_raw()), None).unwrap();
        }
    }
    for name in ["outbox.db-wal", "outbox.db-shm", "outbox.db.reserve"] {
        fs::write(&other_name, "somebody's").unwrap();
        fs::remove_file(beside(name)).unwrap();
        std::os::unix::fs::symlink(&other_name, beside(name)).unwrap();
        refuses(&path, "a link");
        assert_eq!(fs::read(&other_name).unwrap(), b"somebody's");
        fs::remove_file(beside(name)).unwrap();
    }
    assert!(fs::read(&path).unwrap() == before);
    // What the group may do is only warned about.
    let store = open(&settings(&path)).unwrap();
    store.close().await;
}

#[tokio::test]
async fn the_reserve_is_beside_the_file_and_not_beside_a_link_to_it() {
    let (links, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, path) = (links.path().join("outbox.db"), files.path().join("outbox.db"));
    fs::write(&path, "").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let store = open(&settings(&link)).unwrap();
    assert!(files.path().join("outbox.db.reserve").exists());
    assert_eq!(fs::read_dir(links.path()).unwrap().count(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_outbox_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let text = "id,name\n1,Ada\n".repeat(100);
    fs::write(&path, &text).unwrap();
    refuses(&path, "not an SQLite database");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::write(&path, "SQLite").unwrap();
    refuses(&path, "damaged");
    fs::remove_file(&path).unwrap();

    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE songs (name); INSERT INTO songs VALUES ('x')").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    refuses(&path, "another program's database");
    assert!(fs::read(&path).unwrap() == before);
}

/// Creates an outbox and changes it with this SQL.
async fn make_changed_outbox(path: &Path, sql: &str) {
    let store = open(&settings(path)).unwrap();
    append(&*store, plain(call("u", "m"))).await.unwrap();
    store.close().await;
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_newer_or_changed_outbox_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (sql, why) in [
        ("PRAGMA user_version = 99", "newer segment-relay"),
        ("PRAGMA application_id = 7", "another program's database"),
        ("ALTER TABLE calls ADD COLUMN more TEXT", "tables are not this program's"),
        ("DELETE FROM counters", "lost its counters"),
    ] {
        let path = directory.path().join(why).join("outbox.db");
        make_changed_outbox(&path, sql).await;
        refuses(&path, why);
    }
}

#[tokio::test]
async fn damage_found_by_a_read_ends_the_store_and_the_file_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let store = open(&settings(&path)).unwrap();
    for n in 0..100 {
        append(&*store, plain(crate::outbox::suite::sized("u", &format!("m{n}"), 5_000))).await.unwrap();
    }
    store.close().await;
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    // The header, the list of tables and the counters stay intact. The last pages, which hold calls, are damaged.
    bytes[length - 20 * 16_384..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    match open(&settings(&path)) {
        Err(error) => assert!(format!("{error:#}").contains("outbox.db"), "{error:#}"),
        Ok(store) => {
            let (mut taken, mut is_unreadable) = (0, false);
            while !is_unreadable && taken < 100 {
                match store.next(usize::MAX).await {
                    Ok(calls) => taken += calls.len(),
                    Err(_) => is_unreadable = true,
                }
            }
            assert!(is_unreadable);
            assert_eq!(store.stats().trouble, Some("the outbox failed"));
            assert!(append(&*store, plain(call("u", "m"))).await.is_err());
            store.close().await;
        }
    }
    assert!(fs::read(&path).unwrap() == bytes, "the file was changed");
}

#[test]
fn an_unusable_path_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    refuses(directory.path(), "not a file");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    refuses(&file.join("outbox.db"), "cannot create the directory");
    // A directory in which not even root may write.
    refuses(Path::new("/proc/outbox.db"), "cannot create the file");
}

#[tokio::test]
async fn an_empty_file_becomes_an_outbox() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    fs::write(&path, "").unwrap();
    let store = open(&settings(&path)).unwrap();
    let OutboxStats { waiting: none, last_id, trouble, .. } = store.stats();
    assert_eq!((none, last_id, trouble), (0, 0, None));
    append(&*store, plain(call("u", "m"))).await.unwrap();
    assert_eq!(store.next(1).await.unwrap()[0].id, waiting(&*store).await[0].id);
    store.close().await;
}
