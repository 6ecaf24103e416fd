//! Tests of parking: a user whose first call fails on its own is kept apart, tried again when due, and wakes.

use super::{
    Inspect, StoreFactory, accepted, append, behind, call, has_nothing, keyed, letters, outcome, parked, plain,
    refused, settle, take, text, texts, waiting, watched,
};
use crate::outbox::{CallId, DeadLetters, DeliveryOutcome, Outbox, ParkedFilter, ParkedUser, ParkedUsers};

/// Stores calls `m0` ... of each user, takes them, and parks the first one of each; the others are behind it.
async fn park(store: &impl Outbox, users: &[&str], calls: usize) -> Vec<CallId> {
    for n in 0..calls {
        for user in users {
            append(store, plain(call(user, &format!("m{n}")))).await.unwrap();
        }
    }
    let taken = take(store, users.len() * calls).await;
    let (first, later) = taken.split_at(users.len());
    let outcomes = first.iter().map(|stored| parked(stored.id)).chain(later.iter().map(|stored| behind(stored.id)));
    settle(store, outcomes.collect()).await;
    first.iter().map(|stored| stored.id).collect()
}

async fn listed(store: &impl ParkedUsers) -> Vec<ParkedUser> {
    store.list(100, None, None).await.unwrap()
}

pub(crate) async fn of_a_parked_user_nothing_is_taken(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u"], 3).await;
    append(&*store, plain(call("v", "m0"))).await.unwrap();
    assert_eq!(texts(&take(&*store, 1).await), [text("v", "m0")]);
    assert!(has_nothing(&*store).await);
    let stats = store.fresh().await;
    assert_eq!((stats.waiting, stats.parked_users, stats.parked_calls), (4, 1, 3));
    assert!(stats.parked_bytes > 0);
    let users = listed(&*store).await;
    let of = async |user: &str| ParkedUsers::list(&*store, 100, None, Some(user.to_owned())).await.unwrap().len();
    assert_eq!((of("u").await, of("v").await), (1, 0));
    let user = &users[0];
    assert_eq!((users.len(), &*user.user_id, &*user.message_id, user.calls, user.attempts), (1, "u", "m0", 3, 2));
    assert_eq!((user.status, &*user.reason), (Some(503), "the answer was 503"));
    assert!(user.retry_at > user.since, "{} {}", user.retry_at, user.since);
    store.close().await;
}

