//! Tests of the share of one source, and of events that find no room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{SqliteOutbox, open, settings};
use crate::config::OutboxSettings;
use crate::outbox::suite::{
    accepted, append, call, group, in_a_minute, keyed, letters, parked, plain, settle, sized, take,
};
use crate::outbox::{Append, DeadLetters, Events, KeptEvent, Outbox, OutboxError, Store};

const MAX_BYTES: u64 = 4 * 1024 * 1024;

fn small(directory: &tempfile::TempDir) -> Arc<SqliteOutbox> {
    open(&OutboxSettings { max_bytes: MAX_BYTES, ..settings(&directory.path().join("outbox.db")) }).unwrap()
}

/// A call of a user of its own.
fn of(source: Option<&str>, n: usize) -> Append {
    let call = sized(&format!("u{n}"), "m", 20_000).of_source(source.map(Arc::from));
    plain(call)
}

/// Stores calls of this source until one is refused.
async fn flood(store: &SqliteOutbox, source: Option<&str>) -> (usize, OutboxError) {
    for n in 0.. {
        if let Err(error) = append(store, of(source, n)).await {
            return (n, error);
        }
    }
    unreachable!()
}

#[tokio::test]
async fn once_the_outbox_is_half_full_a_source_takes_a_quarter_and_others_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(&directory);
    let (stored, error) = flood(&store, Some("shop")).await;
    assert_eq!(error, OutboxError::SourceShare);
    let stats = store.stats();
    assert!(stats.bytes > MAX_BYTES / 2 && stats.bytes < MAX_BYTES / 2 + 200_000, "{stats:?}");
    assert_eq!(store.source_stats()[1].calls, stored as u64);
    for other in [None, Some("pay")] {
        append(&*store, of(other, 0)).await.unwrap();
        group(&*store, vec![of(other, 1), of(other, 2)], true).await.unwrap();
    }
    // A group that has no room is refused as a whole, and a call of its own in another one.
    let calls = vec![of(None, 3), of(Some("shop"), 4)];
    assert_eq!(group(&*store, calls.clone(), true).await.unwrap_err(), OutboxError::SourceShare);
    let each = group(&*store, calls, false).await.unwrap();
    assert_eq!((each[0].is_ok(), each[1].as_ref().err()), (true, Some(&OutboxError::SourceShare)));
    // A reused key is said before.
    append(&*store, keyed(call("k", "m"), 1, 1)).await.unwrap();
    let reused = vec![of(Some("shop"), 4), keyed(call("k", "m"), 1, 2)];
    assert_eq!(group(&*store, reused, true).await.unwrap_err(), OutboxError::KeyReused);
    // `POST /customers` is a source.
    assert_eq!(flood(&store, None).await.1, OutboxError::SourceShare);
    // There is room again.
    let taken = take(&*store, usize::try_from(store.stats().waiting).unwrap()).await;
    settle(&*store, taken.iter().take(stored).map(|stored| accepted(stored.id)).collect()).await;
    append(&*store, of(Some("shop"), 9)).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_configured_source_keeps_customers_to_their_quarter_before_its_first_call() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(&directory);
    assert_eq!(flood(&store, None).await.1, OutboxError::Full);
    let taken = take(&*store, usize::try_from(store.stats().waiting).unwrap()).await;
    settle(&*store, taken.iter().take(20).map(|stored| accepted(stored.id)).collect()).await;
    store.set_key_windows(BTreeMap::from([("shop".into(), Duration::from_secs(60))]));
    while append(&*store, of(None, 0)).await.is_ok() {
        let taken = take(&*store, 1).await;
        settle(&*store, vec![accepted(taken[0].id)]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(append(&*store, of(None, 0)).await.unwrap_err(), OutboxError::SourceShare);
    append(&*store, of(Some("shop"), 0)).await.unwrap();
    store.close().await;
}

fn event(size: usize) -> KeptEvent {
    let (source, body) = ("shop".into(), "x".repeat(size).into());
    KeptEvent { source, headers: Vec::new(), body, received_at: 1, reason: String::new(), key: None }
}

#[tokio::test]
async fn events_push_out_older_dead_letters_and_are_refused_where_parked_calls_take_the_share() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(&directory);
    for _ in 0..6 {
        store.keep(event(500_000), in_a_minute()).await.unwrap();
    }
    let stats = store.stats();
    assert!(stats.dead_letter_bytes <= MAX_BYTES / 2 && stats.dead_letters == 4, "{stats:?}");
    assert_eq!(letters(&*store).await.unwrap()[0].id, 6);
    // Calls that fail take nearly the half.
    let ids: Vec<i64> = letters(&*store).await.unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(store.discard(ids[1..].to_vec()).await.unwrap(), 3);
    for n in 0..90 {
        append(&*store, of(None, n)).await.unwrap();
    }
    let taken = take(&*store, 90).await;
    settle(&*store, taken.iter().map(|stored| parked(stored.id)).collect()).await;
    assert_eq!(store.keep(event(500_000), in_a_minute()).await.unwrap_err(), OutboxError::ParkedShare);
    assert_eq!((store.stats().dead_letters, store.stats().dead_letter_bytes), (0, 0));
    store.close().await;
}

#[tokio::test]
async fn events_leave_an_eighth_of_the_outbox_to_the_calls_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(&directory);
    assert_eq!(flood(&store, Some("shop")).await.1, OutboxError::SourceShare);
    for size in [100_000, 10_000, 100] {
        while store.keep(event(size), in_a_minute()).await.is_ok() {}
        assert_eq!(store.keep(event(size), in_a_minute()).await.unwrap_err(), OutboxError::Full);
    }
    for n in 0..20 {
        append(&*store, of(None, n)).await.unwrap();
    }
    store.close().await;
}
