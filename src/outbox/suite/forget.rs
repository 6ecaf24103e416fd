//! Tests of forgetting a person.

use std::sync::Arc;

use super::{
    Inspect, StoreFactory, append, call, in_a_minute, keyed, letters, outcome, parked, plain, refused, settle, take,
    waiting, watched,
};
use crate::outbox::{DeliveryOutcome, Events, Forgotten, KeptEvent, Outbox, Person, PersonStore};

fn person() -> Arc<Person> {
    Arc::new(Person { user_id: "ada".to_owned(), texts: vec!["ada@example.com".to_owned()] })
}

pub(crate) async fn waiting_calls_and_dead_letters_of_a_person_are_deleted(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, plain(call("ada", "m0"))).await.unwrap();
    append(&*store, plain(call("ada", "m1"))).await.unwrap();
    append(&*store, plain(call("bob", "m2"))).await.unwrap();
    let taken = take(&*store, 3).await;
    settle(&*store, vec![refused(taken[0].id, "no"), parked(taken[1].id), refused(taken[2].id, "no")]).await;
    append(&*store, plain(call("ada", "m3"))).await.unwrap();
    let watcher = append(&*store, watched(keyed(call("ada", "m4"), 7, 1))).await.unwrap();
    append(&*store, plain(call("bob", "m5"))).await.unwrap();
    let event = |body: &'static str| KeptEvent {
        source: "shop".into(),
        headers: Vec::new(),
        body: body.as_bytes().into(),
        received_at: 1,
        reason: "no userId".to_owned(),
        key: None,
    };
    store.keep(event(r#"{"email":"ada\u0040example.com"}"#), in_a_minute()).await.unwrap();
    store.keep(event(r#"{"email":"bob@example.com"}"#), in_a_minute()).await.unwrap();
    let deleted = store.delete_person(person()).await.unwrap();
    assert_eq!((deleted.forgotten, deleted.out.len()), (Forgotten { waiting: 3, dead_letters: 2 }, 0));
    assert!(matches!(outcome(watcher).await, DeliveryOutcome::GaveUp(_)));
    let stats = store.fresh().await;
    assert_eq!((stats.waiting, stats.dead_letters, stats.keys), (1, 2, 0));
    assert_eq!((stats.parked_users, stats.parked_calls, stats.parked_bytes), (0, 0, 0));
    assert_eq!(letters(&*store).await.unwrap().len(), 2);
    // A repeat is a new call, and only what is left is given to delivery.
    assert!(!append(&*store, keyed(call("ada", "m4"), 7, 2)).await.unwrap().replayed);
    let users: Vec<_> = take(&*store, 2).await.iter().map(|stored| stored.call.user_id().to_string()).collect();
    assert_eq!(users, ["bob", "ada"]);
    store.close().await;
}

pub(crate) async fn a_call_that_is_out_is_deleted_when_it_comes_back(stores: impl StoreFactory) {
    let store = stores.open().await;
    for id in ["m0", "m1"] {
        append(&*store, plain(call("ada", id))).await.unwrap();
    }
    let taken = take(&*store, 2).await;
    let deleted = store.delete_person(person()).await.unwrap();
    assert_eq!(deleted.out, [taken[0].id, taken[1].id]);
    append(&*store, plain(call("ada", "m2"))).await.unwrap();
    settle(&*store, vec![refused(taken[0].id, "no")]).await;
    let still = store.still_out(deleted.out).await.unwrap();
    assert_eq!((still.out, still.deleted), (vec![taken[1].id], 1));
    settle(&*store, vec![parked(taken[1].id)]).await;
    let still = store.still_out(vec![taken[1].id]).await.unwrap();
    assert_eq!((still.out, still.deleted), (vec![], 1));
    let still = store.still_out(taken.iter().map(|stored| stored.id).collect()).await.unwrap();
    assert_eq!((still.out.len(), still.deleted), (0, 0), "each is counted once");
    assert!(letters(&*store).await.unwrap().is_empty());
    assert_eq!((waiting(&*store).await.len(), store.fresh().await.parked_users), (1, 0), "the later call is a new one");
    store.close().await;
}
