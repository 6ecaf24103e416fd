//! Tests of users with many calls: they are read a part at a time, in order, and delay nobody else.

use std::sync::Arc;

use super::{Inspect, StoreFactory, accepted, append, call, plain, settle, sized, take};
use crate::outbox::{Outbox, StoredCall};

/// Bytes of each call.
const SIZE: usize = 10_000;

/// Stores many calls of a user.
async fn append_many<S: Outbox + 'static>(store: &Arc<S>, user: &str, count: usize) {
    for n in 0..count {
        append(&**store, plain(sized(user, &format!("m{n}"), SIZE))).await.unwrap();
    }
}

fn bytes_of(calls: &[StoredCall], user: &str) -> usize {
    calls.iter().filter(|stored| **stored.call.user_id() == *user).map(|stored| stored.call.json().len()).sum()
}

/// Takes calls until one of this user is there.
async fn take_until(store: &impl Outbox, user: &str) -> Vec<StoredCall> {
    let mut taken = Vec::new();
    while bytes_of(&taken, user) == 0 {
        taken.extend(store.next(usize::MAX).await.unwrap());
    }
    taken
}

pub(crate) async fn a_user_with_many_calls_delays_no_other_user(stores: impl StoreFactory) {
    let store = stores.open().await;
    append_many(&store, "hot", 500).await;
    append(&*store, plain(call("stranger", "m"))).await.unwrap();
    let taken = take_until(&*store, "stranger").await;
    let hot = bytes_of(&taken, "hot");
    assert!(hot > 0 && hot <= 1_100_000, "{hot} bytes of one user came first");
    store.close().await;
}

pub(crate) async fn the_calls_of_a_user_with_many_are_taken_in_order(stores: impl StoreFactory) {
    let store = stores.open().await;
    append_many(&store, "hot", 300).await;
    let mut taken: Vec<StoredCall> = Vec::new();
    while taken.len() < 300 {
        let calls = store.next(usize::MAX).await.unwrap();
        settle(&*store, calls.iter().map(|stored| accepted(stored.id)).collect()).await;
        taken.extend(calls);
    }
    assert!(taken.is_sorted_by(|one, other| one.id < other.id));
    assert_eq!((store.fresh().await.waiting, store.fresh().await.parked_calls), (0, 0));
    store.close().await;
}

pub(crate) async fn a_user_with_many_calls_before_a_reopen_delays_no_other_user(stores: impl StoreFactory) {
    let store = stores.open().await;
    append_many(&store, "hot", 300).await;
    append(&*store, plain(call("stranger", "m"))).await.unwrap();
    store.close().await;
    let store = stores.open().await;
    let mut taken = take_until(&*store, "stranger").await;
    assert!(bytes_of(&taken, "hot") <= 1_100_000);
    let mut ids = Vec::new();
    while ids.len() < 300 {
        settle(&*store, taken.iter().map(|stored| accepted(stored.id)).collect()).await;
        let hot = taken.iter().filter(|stored| **stored.call.user_id() == *"hot");
        ids.extend(hot.map(|stored| stored.id));
        taken = if ids.len() < 300 { store.next(usize::MAX).await.unwrap() } else { Vec::new() };
    }
    assert!(ids.is_sorted_by(|one, other| one < other));
    store.close().await;
}

pub(crate) async fn users_who_are_kept_apart_take_turns(stores: impl StoreFactory) {
    let store = stores.open().await;
    for user in ["a", "b", "c"] {
        append_many(&store, user, 200).await;
    }
    // What is in the common order is settled first.
    let mut last = Vec::new();
    for _ in 0..40 {
        let calls = store.next(usize::MAX).await.unwrap();
        settle(&*store, calls.iter().map(|stored| accepted(stored.id)).collect()).await;
        last.push([bytes_of(&calls, "a"), bytes_of(&calls, "b"), bytes_of(&calls, "c")]);
        if store.fresh().await.waiting == 0 {
            break;
        }
    }
    assert_eq!(store.fresh().await.waiting, 0);
    // No user is read twice while another one waits.
    let alone: Vec<usize> = last.iter().filter_map(|bytes| (0..3).find(|user| bytes[*user] > 0)).collect();
    let longest = alone.chunk_by(|one, next| one == next).map(<[usize]>::len).max().unwrap();
    assert!(longest <= 3, "{last:?}");
    take(&*store, 0).await;
    store.close().await;
}
