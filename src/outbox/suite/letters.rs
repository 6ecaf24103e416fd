//! Dead letters: listed, put back, deleted.

use std::sync::Arc;

use super::{Home, append, call, plain, refused, settle, sized, text, texts, waiting};
use crate::outbox::{DeadLetters, Outbox};

/// So many dead letters, `m0` first.
async fn dead(store: &impl Outbox, count: usize, size: usize) {
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

pub(crate) async fn letters_are_listed_newest_first(home: impl Home) {
    let store = home.open().await;
    dead(&*store, 5, 0).await;
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

/// The edge asks for one more than it shows.
pub(crate) async fn a_list_is_as_long_as_was_asked_for(home: impl Home) {
    let store = home.open().await;
    dead(&*store, 1_005, 0).await;
    assert_eq!(listed(&*store, 1_001, None).await.len(), 1_001);
    store.close().await;
}

pub(crate) async fn a_replayed_letter_goes_behind_the_others(home: impl Home) {
    let store = home.open().await;
    dead(&*store, 2, 0).await;
    append(&*store, plain(call("u", "later"))).await.unwrap();
    let letters = listed(&*store, 10, None).await;
    let last_id = store.contents().last_id;
    assert!(store.replay(letters[1].0).await.unwrap());
    assert!(!store.replay(letters[1].0).await.unwrap());
    assert!(!store.replay(12_345).await.unwrap());
    let all = waiting(&*store).await;
    assert_eq!(texts(&all), [text("u", "later"), text("u", "m0")]);
    assert!(all[1].id > last_id && store.contents().last_id == all[1].id);
    assert_eq!((store.contents().dead_letters, listed(&*store, 10, None).await), (1, vec![letters[0].clone()]));

    // Refused again, it is a new letter: no id is used twice.
    settle(&*store, vec![refused(all[1].id, "words")]).await;
    let again = listed(&*store, 1, None).await;
    assert!(again[0].0 > letters[0].0);
    store.close().await;
}

pub(crate) async fn all_letters_are_replayed_in_order(home: impl Home) {
    let store = home.open().await;
    // More than a store would do in one transaction, in number or in bytes.
    dead(&*store, 300, 5_000).await;
    let other = store.clone();
    #[expect(clippy::disallowed_methods, reason = "a caller beside it")]
    let beside = tokio::spawn(async move { append(&*other, plain(call("v", "beside"))).await });
    assert_eq!(store.replay_all().await.unwrap(), 300);
    beside.await.unwrap().unwrap();
    assert_eq!(store.contents().dead_letters, 0);
    let all = waiting(&*store).await;
    let own: Vec<_> = all.into_iter().filter(|stored| **stored.call.user_id() == *"u").collect();
    let wanted: Vec<String> =
        (0..300).map(|n| String::from_utf8(sized("u", &format!("m{n}"), 5_000).json().to_vec()).unwrap()).collect();
    assert!(texts(&own) == wanted, "not in order");
    assert_eq!(store.replay_all().await.unwrap(), 0);
    store.close().await;
}

pub(crate) async fn a_discarded_letter_is_gone(home: impl Home) {
    let store = home.open().await;
    dead(&*store, 2, 0).await;
    let letters = listed(&*store, 10, None).await;
    assert!(store.discard(letters[0].0).await.unwrap());
    assert!(!store.discard(letters[0].0).await.unwrap());
    assert!(!store.replay(letters[0].0).await.unwrap());
    assert_eq!(names(&listed(&*store, 10, None).await), ["m0"]);
    assert_eq!(store.contents().dead_letters, 1);
    store.close().await;
}

pub(crate) async fn letters_outlive_the_store(home: impl Home) {
    let store = home.open().await;
    dead(&*store, 3, 40_000).await;
    let before = listed(&*store, 10, None).await;
    store.close().await;
    let store: Arc<_> = home.open().await;
    assert_eq!(store.contents().dead_letters, 3);
    assert_eq!(listed(&*store, 10, None).await, before);
    store.close().await;
}