pub(crate) async fn later_calls_are_kept_behind_a_parked_one(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u"], 1).await;
    for n in 1..4 {
        append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    assert!(has_nothing(&*store).await);
    assert_eq!(listed(&*store).await[0].calls, 4);
    assert!(waiting(&*store).await.iter().all(|stored| stored.is_parked));
    store.close().await;
}

pub(crate) async fn an_accepted_parked_call_wakes_its_user(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u"], 3).await;
    append(&*store, plain(call("u", "m3"))).await.unwrap();
    let retried = store.next_parked(10, true).await.unwrap();
    assert_eq!(texts(&retried), [text("u", "m0")]);
    assert!(retried[0].is_parked);
    // It is out.
    assert!(store.next_parked(10, true).await.unwrap().is_empty() && has_nothing(&*store).await);
    settle(&*store, vec![accepted(retried[0].id)]).await;
    let woken = take(&*store, 3).await;
    assert_eq!(texts(&woken), [text("u", "m1"), text("u", "m2"), text("u", "m3")]);
    assert!(woken.iter().all(|stored| !stored.is_parked));
    let stats = store.fresh().await;
    assert_eq!((stats.waiting, stats.parked_users, stats.parked_calls, stats.parked_bytes), (3, 0, 3, 0));
    settle(&*store, woken.iter().map(|stored| accepted(stored.id)).collect()).await;
    let stats = store.fresh().await;
    assert_eq!((stats.waiting, stats.parked_calls, stats.oldest_stored_at), (0, 0, None));
    // A later call is an ordinary one.
    append(&*store, plain(call("u", "m4"))).await.unwrap();
    assert!(!waiting(&*store).await[0].is_parked);
    store.close().await;
}

pub(crate) async fn calls_that_were_not_read_when_their_user_was_parked_wait_behind_the_others(
    stores: impl StoreFactory,
) {
    let store = stores.open().await;
    for n in 0..5 {
        append(&*store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    let first = store.next(0).await.unwrap()[0].id;
    let second = store.next(0).await.unwrap()[0].id;
    settle(&*store, vec![parked(first), behind(second)]).await;
    store.next_parked(1, true).await.unwrap();
    settle(&*store, vec![accepted(first)]).await;
    let mut ids = Vec::new();
    while ids.len() < 4 {
        let calls = store.next(0).await.unwrap();
        settle(&*store, calls.iter().map(|stored| accepted(stored.id)).collect()).await;
        ids.extend(calls.iter().map(|stored| stored.id));
    }
    assert!(ids[0] == second && ids.is_sorted_by(|one, other| one < other), "{ids:?}");
    store.close().await;
}

pub(crate) async fn a_refused_parked_call_wakes_its_user(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u"], 2).await;
    let retried = store.next_parked(1, true).await.unwrap();
    settle(&*store, vec![refused(retried[0].id, "words")]).await;
    assert_eq!(texts(&take(&*store, 1).await), [text("u", "m1")]);
    let letters = letters(&*store).await.unwrap();
    // Those that parked it, and the one that refused it.
    assert_eq!((letters.len(), letters[0].message_id.as_deref(), letters[0].attempts), (1, Some("m0"), 2 + 3));
    store.close().await;
}

pub(crate) async fn parked_users_who_are_not_due_are_taken_early_alone(stores: impl StoreFactory) {
    let store = stores.open().await;
    let ids = park(&*store, &["a", "b", "c"], 1).await;
    // Five failures more: the next attempt is half a minute away.
    for _ in 0..5 {
        let retried = store.next_parked(10, true).await.unwrap();
        assert_eq!(retried.len(), 3);
        settle(&*store, retried.iter().map(|stored| parked(stored.id)).collect()).await;
    }
    assert!(store.next_parked(10, false).await.unwrap().is_empty());
    let users = listed(&*store).await;
    assert_eq!((users[0].attempts, users[0].calls), (12, 1));
    let mut early = store.next_parked(2, true).await.unwrap();
    assert_eq!(early.len(), 2);
    early.extend(store.next_parked(2, true).await.unwrap());
    let mut found: Vec<CallId> = early.iter().map(|stored| stored.id).collect();
    found.sort_unstable();
    assert_eq!(found, ids);
    store.close().await;
}

pub(crate) async fn a_parked_user_survives_a_reopen(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u", "v"], 2).await;
    let (before, stats) = (format!("{:?}", store.fresh().await.parked_bytes), store.fresh().await.parked_calls);
    store.close().await;
    let store = stores.open().await;
    assert_eq!((format!("{:?}", store.fresh().await.parked_bytes), store.fresh().await.parked_calls), (before, stats));
    append(&*store, plain(call("w", "m0"))).await.unwrap();
    assert_eq!(texts(&take(&*store, 1).await), [text("w", "m0")]);
    let retried = store.next_parked(10, true).await.unwrap();
    assert_eq!(retried.len(), 2);
    settle(&*store, retried.iter().map(|stored| accepted(stored.id)).collect()).await;
    assert_eq!(texts(&take(&*store, 2).await), [text("u", "m1"), text("v", "m1")]);
    store.close().await;
}

pub(crate) async fn the_key_of_a_parked_call_is_known(stores: impl StoreFactory) {
    let store = stores.open().await;
    let first = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    let id = take(&*store, 1).await[0].id;
    settle(&*store, vec![parked(id)]).await;
    let again = append(&*store, watched(keyed(call("u", "m0"), 1, 1))).await.unwrap();
    assert!(again.replayed);
    store.next_parked(1, true).await.unwrap();
    settle(&*store, vec![accepted(id)]).await;
    assert_eq!(outcome(first).await, DeliveryOutcome::Accepted);
    assert_eq!(outcome(again).await, DeliveryOutcome::Accepted);
    store.close().await;
}

pub(crate) async fn a_retry_makes_a_user_due(stores: impl StoreFactory) {
    let store = stores.open().await;
    let ids = park(&*store, &["a", "b"], 1).await;
    for _ in 0..8 {
        let retried = store.next_parked(10, true).await.unwrap();
        settle(&*store, retried.iter().map(|stored| parked(stored.id)).collect()).await;
    }
    let users = listed(&*store).await;
    assert!(store.next_parked(10, false).await.unwrap().is_empty());
    assert!(!store.retry(12_345).await.unwrap());
    let user = users.iter().find(|user| user.user_id == "b").unwrap().id;
    assert!(store.retry(user).await.unwrap());
    let due = store.next_parked(10, false).await.unwrap();
    assert_eq!((due.len(), due[0].id), (1, ids[1]));
    // It is out: when it fails, it is due at once.
    assert!(store.retry(user).await.unwrap());
    settle(&*store, vec![parked(ids[1])]).await;
    assert_eq!(store.next_parked(10, false).await.unwrap().len(), 1);
    settle(&*store, vec![parked(ids[1])]).await;
    assert_eq!(store.retry_all(ParkedFilter::default()).await.unwrap(), 2);
    assert_eq!(store.next_parked(10, false).await.unwrap().len(), 2);
    store.close().await;
}

pub(crate) async fn a_given_up_call_is_a_dead_letter_and_wakes_its_user(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u"], 2).await;
    let user = listed(&*store).await[0].id;
    assert!(!store.give_up(user + 1).await.unwrap());
    assert!(store.give_up(user).await.unwrap());
    assert!(!store.give_up(user).await.unwrap());
    let letters = letters(&*store).await.unwrap();
    let letter = &letters[0];
    assert_eq!((letter.message_id.as_deref(), &*letter.reason, letter.attempts), (Some("m0"), "the answer was 503", 2));
    assert_eq!(texts(&take(&*store, 1).await), [text("u", "m1")]);
    assert!(listed(&*store).await.is_empty());
    store.close().await;
}

pub(crate) async fn a_call_that_is_out_is_given_up_when_it_fails(stores: impl StoreFactory) {
    let store = stores.open().await;
    let ids = park(&*store, &["a", "b"], 1).await;
    assert_eq!(store.next_parked(10, true).await.unwrap().len(), 2);
    assert_eq!(store.give_up_all(ParkedFilter::default()).await.unwrap(), 2);
    assert_eq!(store.fresh().await.dead_letters, 0);
    settle(&*store, vec![parked(ids[0]), accepted(ids[1])]).await;
    let letters = letters(&*store).await.unwrap();
    assert_eq!((letters.len(), letters[0].user_id.as_deref(), letters[0].attempts), (1, Some("a"), 4));
    assert_eq!((store.fresh().await.waiting, store.fresh().await.parked_users), (0, 0));
    store.close().await;
}

pub(crate) async fn verbs_for_all_heed_the_status(stores: impl StoreFactory) {
    let store = stores.open().await;
    let names: Vec<String> = (0..300).map(|n| format!("u{n}")).collect();
    park(&*store, &names.iter().map(|name| &**name).collect::<Vec<_>>(), 1).await;
    assert_eq!(store.retry_all(ParkedFilter { status: Some(500), ..ParkedFilter::default() }).await.unwrap(), 0);
    assert_eq!(store.give_up_all(ParkedFilter { status: Some(500), ..ParkedFilter::default() }).await.unwrap(), 0);
    let of = |user: &str| ParkedFilter { user_id: Some(user.to_owned()), ..ParkedFilter::default() };
    assert_eq!(store.retry_all(of("nobody")).await.unwrap(), 0);
    assert_eq!(store.retry_all(of("u150")).await.unwrap(), 1);
    assert_eq!(store.retry_all(ParkedFilter { status: Some(503), ..ParkedFilter::default() }).await.unwrap(), 300);
    assert_eq!(store.give_up_all(ParkedFilter { status: Some(503), ..ParkedFilter::default() }).await.unwrap(), 300);
    assert_eq!(
        (store.fresh().await.parked_users, store.fresh().await.dead_letters, store.fresh().await.waiting),
        (0, 300, 0)
    );
    store.close().await;
}

pub(crate) async fn a_replayed_call_waits_behind_a_parked_one(stores: impl StoreFactory) {
    let store = stores.open().await;
    park(&*store, &["u"], 2).await;
    store.give_up_all(ParkedFilter::default()).await.unwrap();
    let second = take(&*store, 1).await[0].id;
    settle(&*store, vec![parked(second)]).await;
    let ids = letters(&*store).await.unwrap().into_iter().map(|letter| letter.id).collect();
    assert_eq!(store.replay(ids).await.unwrap(), 1);
    assert!(has_nothing(&*store).await);
    let retried = store.next_parked(1, true).await.unwrap();
    assert_eq!(texts(&retried), [text("u", "m1")]);
    settle(&*store, vec![accepted(second)]).await;
    assert_eq!(texts(&take(&*store, 1).await), [text("u", "m0")]);
    assert_eq!(store.fresh().await.dead_letter_bytes, 0);
    store.close().await;
}
