//! Tests of sources: each call keeps its source wherever it goes, what waits of each is counted, and each has a window of its
//! own for its keys.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Inspect, StoreFactory, accepted, append, call, group, has_nothing, keyed, letters, parked, plain, refused, settle,
    sized, take, waiting,
};
use crate::outbox::{Append, DeadLetters, LetterFilter, Outbox, ParkedFilter, ParkedUsers};

fn of(source: &str, append: Append) -> Append {
    Append { call: append.call.of_source(Some(source.into())), ..append }
}

/// The source, the number of calls and whether they have bytes, of each of which anything waits.
async fn counts(store: &impl Inspect) -> Vec<(Option<String>, u64, bool)> {
    store.refresh().await;
    let sources = store.sources();
    assert_eq!(sources.iter().map(|source| source.bytes).sum::<u64>(), store.fresh().await.waiting_bytes);
    let own = sources.iter().filter(|source| source.calls > 0 || source.bytes > 0);
    own.map(|own| (own.source.as_deref().map(str::to_owned), own.calls, own.bytes > 0)).collect()
}

fn shop(calls: u64) -> (Option<String>, u64, bool) {
    (Some("shop".to_owned()), calls, true)
}

pub(crate) async fn a_call_keeps_its_source_wherever_it_goes(stores: impl StoreFactory) {
    let store = stores.open().await;
    let calls = vec![of("shop", plain(call("u", "m0"))), of("shop", plain(call("u", "m1")))];
    group(&*store, calls, true).await.unwrap();
    append(&*store, plain(call("v", "m2"))).await.unwrap();
    let taken = take(&*store, 3).await;
    let sources = |calls: &[crate::outbox::StoredCall]| -> Vec<Option<String>> {
        calls.iter().map(|stored| stored.call.source().map(|source| source.to_string())).collect()
    };
    let of_shop = || Some("shop".to_owned());
    assert_eq!(sources(&taken), [of_shop(), of_shop(), None]);
    settle(&*store, vec![parked(taken[0].id), super::behind(taken[1].id)]).await;
    assert_eq!(ParkedUsers::list(&*store, 10, None, None).await.unwrap()[0].source, of_shop());
    store.close().await;

    let store = stores.open().await;
    assert_eq!(sources(&waiting(&*store).await), [of_shop(), of_shop(), None]);
    let retried = store.next_parked(1, true).await.unwrap();
    assert_eq!(sources(&retried), [of_shop()]);
    settle(&*store, vec![refused(retried[0].id, "words")]).await;
    let rest = take(&*store, 2).await;
    let m1 = rest.iter().find(|stored| &**stored.call.user_id() == "u").unwrap();
    assert_eq!(m1.call.source().map(|source| &**source), Some("shop"));
    settle(&*store, vec![refused(m1.id, "words")]).await;
    let found = letters(&*store).await.unwrap();
    assert_eq!([found[0].source.clone(), found[1].source.clone()], [of_shop(), of_shop()]);
    store.replay(found.iter().map(|letter| letter.id).collect()).await.unwrap();
    assert_eq!(sources(&take(&*store, 2).await), [of_shop(), of_shop()]);
    store.close().await;
}

pub(crate) async fn what_waits_of_each_source_is_counted(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, of("shop", plain(call("u", "m0")))).await.unwrap();
    append(&*store, of("shop", plain(call("u", "m1")))).await.unwrap();
    append(&*store, of("pay", plain(sized("v", "m2", 1_000)))).await.unwrap();
    append(&*store, plain(call("w", "m3"))).await.unwrap();
    let pay = (Some("pay".to_owned()), 1, true);
    assert_eq!(counts(&*store).await, [(None, 1, true), pay.clone(), shop(2)]);
    let taken = take(&*store, 4).await;
    settle(&*store, vec![parked(taken[0].id), super::behind(taken[1].id), accepted(taken[3].id)]).await;
    assert_eq!(counts(&*store).await, [pay.clone(), shop(2)]);
    store.close().await;
    let store = stores.open().await;
    assert_eq!(counts(&*store).await, [pay, shop(2)]);
    let rest = waiting(&*store).await;
    settle(&*store, rest.iter().map(|stored| refused(stored.id, "words")).collect()).await;
    assert_eq!(counts(&*store).await, []);
    store.replay(vec![letters(&*store).await.unwrap().pop().unwrap().id]).await.unwrap();
    assert_eq!(counts(&*store).await, [shop(1)]);
    store.close().await;
}

