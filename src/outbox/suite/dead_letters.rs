//! Tests of listing, replaying and discarding dead letters.

use std::sync::Arc;

use super::{Inspect, StoreFactory, append, call, plain, refused, settle, sized, text, texts, waiting};
use crate::outbox::{DeadLetters, LetterFilter, LetterIds, LetterWalk, LetterWhy, Outbox};

/// Makes `count` dead letters, `m0` first.
async fn make_dead_letters(store: &impl Inspect, count: usize, size: usize) {
    for n in 0..count {
        append(store, plain(sized("u", &format!("m{n}"), size))).await.unwrap();
    }
    let all = waiting(store).await;
    settle(store, all.iter().map(|stored| refused(stored.id, "words")).collect()).await;
}

async fn listed(store: &impl DeadLetters, limit: usize, before: Option<i64>) -> Vec<(i64, String)> {
    let page = store.list(limit, LetterFilter { before, ..LetterFilter::default() }).await.unwrap();
    page.letters.into_iter().map(|letter| (letter.id, letter.message_id.unwrap_or_default())).collect()
}

async fn replay_all(store: &Arc<impl DeadLetters + 'static>) -> u64 {
    let mut walk = LetterWalk::start(store.clone(), LetterFilter::default()).await.unwrap();
    let mut replayed = 0;
    while let Some(LetterIds { ids, .. }) = walk.step(usize::MAX).await.unwrap() {
        assert!(!ids.is_empty());
        replayed += store.replay(ids).await.unwrap();
    }
    replayed
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
    let last_id = store.fresh().await.last_id;
    assert!(store.replay(vec![letters[1].0]).await.unwrap() == 1);
    assert_eq!(store.replay(vec![letters[1].0, 12_345]).await.unwrap(), 0);
    let all = waiting(&*store).await;
    assert_eq!(texts(&all), [text("u", "later"), text("u", "m0")]);
    assert!(all[1].id > last_id && store.fresh().await.last_id == all[1].id);
    assert_eq!((store.fresh().await.dead_letters, listed(&*store, 10, None).await), (1, vec![letters[0].clone()]));

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
    assert_eq!(replay_all(&store).await, 300);
    concurrent.await.unwrap().unwrap();
    assert_eq!(store.fresh().await.dead_letters, 0);
    let all = waiting(&*store).await;
    let own: Vec<_> = all.into_iter().filter(|stored| **stored.call.user_id() == *"u").collect();
    let wanted: Vec<String> =
        (0..300).map(|n| String::from_utf8(sized("u", &format!("m{n}"), 5_000).json().to_vec()).unwrap()).collect();
    assert!(texts(&own) == wanted, "the calls are not in order");
    assert_eq!(replay_all(&store).await, 0);
    store.close().await;
}

pub(crate) async fn a_discarded_dead_letter_is_deleted(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 2, 0).await;
    let letters = listed(&*store, 10, None).await;
    assert_eq!(store.discard(vec![letters[0].0, 12_345]).await.unwrap(), 1);
    assert_eq!(store.discard(vec![letters[0].0]).await.unwrap(), 0);
    assert_eq!(store.replay(vec![letters[0].0]).await.unwrap(), 0);
    assert_eq!(names(&listed(&*store, 10, None).await), ["m0"]);
    assert_eq!(store.fresh().await.dead_letters, 1);
    store.close().await;
}

pub(crate) async fn dead_letters_survive_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 3, 40_000).await;
    let before = listed(&*store, 10, None).await;
    store.close().await;
    let store: Arc<_> = stores.open().await;
    assert_eq!(store.fresh().await.dead_letters, 3);
    assert_eq!(listed(&*store, 10, None).await, before);
    store.close().await;
}

/// The messages of the letters that fit, oldest first, by both ways to read them.
async fn fitting(store: &Arc<impl DeadLetters + 'static>, filter: LetterFilter) -> Vec<String> {
    let page = store.list(100, filter.clone()).await.unwrap();
    assert_eq!(page.next, None);
    let (mut ids, mut walk) = (Vec::new(), LetterWalk::start(store.clone(), filter).await.unwrap());
    while let Some(step) = walk.step(2).await.unwrap() {
        assert!((1..=2).contains(&step.ids.len()));
        ids.extend(step.ids);
    }
    let letters: Vec<_> = page.letters.into_iter().rev().collect();
    assert_eq!(ids, letters.iter().map(|letter| letter.id).collect::<Vec<_>>());
    letters.into_iter().map(|letter| letter.message_id.unwrap_or_default()).collect()
}

pub(crate) async fn dead_letters_are_found_by_what_they_are(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 4, 10).await;
    append(&*store, plain(call("é", "other"))).await.unwrap();
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![refused(id, "words")]).await;
    let all = LetterFilter::default();
    let everything = ["m0", "m1", "m2", "m3", "other"];
    let id = listed(&*store, 5, None).await[2].0;
    let long_ago = Some(1_000_000_000_000);
    for (filter, expected) in [
        (all.clone(), &everything[..]),
        (LetterFilter { before: Some(id), ..all.clone() }, &everything[..2]),
        (LetterFilter { user_id: Some("u".to_owned()), ..all.clone() }, &everything[..4]),
        (LetterFilter { user_id: Some("é".to_owned()), ..all.clone() }, &everything[4..]),
        (LetterFilter { user_id: Some("U".to_owned()), ..all.clone() }, &[]),
        (LetterFilter { status: Some(Some(400)), ..all.clone() }, &everything),
        (LetterFilter { status: Some(Some(401)), ..all.clone() }, &[]),
        (LetterFilter { status: Some(None), ..all.clone() }, &[]),
        (LetterFilter { why: Some(LetterWhy::Refused), ..all.clone() }, &everything),
        (LetterFilter { why: Some(LetterWhy::GaveUp), ..all.clone() }, &[]),
        (LetterFilter { since: long_ago, ..all.clone() }, &everything),
        (LetterFilter { until: long_ago, ..all.clone() }, &[]),
        (LetterFilter { user_id: Some("u".to_owned()), before: Some(id), since: long_ago, ..all }, &everything[..2]),
    ] {
        assert_eq!(fitting(&store, filter.clone()).await, expected, "{filter:?}");
    }
    store.close().await;
}

/// A letter that comes while others are replayed, such as one of these that is refused again, is not replayed by the way.
pub(crate) async fn a_walk_ends_at_the_newest_letter_of_its_beginning(stores: impl StoreFactory) {
    let store = stores.open().await;
    make_dead_letters(&*store, 3, 0).await;
    let mut walk = LetterWalk::start(store.clone(), LetterFilter::default()).await.unwrap();
    let first = walk.step(1).await.unwrap().unwrap().ids;
    make_dead_letters(&*store, 3, 0).await;
    let mut rest = Vec::new();
    while let Some(found) = walk.step(1).await.unwrap() {
        rest.extend(found.ids);
    }
    let letters = listed(&*store, 6, None).await;
    assert_eq!([first, rest].concat(), [letters[5].0, letters[4].0, letters[3].0]);
    store.close().await;
}
