//! Tests of keys: a key's call is stored once, from its first request until the window after its settlement ends.

use std::time::Duration;

use super::{
    Inspect, StoreFactory, accepted, append, call, keyed, letters, outcome, plain, refused, settle, text, texts,
    waiting, watched,
};
use crate::outbox::{DeadLetters, DeliveryOutcome, Outbox, OutboxError};

pub(crate) async fn a_repeated_key_stores_no_second_call(stores: impl StoreFactory) {
    let store = stores.open().await;
    assert!(!append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap().replayed);
    let again = append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    assert!(again.replayed && again.outcome.is_none());
    assert!(!append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap().replayed);
    assert_eq!(texts(&waiting(&*store).await), [text("u", "m0"), text("u", "m1")]);
    assert_eq!(store.fresh().await.keys, 2);
    store.close().await;
}

pub(crate) async fn a_key_with_another_body_is_refused(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    for other in [keyed(call("u", "m0"), 1, 2), watched(keyed(call("u", "m0"), 1, 2))] {
        assert_eq!(append(&*store, other.clone()).await.unwrap_err(), OutboxError::KeyReused);
    }
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![accepted(id)]).await;
    assert_eq!(append(&*store, keyed(call("u", "m0"), 1, 2)).await.unwrap_err(), OutboxError::KeyReused);
    assert!(waiting(&*store).await.is_empty());
    store.close().await;
}

pub(crate) async fn concurrent_calls_with_one_key_are_stored_once(stores: impl StoreFactory) {
    let store = stores.open().await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..200 {
        let store = store.clone();
        callers.spawn(async move { append(&*store, keyed(call("u", "m"), n % 4, 1)).await.unwrap().replayed });
    }
    let first = callers.join_all().await.into_iter().filter(|replayed| !replayed).count();
    assert_eq!(first, 4);
    assert_eq!(waiting(&*store).await.len(), 4);
    store.close().await;
}

pub(crate) async fn the_key_of_an_accepted_call_returns_accepted(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![accepted(id)]).await;
    let again = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    assert!(again.replayed);
    assert_eq!(outcome(again).await, DeliveryOutcome::Accepted);
    assert!(waiting(&*store).await.is_empty());
    store.close().await;
}

pub(crate) async fn the_key_of_a_refused_call_returns_the_reason(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![refused(id, "words")]).await;
    // Whether the caller waits or not.
    for repeat in [watched(keyed(call("u", "m0"), 1, 1)), keyed(call("u", "m0"), 1, 1)] {
        let again = append(&*store, repeat).await.unwrap();
        assert!(again.replayed);
        assert_eq!(outcome(again).await, DeliveryOutcome::Refused("words".to_owned()));
    }
    assert_eq!(append(&*store, keyed(call("u", "m0"), 1, 2)).await.unwrap_err(), OutboxError::KeyReused);
    assert!(waiting(&*store).await.is_empty());
    store.close().await;
}

pub(crate) async fn a_discarded_dead_letter_takes_its_key_along(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, all.iter().map(|stored| refused(stored.id, "words")).collect()).await;
    let letter = letters(&*store).await.unwrap()[1].id;
    assert_eq!(store.discard(vec![letter]).await.unwrap(), 1);
    assert_eq!(store.fresh().await.keys, 1);
    // The key's next call is a new one, whatever it is.
    let again = append(&*store, watched(keyed(call("u", "m2"), 1, 2))).await.unwrap();
    assert!(!again.replayed);
    // The other key is not forgotten.
    assert!(append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap().replayed);
    let all = waiting(&*store).await;
    assert_eq!(texts(&all), [text("u", "m2")]);
    settle(&*store, vec![accepted(all[0].id)]).await;
    assert_eq!(outcome(again).await, DeliveryOutcome::Accepted);
    assert_eq!(store.fresh().await.keys, 2);
    store.close().await;
}

pub(crate) async fn the_key_of_a_dead_letter_outlives_its_window(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, vec![refused(all[0].id, "words"), accepted(all[1].id)]).await;
    store.close().await;

    let store = stores.open_with_window(Duration::ZERO).await;
    until_keys(&*store, 1).await;
    let again = append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    assert_eq!(outcome(again).await, DeliveryOutcome::Refused("words".to_owned()));
    assert!(!append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap().replayed);
    // Its window begins when the replayed call is accepted.
    store.replay(vec![letters(&*store).await.unwrap()[0].id]).await.unwrap();
    let again = append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    assert!(again.replayed && again.outcome.is_none());
    let all = waiting(&*store).await;
    settle(&*store, all.iter().map(|stored| accepted(stored.id)).collect()).await;
    until_keys(&*store, 0).await;
    store.close().await;
}

pub(crate) async fn the_key_of_a_replayed_call_waits_again(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![refused(id, "words")]).await;
    assert_eq!(store.replay(vec![letters(&*store).await.unwrap()[0].id]).await.unwrap(), 1);
    let again = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    assert!(again.replayed);
    let all = waiting(&*store).await;
    assert_eq!(all.len(), 1);
    settle(&*store, vec![accepted(all[0].id)]).await;
    assert_eq!(outcome(again).await, DeliveryOutcome::Accepted);
    assert_eq!(store.fresh().await.keys, 1);
    store.close().await;
}

/// Waits until at most `keys` keys are left.
async fn until_keys(store: &impl Inspect, keys: u64) {
    while store.fresh().await.keys > keys {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn a_key_is_forgotten_after_its_window(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..200 {
        append(&*store, keyed(call("u", "m0"), n, 1)).await.unwrap();
    }
    let all = waiting(&*store).await;
    settle(&*store, all.iter().map(|stored| accepted(stored.id)).collect()).await;
    store.close().await;

    let store = stores.open_with_window(Duration::ZERO).await;
    until_keys(&*store, 0).await;
    assert!(!append(&*store, keyed(call("u", "m1"), 0, 2)).await.unwrap().replayed);
    assert_eq!(texts(&waiting(&*store).await), [text("u", "m1")]);
    store.close().await;
}

pub(crate) async fn the_key_of_a_waiting_call_is_not_forgotten(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, vec![refused(all[0].id, "words"), accepted(all[1].id)]).await;
    // The dead letter is replayed before its first window ends.
    assert_eq!(store.replay(vec![letters(&*store).await.unwrap()[0].id]).await.unwrap(), 1);
    store.close().await;

    let store = stores.open_with_window(Duration::ZERO).await;
    until_keys(&*store, 1).await;
    append(&*store, plain(call("u", "m2"))).await.unwrap();
    assert!(append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap().replayed);
    store.close().await;
}

pub(crate) async fn keys_survive_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    append(&*store, keyed(call("u", "m1"), 2, 1)).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, vec![refused(all[0].id, "words")]).await;
    store.close().await;

    let store = stores.open().await;
    assert_eq!(store.fresh().await.keys, 2);
    let refused = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    assert_eq!(outcome(refused).await, DeliveryOutcome::Refused("words".to_owned()));
    let waits = append(&*store, watched(keyed(call("u", "m1"), 2, 1))).await.unwrap();
    settle(&*store, vec![accepted(all[1].id)]).await;
    assert_eq!(outcome(waits).await, DeliveryOutcome::Accepted);
    store.close().await;
}
