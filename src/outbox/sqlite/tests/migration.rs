//! Tests of opening files of earlier versions: their truths are kept.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::timeout;

use super::{open, settings};
use crate::outbox::suite::{
    accepted, append, behind, call, keyed, letters, outcome, parked, settle, sized, take, text, texts, waiting,
};
use crate::outbox::{DeadLetters, DeliveryOutcome, Outbox, OutboxError, OutboxStats, SourceStats, Store};

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
        assert_eq!(store.discard(vec![letter]).await.unwrap(), 1);
        assert_eq!(store.stats().keys, keys, "{letter}");
    }
    let left = letters(&*store).await.unwrap().into_iter().map(|letter| letter.id).collect();
    assert_eq!(store.replay(left).await.unwrap(), 1);
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

/// A file of version 2: a user with many calls, then others, a call with a key, and a dead letter.
pub(super) fn version_2(path: &Path, many: i64, others: i64) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA journal_mode = OFF; BEGIN").unwrap();
    conn.execute_batch(include_str!("../schema.sql")).unwrap();
    conn.execute_batch(include_str!("../schema_2.sql")).unwrap();
    conn.execute_batch("PRAGMA application_id = 0x5367526c; PRAGMA user_version = 2").unwrap();
    let mut insert = conn.prepare("INSERT INTO calls VALUES (?1, ?2, 1, ?3, ?4)").unwrap();
    for id in 1..=many {
        let json = sized("many", &format!("m{id}"), 400).json().to_vec();
        insert.execute((id, "many", None::<Vec<u8>>, json)).unwrap();
    }
    for n in 0..others {
        let user = format!("other{n}");
        let key = (n == 0).then_some([7_u8; 16]);
        insert.execute((many + n + 1, &user, key, call(&user, "m").json().to_vec())).unwrap();
    }
    conn.execute("INSERT INTO keys VALUES (?1, ?1, ?2, NULL)", ([7_u8; 16], many + 1)).unwrap();
    conn.execute("INSERT INTO keys VALUES (?1, ?1, 0, 1)", [[8_u8; 16]]).unwrap();
    let letter = "INSERT INTO dead_letters VALUES (1, 'u', 1, 2, 400, 3, ?1, ?1, 'words', ?2)";
    conn.execute(letter, ([8_u8; 16], call("u", "m8").json().to_vec())).unwrap();
    let counters = "UPDATE counters SET last_id = ?1, waiting = ?1, dead_letters = 1, keys = 2";
    conn.execute(counters, [many + others]).unwrap();
    conn.execute_batch("COMMIT").unwrap();
}

#[tokio::test]
async fn a_file_of_version_2_is_served_in_full_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    version_2(&path, 3_000, 10);
    let store = open(&settings(&path)).unwrap();
    let stats = store.stats();
    assert_eq!((stats.waiting, stats.dead_letters, stats.keys, stats.parked_calls), (3_010, 1, 2, 0));
    let json = call("u", "m8").json().len();
    assert_eq!(stats.dead_letter_bytes, (json + "words".len() + 128) as u64);
    let mut ids: std::collections::BTreeMap<String, Vec<i64>> = Default::default();
    while store.stats().waiting > 0 {
        let calls = store.next(usize::MAX).await.unwrap();
        for stored in &calls {
            ids.entry(stored.call.user_id().to_string()).or_default().push(stored.id);
        }
        settle(&*store, calls.iter().map(|stored| accepted(stored.id)).collect()).await;
    }
    assert_eq!((ids["many"].len(), ids.len()), (3_000, 11));
    assert!(ids["many"].is_sorted_by(|one, other| one < other));
    let again = append(&*store, keyed(call("u", "m"), 7, 7)).await.unwrap();
    assert!(again.replayed);
    let again = append(&*store, keyed(call("u", "m"), 8, 8)).await.unwrap();
    assert_eq!(outcome(again).await, DeliveryOutcome::Refused("words".to_owned()));
    let all = letters(&*store).await.unwrap();
    assert_eq!(store.replay(all.iter().map(|letter| letter.id).collect()).await.unwrap(), 1);
    assert_eq!(texts(&take(&*store, 1).await), [text("u", "m8")]);
    assert_eq!(store.stats().dead_letter_bytes, 0);
    store.close().await;
}

