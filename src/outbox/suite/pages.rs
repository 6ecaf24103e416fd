//! Tests of reading: calls are read in order, in bounded pages, and after the store was closed and opened again.

use super::{StoreFactory, accepted, append, call, everybody, plain, settle, sized, text, texts, waiting, waiting_but};
use crate::outbox::{Outbox, UserFilter};

pub(crate) async fn calls_are_read_in_order(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..5 {
        let appended = append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
        assert!(!appended.replayed && appended.outcome.is_none());
    }
    let wanted: Vec<String> = (0..5).map(|n| text("u", &format!("m{n}"))).collect();
    assert_eq!(texts(&waiting(&*store).await), wanted);
    assert_eq!(&**waiting(&*store).await[0].call.user_id(), "u");
    // The last page ends behind the last id.
    let next = store.page(0, everybody(), usize::MAX).await.unwrap().next;
    assert!(next > store.stats().last_id);
    let empty = store.page(next, everybody(), usize::MAX).await.unwrap();
    assert!(empty.calls.is_empty() && empty.next >= next);
    store.close().await;
}

pub(crate) async fn calls_of_skipped_users_are_not_read(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..6 {
        append(&*store, plain(sized(["a", "b", "c"][n % 3], &format!("m{n}"), 20_000))).await.unwrap();
    }
    let users = |stored: Vec<crate::outbox::StoredCall>| -> Vec<String> {
        stored.iter().map(|stored| stored.call.user_id().to_string()).collect()
    };
    assert_eq!(users(waiting_but(&*store, &["a", "x"]).await), ["b", "c", "b", "c"]);
    assert_eq!(users(waiting_but(&*store, &["a", "b", "c"]).await), [""; 0]);
    store.close().await;
}

async fn append_many<S: Outbox + 'static>(store: &std::sync::Arc<S>, count: usize, size: usize) {
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..count {
        let store = store.clone();
        callers.spawn(async move { append(&*store, plain(sized("u", &format!("m{n}"), size))).await });
    }
    callers.join_all().await.into_iter().for_each(|appended| assert!(!appended.unwrap().replayed));
}

pub(crate) async fn a_page_is_bounded_in_calls(stores: impl StoreFactory) {
    let store = stores.open().await;
    append_many(&store, 2500, 0).await;
    assert!(store.page(0, everybody(), usize::MAX).await.unwrap().calls.len() <= 1000);
    assert_eq!(waiting(&*store).await.len(), 2500);
    store.close().await;
}

pub(crate) async fn a_page_is_bounded_in_bytes(stores: impl StoreFactory) {
    let store = stores.open().await;
    append_many(&store, 100, 32_000).await;
    let bytes: usize =
        store.page(0, everybody(), usize::MAX).await.unwrap().calls.iter().map(|stored| stored.call.json().len()).sum();
    assert!(bytes < 2 * 1024 * 1024 + 32_768, "{bytes}");
    assert_eq!(waiting(&*store).await.len(), 100);
    store.close().await;
}

pub(crate) async fn a_page_is_bounded_in_rows(stores: impl StoreFactory) {
    let store = stores.open().await;
    append_many(&store, 6000, 0).await;
    append(&*store, plain(call("other", "last"))).await.unwrap();
    let skip = [std::sync::Arc::from("u")].into();
    let first = store.page(0, UserFilter::AllBut(skip), usize::MAX).await.unwrap();
    assert!(first.calls.is_empty(), "the page looked at more than 6,000 rows");
    assert!(first.next <= store.stats().last_id);
    assert_eq!(texts(&waiting_but(&*store, &["u"]).await), [text("other", "last")]);
    store.close().await;
}

pub(crate) async fn calls_and_ids_survive_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    for n in 0..3 {
        append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    let before = waiting(&*store).await;
    let stats = store.stats();
    store.close().await;

    let store = stores.open().await;
    assert_eq!(store.stats().waiting, 3);
    assert_eq!(store.stats().last_id, stats.last_id);
    assert_eq!(store.stats().oldest_stored_at, stats.oldest_stored_at);
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
