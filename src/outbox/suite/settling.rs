//! Tests of settling: a call leaves when it is accepted or becomes a dead letter, and its watchers receive which.

use super::{
    Inspect, StoreFactory, accepted, append, call, keyed, letters, outcome, plain, refused, settle, texts, waiting,
    watched,
};
use crate::outbox::{DeadLetters, DeliveryOutcome, Outbox, OutboxError, OutboxStats};

pub(crate) async fn an_accepted_call_is_deleted(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..3 {
        append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    let all = waiting(&*store).await;
    settle(&*store, vec![accepted(all[1].id)]).await;
    let left = waiting(&*store).await;
    assert_eq!(texts(&left), texts(&[all[0].clone(), all[2].clone()]));
    assert!(letters(&*store).await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn a_refused_call_becomes_a_dead_letter(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, vec![refused(all[0].id, "no such thing")]).await;
    assert!(waiting(&*store).await.is_empty());
    assert_eq!(store.fresh().await.dead_letters, 1);
    let letters = letters(&*store).await.unwrap();
    let letter = &letters[0];
    assert_eq!((letters.len(), letter.message_id.as_deref(), letter.user_id.as_deref()), (1, Some("m0"), Some("u")));
    assert_eq!((letter.status, &*letter.reason, letter.attempts), (Some(400), "no such thing", 3));
    assert_eq!(letter.call.as_ref().unwrap().get().as_bytes(), &all[0].call.json()[..]);
    for time in [&letter.stored_at, &letter.refused_at] {
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.len() == "2024-01-01T00:00:00.000Z".len(), "{time}");
    }
    store.close().await;
}

pub(crate) async fn unknown_ids_are_ignored(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![accepted(id + 1), refused(id + 2, "x"), accepted(-1), refused(0, "x")]).await;
    assert_eq!(waiting(&*store).await.len(), 1);
    settle(&*store, vec![accepted(id), accepted(id), refused(id, "x")]).await;
    let OutboxStats { waiting, dead_letters, oldest_stored_at, .. } = store.fresh().await;
    assert_eq!((waiting, dead_letters, oldest_stored_at), (0, 0, None));
    settle(&*store, vec![]).await;
    store.close().await;
}

pub(crate) async fn watchers_receive_the_outcome(stores: impl StoreFactory) {
    let store = stores.open().await;
    let first = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    let second = append(&*store, watched(plain(call("u", "m1")))).await.unwrap();
    let again = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    let left = append(&*store, watched(plain(call("u", "m2")))).await.unwrap();
    drop(left);
    assert!(again.replayed && !first.replayed);
    let all = waiting(&*store).await;
    assert_eq!(all.len(), 3);
    settle(&*store, vec![refused(all[1].id, "words"), accepted(all[0].id), accepted(all[2].id)]).await;
    assert_eq!(outcome(second).await, DeliveryOutcome::Refused("words".to_owned()));
    assert_eq!(outcome(first).await, DeliveryOutcome::Accepted);
    assert_eq!(outcome(again).await, DeliveryOutcome::Accepted);
    store.close().await;
}

pub(crate) async fn a_closed_store_refuses_every_command(stores: impl StoreFactory) {
    let store = stores.open().await;
    let watching = append(&*store, watched(plain(call("u", "m0")))).await.unwrap();
    store.close().await;
    assert!(watching.outcome.unwrap().await.is_err());
    assert_eq!(append(&*store, plain(call("u", "m1"))).await.unwrap_err(), OutboxError::Closed);
    assert_eq!(store.settle(vec![accepted(1)].into()).await.unwrap_err(), OutboxError::Closed);
    assert_eq!(store.next(1).await.unwrap_err(), OutboxError::Closed);
    assert_eq!(store.next_parked(1, true).await.unwrap_err(), OutboxError::Closed);
    assert_eq!(letters(&*store).await.unwrap_err(), OutboxError::Closed);
    assert_eq!(store.replay(vec![1]).await.unwrap_err(), OutboxError::Closed);
    store.close().await;
}

pub(crate) async fn the_age_of_the_oldest_call_is_reported(stores: impl StoreFactory) {
    let store = stores.open().await;
    assert_eq!(store.fresh().await.oldest_stored_at, None);
    let before = jiff::Timestamp::now().as_millisecond();
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    append(&*store, plain(call("u", "m1"))).await.unwrap();
    let oldest = store.fresh().await.oldest_stored_at.unwrap();
    assert!(oldest >= before);
    assert_eq!(store.fresh().await.trouble, None);
    let all = waiting(&*store).await;
    settle(&*store, vec![accepted(all[0].id)]).await;
    assert!(store.fresh().await.oldest_stored_at.unwrap() >= oldest);
    settle(&*store, vec![accepted(all[1].id)]).await;
    assert_eq!(store.fresh().await.oldest_stored_at, None);
    store.close().await;
}
