//! Tests of opening files of earlier versions: their truths are kept.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::timeout;

use super::{open, settings};
use crate::outbox::suite::{append, call, keyed, outcome, text, texts, waiting};
use crate::outbox::{DeadLetters, DeliveryOutcome, Outbox, OutboxError, OutboxStats};

/// A file of version 1, with a row for each thing that it could hold of a key. Its keys and bodies have 16 bytes.
fn version_1(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(include_str!("../schema.sql")).unwrap();
    conn.execute_batch("PRAGMA application_id = 0x5367526c; PRAGMA user_version = 1").unwrap();
    let blob = |n: u8| [n; 16];
    let json = |n: u8| call("u", &format!("m{n}")).json().to_vec();
    let key = |n: u8, call_id: i64, letter: Option<i64>| {
        conn.execute("INSERT INTO keys VALUES (?1, ?2, ?3, ?4)", (blob(n), blob(n), call_id, letter)).unwrap();
    };
    let letter = |id: i64, n: u8| {
        let sql = "INSERT INTO dead_letters VALUES (?1, 'u', 1, 2, 400, 3, ?2, ?2, ?3, ?4)";
        conn.execute(sql, (id, blob(n), format!("words {id}"), json(n))).unwrap();
    };
    let settled = |call_id: i64, n: u8| {
        let sql = "INSERT INTO settled_keys (settled_at, key, call_id) VALUES (1, ?1, ?2)";
        conn.execute(sql, (blob(n), call_id)).unwrap();
    };
    // 1 waits, 2 was accepted, 3 was refused, 4 was refused and discarded.
    conn.execute("INSERT INTO calls VALUES (1, 'u', 1, ?1, ?2)", (blob(1), json(1))).unwrap();
    key(1, 1, None);
    key(2, 2, None);
    key(3, 3, Some(3));
    letter(3, 3);
    key(4, 4, Some(4));
    // 5 was refused, and its key was forgotten. So was 6, twice. The key of 7 belongs to a waiting call by now.
    letter(5, 5);
    letter(6, 6);
    letter(7, 6);
    letter(8, 7);
    conn.execute("INSERT INTO calls VALUES (9, 'u', 1, ?1, ?2)", (blob(7), json(7))).unwrap();
    key(7, 9, None);
    // What was settled long ago is forgotten at the next start.
    settled(3, 3);
    settled(4, 4);
    conn.execute("UPDATE counters SET last_id = 9, waiting = 2, dead_letters = 5, keys = 5", []).unwrap();
}

#[tokio::test]
async fn a_file_of_version_1_keeps_its_calls_and_remembers_the_keys_of_its_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    version_1(&path);
    let store = open(&settings(&path)).unwrap();
    // Until what was due is forgotten.
    let queued = || -> i64 {
        let conn = Connection::open(&path).unwrap();
        conn.query_row("SELECT count(*) FROM settled_keys", [], |row| row.get(0)).unwrap()
    };
    let forgotten = async {
        while queued() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), forgotten).await.expect("no key is due any more");
    let OutboxStats { waiting: calls, dead_letters, keys, .. } = store.stats();
    // All but the fourth.
    assert_eq!((calls, dead_letters, keys), (2, 5, 6));
    assert_eq!(texts(&waiting(&*store).await), [text("u", "m1"), text("u", "m7")]);
    for (key, words) in [(3, "words 3"), (5, "words 5"), (6, "words 7")] {
        let again = append(&*store, keyed(call("u", "m"), key, key)).await.unwrap();
        assert_eq!(outcome(again).await, DeliveryOutcome::Refused(words.to_owned()));
        assert_eq!(append(&*store, keyed(call("u", "m"), key, 99)).await.unwrap_err(), OutboxError::KeyReused);
    }
    for key in [1, 2, 7] {
        let again = append(&*store, keyed(call("u", "m"), key, key)).await.unwrap();
        assert!(again.replayed && again.outcome.is_none(), "{key}");
    }
    assert!(!append(&*store, keyed(call("u", "m4"), 4, 99)).await.unwrap().replayed);
    // A discarded dead letter takes along only a key of its own.
    for (letter, keys) in [(8, 7), (6, 7), (7, 6), (5, 5)] {
        assert!(store.discard(letter).await.unwrap());
        assert_eq!(store.stats().keys, keys, "{letter}");
    }
    assert_eq!(store.replay_all().await.unwrap(), 1);
    let again = append(&*store, keyed(call("u", "m"), 3, 3)).await.unwrap();
    assert!(again.replayed && again.outcome.is_none());
    store.close().await;
}

#[tokio::test]
async fn a_file_of_version_1_without_dead_letters_keeps_its_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    version_1(&path);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("DELETE FROM dead_letters; UPDATE counters SET dead_letters = 0").unwrap();
    drop(conn);
    let store = open(&settings(&path)).unwrap();
    // 1 and 7 wait, 2 was accepted; 3 and 4 were discarded.
    assert_eq!(store.stats().keys, 3);
    for key in [1, 2, 7] {
        let again = append(&*store, keyed(call("u", "m"), key, key)).await.unwrap();
        assert!(again.replayed && again.outcome.is_none(), "{key}");
        assert_eq!(append(&*store, keyed(call("u", "m"), key, 99)).await.unwrap_err(), OutboxError::KeyReused);
    }
    for key in [3, 4] {
        assert!(!append(&*store, keyed(call("u", "m"), key, 99)).await.unwrap().replayed, "{key}");
    }
    store.close().await;
}
