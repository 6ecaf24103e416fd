//! Tests of what is kept apart: giving up, the shares, and that nothing of it grows in memory or is searched.

use std::time::Duration;

use rusqlite::Connection;

use super::{open, settings};
use crate::config::OutboxSettings;
use crate::outbox::suite::{
    accepted, append, call, has_nothing, keyed, parked, plain, refused, settle, sized, take, text, texts,
};
use crate::outbox::{DeadLetters, LetterFilter, Outbox, OutboxError, ParkedUsers};

#[tokio::test]
async fn a_call_that_failed_often_and_for_long_enough_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    for (give_up_after, is_given_up) in
        [(Some(Duration::ZERO), true), (Some(Duration::from_secs(3600)), false), (None, false)]
    {
        let _ = std::fs::remove_file(&path);
        let store = open(&OutboxSettings { give_up_after, ..settings(&path) }).unwrap();
        append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
        append(&*store, plain(call("u", "m1"))).await.unwrap();
        let first = store.next(0).await.unwrap()[0].id;
        settle(&*store, vec![parked(first)]).await;
        for _ in 0..4 {
            assert_eq!(store.stats().dead_letters, 0);
            assert_eq!(store.next_parked(1, true).await.unwrap()[0].id, first);
            settle(&*store, vec![parked(first)]).await;
        }
        if is_given_up {
            assert_eq!(texts(&take(&*store, 1).await), [text("u", "m1")]);
            let letters = DeadLetters::list(&*store, 10, LetterFilter::default()).await.unwrap().letters;
            assert_eq!((letters.len(), letters[0].attempts, letters[0].status), (1, 10, Some(503)));
            let conn = Connection::open(&path).unwrap();
            let why: String = conn.query_row("SELECT why FROM dead_letters", [], |row| row.get(0)).unwrap();
            assert_eq!(why, "gave_up");
            assert!(append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap().outcome.is_some());
        } else {
            assert_eq!((store.stats().dead_letters, store.stats().parked_users), (0, 1));
        }
        store.close().await;
        std::fs::remove_file(directory.path().join("outbox.db-wal")).ok();
    }
}

#[tokio::test]
async fn refused_calls_never_keep_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let limit = OutboxSettings { max_bytes: 4 * 1024 * 1024, ..settings(&directory.path().join("outbox.db")) };
    let store = open(&limit).unwrap();
    for n in 0..400_u32 {
        let stored = keyed(sized(&format!("u{n}"), &format!("m{n}"), 20_000), u8::try_from(n % 200).unwrap(), 1);
        let stored = if n < 200 { stored } else { plain(stored.call) };
        append(&*store, stored).await.unwrap();
        let id = take(&*store, 1).await[0].id;
        settle(&*store, vec![refused(id, "words")]).await;
    }
    let stats = store.stats();
    assert!(stats.dead_letter_bytes <= stats.max_bytes / 2 && stats.dead_letter_bytes > stats.max_bytes / 3);
    let letters = DeadLetters::list(&*store, 1_000, LetterFilter::default()).await.unwrap().letters;
    assert_eq!(letters[0].user_id.as_deref(), Some("u399"));
    assert_eq!(letters.len() as u64, stats.dead_letters);
    // The key of a dead letter that was pushed out is forgotten.
    assert_eq!(stats.keys, 0);
    assert!(!append(&*store, keyed(call("u0", "m0"), 0, 9)).await.unwrap().replayed);
    store.close().await;
}

#[tokio::test]
async fn an_outbox_with_more_dead_letters_than_their_share_is_brought_down() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox.db");
    let store = open(&settings(&path)).unwrap();
    for n in 0..300 {
        append(&*store, plain(sized(&format!("u{n}"), "m", 20_000))).await.unwrap();
    }
    let taken = take(&*store, 300).await;
    settle(&*store, taken.iter().map(|stored| refused(stored.id, "words")).collect()).await;
    assert_eq!(store.stats().dead_letters, 300);
    store.close().await;
    let store = open(&OutboxSettings { max_bytes: 4 * 1024 * 1024, ..settings(&path) }).unwrap();
    // Without traffic.
    while store.stats().dead_letter_bytes > 2 * 1024 * 1024 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.stats().dead_letters > 90);
    store.close().await;
}