#[tokio::test]
async fn a_file_of_version_1_is_served_in_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    version_1(&path);
    let store = open(&settings(&path)).unwrap();
    let taken = take(&*store, 2).await;
    assert_eq!(texts(&taken), [text("u", "m1"), text("u", "m7")]);
    settle(&*store, vec![parked(taken[0].id), behind(taken[1].id)]).await;
    let retried = store.next_parked(1, true).await.unwrap();
    settle(&*store, vec![accepted(retried[0].id)]).await;
    assert_eq!(texts(&take(&*store, 1).await), [text("u", "m7")]);
    let stats = store.stats();
    assert_eq!((stats.waiting, stats.dead_letters), (1, 5));
    assert!(stats.dead_letter_bytes > 5 * 128);
    store.close().await;
}

/// A file of version 3: two calls that wait, one of which is parked, a dead letter, and a key that was settled long ago.
fn version_3(path: &Path) {
    let conn = Connection::open(path).unwrap();
    for migration in [include_str!("../schema.sql"), include_str!("../schema_2.sql"), include_str!("../schema_3.sql")] {
        conn.execute_batch(migration).unwrap();
    }
    conn.execute_batch("PRAGMA application_id = 0x5367526c; PRAGMA user_version = 3").unwrap();
    let json = |user: &str| call(user, "m").json().to_vec();
    conn.execute("INSERT INTO calls VALUES (1, 'u', 1, NULL, ?1)", [json("u")]).unwrap();
    let parked = "INSERT INTO parked VALUES (1, 'v', 2, 1, ?1, 5, 2, 1, 503, 'the answer was 503', 5)";
    conn.execute(parked, [(json("v").len() + 128) as i64]).unwrap();
    conn.execute("INSERT INTO parked_calls VALUES (2, 'v', 1, NULL, ?1)", [json("v")]).unwrap();
    let letter = "INSERT INTO dead_letters VALUES (1, 'w', 1, 2, 400, 3, ?1, ?1, 'words', ?2, 'operator')";
    conn.execute(letter, ([8_u8; 16], json("w"))).unwrap();
    conn.execute("INSERT INTO keys VALUES (?1, ?1, 0, 1)", [[8_u8; 16]]).unwrap();
    conn.execute("INSERT INTO keys VALUES (?1, ?1, 9, NULL)", [[9_u8; 16]]).unwrap();
    conn.execute("INSERT INTO settled_keys VALUES (1, 1, ?1, 9)", [[9_u8; 16]]).unwrap();
    let counters =
        "UPDATE counters SET last_id = 9, waiting = 2, dead_letters = 1, keys = 2, parked_users = 1, parked_calls = 1,
                    parked_bytes = ?1, dead_letter_bytes = ?2";
    conn.execute(counters, [json("v").len() + 128, json("w").len() + 5 + 128].map(|bytes| bytes as i64)).unwrap();
}

#[tokio::test]
async fn a_file_of_version_3_is_served_in_full_and_its_calls_have_no_source() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    version_3(&path);
    let store = open(&settings(&path)).unwrap();
    let all = waiting(&*store).await;
    let bytes: usize = all.iter().map(|stored| stored.call.json().len() + 128).sum();
    assert_eq!(store.source_stats(), [SourceStats { source: None, calls: 2, bytes: bytes as u64 }]);
    assert!(all.iter().all(|stored| stored.call.source().is_none()));
    let letter = &letters(&*store).await.unwrap()[0];
    assert_eq!((&*letter.why, &letter.source, letter.user_id.as_deref()), ("operator", &None, Some("w")));
    assert_eq!(store.replay(vec![letter.id]).await.unwrap(), 1);
    let mut taken = take(&*store, 2).await;
    taken.extend(store.next_parked(1, true).await.unwrap());
    settle(&*store, taken.iter().map(|stored| accepted(stored.id)).collect()).await;
    let OutboxStats { waiting, waiting_bytes, dead_letter_bytes, parked_bytes, .. } = store.stats();
    assert_eq!((taken.len(), waiting, waiting_bytes, dead_letter_bytes, parked_bytes), (3, 0, 0, 0, 0));
    // Its old key is forgotten, and calls of sources are stored.
    while store.stats().keys > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    append(&*store, keyed(call("u", "m").of_source(Some("shop".into())), 9, 1)).await.unwrap();
    assert_eq!(store.source_stats().len(), 2);
    store.close().await;
}