pub(crate) async fn letters_and_parked_users_are_found_by_their_source(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, of("shop", plain(call("a", "m0")))).await.unwrap();
    append(&*store, of("pay", plain(call("b", "m1")))).await.unwrap();
    append(&*store, plain(call("c", "m2"))).await.unwrap();
    let taken = take(&*store, 3).await;
    settle(&*store, taken.iter().map(|stored| parked(stored.id)).collect()).await;
    let by = |source: &str| ParkedFilter { source: Some(source.to_owned()), ..ParkedFilter::default() };
    assert_eq!(store.retry_all(by("other")).await.unwrap(), 0);
    assert_eq!(store.retry_all(by("shop")).await.unwrap(), 1);
    assert_eq!(store.give_up_all(ParkedFilter { status: Some(500), ..by("shop") }).await.unwrap(), 0);
    assert_eq!(store.give_up_all(by("shop")).await.unwrap(), 1);
    assert_eq!(store.give_up_all(ParkedFilter::default()).await.unwrap(), 2);
    let by = |source: &str| LetterFilter { source: Some(source.to_owned()), ..LetterFilter::default() };
    for (source, expected) in [("pay", vec!["m1"]), ("shop", vec!["m0"]), ("Shop", vec![])] {
        let page = DeadLetters::list(&*store, 10, by(source)).await.unwrap();
        let found: Vec<_> = page.letters.iter().filter_map(|letter| letter.message_id.as_deref()).collect();
        assert_eq!(found, expected, "{source}");
        assert_eq!(DeadLetters::find(&*store, 0, 10, by(source)).await.unwrap().ids.len(), expected.len());
    }
    assert!(has_nothing(&*store).await);
    store.close().await;
}

/// A long window of one source keeps no key of another, and `POST /customers` has its own.
pub(crate) async fn each_source_has_a_window_of_its_own(stores: impl StoreFactory) {
    let store = stores.open().await;
    for (n, source) in [(1, "long"), (2, "short"), (3, "none")] {
        append(&*store, of(source, keyed(call("u", "m"), n, 1))).await.unwrap();
    }
    append(&*store, keyed(call("u", "m"), 4, 1)).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, all.iter().map(|stored| accepted(stored.id)).collect()).await;
    // Before the windows are known, no key of a source is forgotten.
    store.close().await;
    let store = stores.open_with_window(Duration::ZERO).await;
    until_keys(&*store, 3).await;
    store.set_windows(BTreeMap::from([
        ("short".into(), Duration::ZERO),
        ("long".into(), Duration::from_secs(30 * 24 * 3600)),
    ]));
    until_keys(&*store, 2).await;
    for (n, source, is_known) in [(1, "long", true), (2, "short", false), (3, "none", true)] {
        let again = append(&*store, of(source, keyed(call("u", "m"), n, 1))).await.unwrap();
        assert_eq!(again.replayed, is_known, "{source}");
    }
    // Later windows count, too.
    store.set_windows(BTreeMap::from([("long".into(), Duration::ZERO)]));
    until_keys(&*store, 2).await;
    assert!(append(&*store, of("none", keyed(call("u", "m"), 3, 1))).await.unwrap().replayed);
    assert!(!append(&*store, of("long", keyed(call("u", "m"), 1, 1))).await.unwrap().replayed);
    store.close().await;
}

/// Waits until at most `keys` keys are left.
async fn until_keys(store: &impl Inspect, keys: u64) {
    while store.fresh().await.keys > keys {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.fresh().await.keys, keys);
}
