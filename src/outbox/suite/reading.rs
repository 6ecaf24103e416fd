//! Tests of taking calls: in order, each once, as many as there is room for, and again after the store was closed and opened.

use super::{
    Inspect, StoreFactory, accepted, append, call, has_nothing, plain, settle, sized, take, text, texts, waiting,
};
use crate::outbox::Outbox;

pub(crate) async fn calls_are_taken_once_in_order(stores: impl StoreFactory) {
    let store = stores.open().await;
    assert!(has_nothing(&*store).await);
    for n in 0..5 {
        let appended = append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
        assert!(!appended.replayed && appended.outcome.is_none());
    }
    let wanted: Vec<String> = (0..5).map(|n| text("u", &format!("m{n}"))).collect();
    let taken = take(&*store, 5).await;
    assert_eq!(texts(&taken), wanted);
    assert!(&**taken[0].call.user_id() == "u" && !taken[0].is_parked);
    assert!(has_nothing(&*store).await);
    settle(&*store, taken.iter().map(|stored| accepted(stored.id)).collect()).await;
    assert!(has_nothing(&*store).await && waiting(&*store).await.is_empty());
    store.close().await;
}

pub(crate) async fn an_answer_is_bounded_by_the_room(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..20 {
        append(&*store, plain(sized(&format!("u{n}"), "m", 10_000))).await.unwrap();
    }
    assert_eq!(store.next(35_000).await.unwrap().len(), 4);
    take(&*store, 16).await;
    store.close().await;
}

pub(crate) async fn an_answer_holds_one_call_at_least(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..3 {
        append(&*store, plain(sized(&format!("u{n}"), "m", 10_000))).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(store.next(0).await.unwrap().len(), 1);
    }
    store.close().await;
}

pub(crate) async fn calls_that_are_stored_later_end_the_wait(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..50 {
        let (taken, appended) =
            tokio::join!(store.next(usize::MAX), append(&*store, plain(call(&format!("u{n}"), "m"))));
        appended.unwrap();
        assert_eq!(texts(&taken.unwrap()), [text(&format!("u{n}"), "m")]);
    }
    store.close().await;
}

pub(crate) async fn new_calls_that_do_not_fit_into_memory_are_taken_too(stores: impl StoreFactory) {
    let store = stores.open().await;
    assert!(has_nothing(&*store).await);
    // More than the new calls that a store may keep in memory, twice; a few are taken in between.
    let mut taken = Vec::new();
    for round in 0..2 {
        for n in 0..100 {
            append(&*store, plain(sized(&format!("u{round}-{n}"), "m", 30_000))).await.unwrap();
            if n == 50 {
                taken.extend(store.next(100_000).await.unwrap());
            }
        }
    }
    let left = 200 - taken.len();
    taken.extend(take(&*store, left).await);
    assert!(taken.is_sorted_by(|one, other| one.id < other.id));
    store.close().await;
}

pub(crate) async fn calls_that_were_out_are_taken_again_after_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..3 {
        append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    let before = take(&*store, 3).await;
    settle(&*store, vec![accepted(before[0].id)]).await;
    store.close().await;
    let store = stores.open().await;
    assert_eq!(texts(&take(&*store, 2).await), texts(&before[1..]));
    store.close().await;
}

pub(crate) async fn calls_and_ids_survive_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..3 {
        append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    let before = waiting(&*store).await;
    let stats = store.fresh().await;
    store.close().await;

    let store = stores.open().await;
    assert_eq!(store.fresh().await.waiting, 3);
    assert_eq!(store.fresh().await.last_id, stats.last_id);
    assert_eq!(store.fresh().await.oldest_stored_at, stats.oldest_stored_at);
    assert_eq!(texts(&waiting(&*store).await), texts(&before));
    settle(&*store, before.iter().map(|stored| accepted(stored.id)).collect()).await;
    store.close().await;

    // No call waits any more, and ids still increase.
    let store = stores.open().await;
    append(&*store, plain(call("u", "later"))).await.unwrap();
    let after = waiting(&*store).await;
    assert_eq!(after.len(), 1);
    assert!(after[0].id > before[2].id);
    store.close().await;
}

pub(crate) async fn a_thousand_concurrent_calls_are_stored_in_order_per_user(stores: impl StoreFactory) {
    let store = stores.open().await;
    let mut users = tokio::task::JoinSet::new();
    for user in 0..100 {
        let store = store.clone();
        users.spawn(async move {
            // One user's appends are polled one after the other, without waiting for the answers.
            let mut calls = Vec::new();
            for n in 0..10 {
                let append = plain(call(&format!("u{user}"), &format!("m{n}")));
                let mut call = Box::pin(append_to(&*store, append));
                let first = futures_util::poll!(&mut call);
                calls.push((call, first));
            }
            for (call, first) in calls {
                let appended = if let std::task::Poll::Ready(appended) = first { appended } else { call.await };
                appended.unwrap();
            }
        });
    }
    users.join_all().await;
    let all = waiting(&*store).await;
    assert_eq!(all.len(), 1000);
    for user in 0..100 {
        let user = format!("u{user}");
        let own: Vec<_> = all.iter().filter(|stored| **stored.call.user_id() == *user).cloned().collect();
        let wanted: Vec<String> = (0..10).map(|n| text(&user, &format!("m{n}"))).collect();
        assert_eq!(texts(&own), wanted);
    }
    store.close().await;
}

async fn append_to(
    store: &impl Outbox,
    append: crate::outbox::Append,
) -> Result<crate::outbox::Appended, crate::outbox::OutboxError> {
    store.append(append, super::in_a_minute()).await
}
