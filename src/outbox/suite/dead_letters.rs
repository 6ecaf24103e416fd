//! Tests of listing, replaying and discarding dead letters.

use std::sync::Arc;

use super::{Inspect, StoreFactory, append, call, plain, refused, settle, sized, text, texts, waiting};
use crate::outbox::{DeadLetters, Outbox};

/// Makes `count` dead letters, `m0` first.
async fn make_dead_letters(store: &impl Inspect, count: usize, size: usize) {
    for n in 0..count {
        append(store, plain(sized("u", &format!("m{n}"), size))).await.unwrap();
    }
    let all = waiting(store).await;
    settle(store, all.iter().map(|stored| refused(stored.id, "words")).collect()).await;
}

async fn listed(store: &impl DeadLetters, limit: usize, before: Option<i64>) -> Vec<(i64, String)> {
    let letters = store.list(limit, before).await.unwrap();
    letters.into_iter().map(|letter| (letter.id, letter.message_id)).collect()
}

fn names(letters: &[(i64, String)]) -> Vec<&str> {
    letters.iter().map(|(_, name)| &**name).collect()
}

pub(crate) async fn dead_letters_are_listed_newest_first(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 5, 0).await;
    let first = listed(&*store, 2, None).await;
    assert_eq!(names(&first), ["m4", "m3"]);
    let second = listed(&*store, 2, Some(first[1].0)).await;
    assert_eq!(names(&second), ["m2", "m1"]);
    let third = listed(&*store, 2, Some(second[1].0)).await;
    assert_eq!(names(&third), ["m0"]);
    assert!(listed(&*store, 2, Some(third[0].0)).await.is_empty());
    assert!(listed(&*store, 0, None).await.is_empty());
    assert_eq!(listed(&*store, usize::MAX, Some(i64::MAX)).await.len(), 5);
    store.close().await;
}

/// The API asks for one more than it shows.
pub(crate) async fn a_list_has_the_requested_length(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 1_005, 0).await;
    assert_eq!(listed(&*store, 1_001, None).await.len(), 1_001);
    store.close().await;
}

pub(crate) async fn a_replayed_dead_letter_is_stored_behind_the_waiting_calls(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 2, 0).await;
    append(&*store, plain(call("u", "later"))).await.unwrap();
    let letters = listed(&*store, 10, None).await;
    let last_id = store.stats().last_id;
    assert!(store.replay(letters[1].0).await.unwrap());
    assert!(!store.replay(letters[1].0).await.unwrap());
    assert!(!store.replay(12_345).await.unwrap());
    let all = waiting(&*store).await;
    assert_eq!(texts(&all), [text("u", "later"), text("u", "m0")]);
    assert!(all[1].id > last_id && store.stats().last_id == all[1].id);
    assert_eq!((store.stats().dead_letters, listed(&*store, 10, None).await), (1, vec![letters[0].clone()]));

    // A second refusal is a new dead letter: no id is used twice.
    settle(&*store, vec![refused(all[1].id, "words")]).await;
    let again = listed(&*store, 1, None).await;
    assert!(again[0].0 > letters[0].0);
    store.close().await;
}

pub(crate) async fn all_dead_letters_are_replayed_in_order(stores: impl StoreFactory) {
    let store = stores.open().await;
    // More than one transaction replays, in number and in bytes.
    make_dead_letters(&*store, 300, 5_000).await;
    let other = store.clone();
    #[expect(clippy::disallowed_methods, reason = "a concurrent caller")]
    let concurrent = tokio::spawn(async move { append(&*other, plain(call("v", "concurrent"))).await });
    assert_eq!(store.replay_all().await.unwrap(), 300);
    concurrent.await.unwrap().unwrap();
    assert_eq!(store.stats().dead_letters, 0);
    let all = waiting(&*store).await;
    let own: Vec<_> = all.into_iter().filter(|stored| **stored.call.user_id() == *"u").collect();
    let wanted: Vec<String> =
        (0..300).map(|n| String::from_utf8(sized("u", &format!("m{n}"), 5_000).json().to_vec()).unwrap()).collect();
    assert!(texts(&own) == wanted, "the calls are not in order");
    assert_eq!(store.replay_all().await.unwrap(), 0);
    store.close().await;
}

pub(crate) async fn a_discarded_dead_letter_is_deleted(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 2, 0).await;
    let letters = listed(&*store, 10, None).await;
    assert!(store.discard(letters[0].0).await.unwrap());
    assert!(!store.discard(letters[0].0).await.unwrap());
    assert!(!store.replay(letters[0].0).await.unwrap());
    assert_eq!(names(&listed(&*store, 10, None).await), ["m0"]);
    assert_eq!(store.stats().dead_letters, 1);
    store.close().await;
}

pub(crate) async fn dead_letters_survive_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 3, 40_000).await;
    let before = listed(&*store, 10, None).await;
    store.close().await;
    let store: Arc<_> = stores.open().await;
    assert_eq!(store.stats().dead_letters, 3);
    assert_eq!(listed(&*store, 10, None).await, before);
    store.close().await;
}
