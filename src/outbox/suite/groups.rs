//! Tests of groups: the calls of one request are stored together, each for itself, or all or none.

use super::{
    Inspect, StoreFactory, accepted, append, call, group, in_a_minute, keyed, letters, outcome, plain, refused, settle,
    sized, text, texts, waiting, watched,
};
use crate::outbox::{Append, Appended, DeliveryOutcome, Outbox, OutboxError};

/// Which of these were stored before.
fn replayed(results: &[Result<Appended, OutboxError>]) -> Vec<Result<bool, OutboxError>> {
    results.iter().map(|result| result.as_ref().map(|appended| appended.replayed).map_err(|error| *error)).collect()
}

pub(crate) async fn the_calls_of_a_group_are_stored_in_their_order(stores: impl StoreFactory) {
    let store = stores.open().await;
    for all in [false, true] {
        let calls = (0..100).map(|n| plain(call("u", &format!("m{n}{all}")))).collect();
        assert_eq!(replayed(&group(&*store, calls, all).await.unwrap()), vec![Ok(false); 100]);
    }
    let wanted = [false, true].into_iter().flat_map(|all| (0..100).map(move |n| text("u", &format!("m{n}{all}"))));
    assert_eq!(texts(&waiting(&*store).await), wanted.collect::<Vec<_>>());
    assert!(group(&*store, Vec::new(), true).await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn each_call_of_a_group_has_its_own_result(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let calls = vec![
        keyed(call("u", "m0"), 1, 1),
        keyed(call("u", "m0"), 1, 2),
        keyed(call("u", "m1"), 2, 1),
        keyed(call("u", "m1"), 2, 1),
        keyed(call("u", "m1"), 2, 2),
        plain(call("v", "m2")),
    ];
    let reused = Err(OutboxError::KeyReused);
    let results = group(&*store, calls, false).await.unwrap();
    assert_eq!(replayed(&results), [Ok(true), reused, Ok(false), Ok(true), reused, Ok(false)]);
    assert_eq!(texts(&waiting(&*store).await), [text("u", "m0"), text("u", "m1"), text("v", "m2")]);
    store.close().await;
}

pub(crate) async fn a_group_that_fails_as_a_whole_changes_nothing(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let before = store.fresh().await;
    let stored = |n: u8| sized("u", &format!("m{n}"), 3_000).of_source(Some("shop".into()));
    for wrong in [keyed(call("u", "other"), 1, 2), keyed(call("u", "twice"), 7, 2)] {
        let mut calls: Vec<Append> = (2..60).map(|n| keyed(stored(n), n, 1)).collect();
        calls.push(wrong);
        // Others in the same commit are not concerned.
        let (failed, other) = tokio::join!(group(&*store, calls, true), append(&*store, plain(call("v", "m"))));
        assert_eq!((failed.unwrap_err(), other.unwrap().replayed), (OutboxError::KeyReused, false));
    }
    let after = store.fresh().await;
    assert_eq!(texts(&waiting(&*store).await), [text("u", "m0"), text("v", "m"), text("v", "m")]);
    assert_eq!((after.waiting, after.keys), (before.waiting + 2, before.keys));
    assert!(after.last_id > before.last_id);
    assert_eq!(store.sources().len(), 1);
    // Its keys are free, and nothing of it is sent.
    let calls = (2..60).map(|n| keyed(stored(n), n, 9)).collect();
    assert_eq!(replayed(&group(&*store, calls, true).await.unwrap()), vec![Ok(false); 58]);
    assert_eq!(super::take(&*store, 61).await.len(), 61);
    store.close().await;
}

pub(crate) async fn a_key_twice_in_a_group_is_one_call(stores: impl StoreFactory) {
    let store = stores.open().await;
    let calls = vec![keyed(call("u", "m0"), 1, 1), watched(keyed(call("u", "m0"), 1, 1))];
    let mut results = group(&*store, calls, true).await.unwrap();
    assert_eq!(replayed(&results), [Ok(false), Ok(true)]);
    let id = waiting(&*store).await[0].id;
    settle(&*store, vec![accepted(id)]).await;
    assert_eq!(outcome(results.pop().unwrap().unwrap()).await, DeliveryOutcome::Accepted);
    store.close().await;
}

pub(crate) async fn a_repeated_group_tells_the_outcomes(stores: impl StoreFactory) {
    let store = stores.open().await;
    let calls = || vec![keyed(call("u", "m0"), 1, 1), keyed(call("u", "m1"), 2, 1)];
    group(&*store, calls(), true).await.unwrap();
    let all = waiting(&*store).await;
    settle(&*store, vec![refused(all[0].id, "words"), accepted(all[1].id)]).await;
    let mut results = group(&*store, calls(), true).await.unwrap();
    assert_eq!(replayed(&results), [Ok(true), Ok(true)]);
    assert_eq!(outcome(results.remove(0).unwrap()).await, DeliveryOutcome::Refused("words".to_owned()));
    assert_eq!((letters(&*store).await.unwrap().len(), store.fresh().await.waiting), (1, 0));
    store.close().await;
}

pub(crate) async fn a_group_has_at_most_four_mebibytes(stores: impl StoreFactory) {
    let store = stores.open().await;
    let calls = |count: usize| (0..count).map(|n| plain(sized(&format!("u{n}"), "m", 32_000))).collect::<Vec<_>>();
    for all in [true, false] {
        assert_eq!(group(&*store, calls(135), all).await.unwrap_err(), OutboxError::TooLarge);
    }
    assert_eq!(store.fresh().await.waiting, 0);
    assert_eq!(group(&*store, calls(125), true).await.unwrap().len(), 125);
    let late = store.append_group(calls(1), true, tokio::time::Instant::now()).await;
    assert_eq!(late.unwrap_err(), OutboxError::Busy);
    assert!(store.append_group(calls(1), true, in_a_minute()).await.is_ok());
    store.close().await;
}