#[tokio::test]
async fn one_user_takes_an_eighth_and_others_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let limit = OutboxSettings { max_bytes: 4 * 1024 * 1024, ..settings(&directory.path().join("outbox.db")) };
    let store = open(&limit).unwrap();
    let mut bytes = 0;
    let error = loop {
        match append(&*store, plain(sized("hot", "m", 5_000))).await {
            Ok(_) => bytes += 5_000,
            Err(error) => break error,
        }
    };
    assert_eq!(error, OutboxError::UserShare);
    assert!((450_000..=524_288).contains(&bytes), "{bytes}");
    append(&*store, plain(sized("other", "m", 5_000))).await.unwrap();
    // Its calls are delivered: there is room again.
    while store.stats().waiting > 20 {
        let calls = store.next(usize::MAX).await.unwrap();
        settle(&*store, calls.iter().map(|stored| accepted(stored.id)).collect()).await;
    }
    append(&*store, plain(sized("hot", "m", 5_000))).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_parked_user_is_refused_when_parked_calls_take_half_and_dead_letters_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let limit = OutboxSettings { max_bytes: 4 * 1024 * 1024, ..settings(&directory.path().join("outbox.db")) };
    let store = open(&limit).unwrap();
    let user = |n: usize| format!("u{n}");
    append(&*store, plain(sized("refused", "m", 20_000))).await.unwrap();
    let id = take(&*store, 1).await[0].id;
    settle(&*store, vec![refused(id, "words")]).await;
    for n in 0..10 {
        append(&*store, plain(call(&user(n), "m"))).await.unwrap();
    }
    let taken = take(&*store, 10).await;
    settle(&*store, taken.iter().map(|stored| parked(stored.id)).collect()).await;
    let mut stored = 0;
    let error = loop {
        match append(&*store, plain(sized(&user(stored % 10), "m", 5_000))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, OutboxError::ParkedShare);
    let stats = store.stats();
    assert!(stats.parked_bytes <= 2 * 1024 * 1024 && stats.parked_bytes > 2_000_000, "{}", stats.parked_bytes);
    assert_eq!((stats.dead_letters, stats.dead_letter_bytes), (0, 0));
    append(&*store, plain(sized("sound", "m", 5_000))).await.unwrap();
    assert_eq!(take(&*store, 1).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn parked_users_take_no_memory_and_are_found_by_indexes() {
    let directory = super::in_memory();
    let path = directory.path().join("outbox.db");
    let store = open(&settings(&path)).unwrap();
    const USERS: usize = 20_000;
    for part in 0..USERS / 1_000 {
        let appends = (0..1_000).map(|n| append(&*store, plain(call(&format!("u{part}-{n}"), "m"))));
        futures_util::future::join_all(appends).await.into_iter().for_each(|appended| drop(appended.unwrap()));
        let taken = take(&*store, 1_000).await;
        settle(&*store, taken.iter().map(|stored| parked(stored.id)).collect()).await;
    }
    assert_eq!(store.stats().parked_users, USERS as u64);
    assert!(has_nothing(&*store).await);
    append(&*store, plain(call("stranger", "m"))).await.unwrap();
    assert_eq!(texts(&take(&*store, 1).await), [text("stranger", "m")]);
    assert_eq!(store.next_parked(32, true).await.unwrap().len(), 32);
    assert_eq!(ParkedUsers::list(&*store, 10, Some(15_000), None).await.unwrap().len(), 10);
    store.close().await;
    assert_plans(&path);
}

/// Every statement that runs for each call or answer finds its rows by a key or an index.
fn assert_plans(path: &std::path::Path) {
    let conn = Connection::open(path).unwrap();
    let files = [
        include_str!("../calls.rs"),
        include_str!("../next.rs"),
        include_str!("../parked.rs"),
        include_str!("../parked_verbs.rs"),
        include_str!("../shares.rs"),
        include_str!("../turns.rs"),
    ];
    let mut statements = 0;
    for text in files.iter().flat_map(|file| file.split('"')) {
        let is_statement =
            ["SELECT", "UPDATE", "DELETE", "INSERT"].iter().any(|verb| text.starts_with(&format!("{verb} ")));
        if !is_statement {
            continue;
        }
        statements += 1;
        let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let values = vec![rusqlite::types::Value::Null; plan.parameter_count()];
        let steps = plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        for step in steps {
            let step = step.unwrap();
            // The first or the last row of a table or an index is read in order, and no further.
            let is_end = step.starts_with("SCAN") && (text.contains("max(id)") || text.contains("LIMIT 1"));
            let is_found = !step.starts_with("SCAN") || step.starts_with("SCAN CONSTANT") || is_end;
            let is_ordered =
                step.contains("USING INDEX parked_in_turn") || step.contains("USING COVERING INDEX parked_in_turn");
            assert!((is_found || is_ordered) && !step.contains("TEMP B-TREE"), "{text}: {step}");
        }
    }
    assert!(statements > 20, "{statements}");
}
