//! Tests of finding a call by its `messageId`: with a key and without one, wherever the call is, and while it moves.

use std::sync::atomic::{AtomicBool, Ordering};

use uuid::{NoContext, Timestamp, Uuid};

use super::{
    Inspect, StoreFactory, accepted, append, behind, call, group, in_a_minute, letters, parked, plain, refused, settle,
    sized, waiting,
};
use crate::outbox::client::digest;
use crate::outbox::{
    Append, CallFate, CallReport, Calls, DeadLetters, Events, KeptEvent, KeyRecord, LetterFilter, Outbox, ParkedFilter,
    ParkedUsers,
};

/// An id without a key that was made at this time, in seconds since 1970.
fn id_of(seconds: u64) -> String {
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)).to_string()
}

/// The same of now.
fn id_of_now() -> String {
    Uuid::new_v7(Timestamp::now(NoContext)).to_string()
}

/// A call whose key is its id.
fn keyed(user_id: &str, message_id: &str) -> Append {
    let key = KeyRecord { key: digest(&[message_id.as_bytes()]), body: [7; 16] };
    let in_json = serde_json::to_string(message_id).unwrap();
    Append { key: Some(key), ..plain(call(user_id, in_json.trim_matches('"'))) }
}

async fn find(store: &impl Calls, message_id: &str) -> Option<CallReport> {
    let found = Calls::find(store, message_id).await.unwrap();
    assert!(found.as_ref().is_none_or(|report| report.message_id == message_id));
    found
}

async fn fate(store: &impl Calls, message_id: &str) -> Option<CallFate> {
    find(store, message_id).await.map(|report| report.outcome)
}

/// Stores a call, and returns its id in the store.
async fn store_one(store: &impl Inspect, one: Append) -> i64 {
    append(store, one).await.unwrap();
    store.fresh().await.last_id
}

pub(crate) async fn a_call_with_a_key_is_found_wherever_it_is(stores: impl StoreFactory) {
    let store = stores.open().await;
    let name = "order 7/ü\n\u{1f}<";
    assert_eq!(fate(&*store, name).await, None);
    let id = store_one(&*store, keyed("u", name)).await;
    assert_eq!(fate(&*store, name).await, Some(CallFate::Waiting));
    settle(&*store, vec![accepted(id)]).await;
    assert_eq!(fate(&*store, name).await, Some(CallFate::Accepted));
    let id = store_one(&*store, keyed("u", "m-1")).await;
    let waiting = find(&*store, "m-1").await.unwrap();
    let json = serde_json::to_value(&waiting).unwrap();
    let expected = serde_json::json!({
        "messageId": "m-1", "userId": "u", "outcome": "waiting", "storedAt": json["storedAt"], "attempts": null, "status": null,
        "reason": null,
    });
    assert_eq!(json, expected);
    settle(&*store, vec![parked(id)]).await;
    let json = serde_json::to_value(find(&*store, "m-1").await).unwrap();
    assert_eq!((&json["outcome"], &json["attempts"], &json["status"]), (&"parked".into(), &2.into(), &503.into()));
    assert_eq!((&json["reason"], &json["storedAt"]), (&"the answer was 503".into(), &expected["storedAt"]));
    settle(&*store, vec![refused(id, "no such plan")]).await;
    let json = serde_json::to_value(find(&*store, "m-1").await).unwrap();
    assert_eq!((&json["outcome"], &json["attempts"], &json["status"]), (&"refused".into(), &5.into(), &400.into()));
    assert_eq!((&json["reason"], &json["storedAt"]), (&"no such plan".into(), &expected["storedAt"]));
    store.replay(vec![letters(&*store).await.unwrap()[0].id]).await.unwrap();
    assert_eq!(fate(&*store, "m-1").await, Some(CallFate::Waiting));
    let id = store.fresh().await.last_id;
    settle(&*store, vec![parked(id)]).await;
    assert_eq!(store.give_up_all(ParkedFilter::default()).await.unwrap(), 1);
    let report = find(&*store, "m-1").await.unwrap();
    assert_eq!((report.outcome, report.kept.unwrap().status), (CallFate::GaveUp, Some(503)));
    store.replay(vec![letters(&*store).await.unwrap()[0].id]).await.unwrap();
    settle(&*store, vec![accepted(store.fresh().await.last_id)]).await;
    let json = serde_json::to_value(find(&*store, "m-1").await).unwrap();
    assert_eq!(json, serde_json::json!({"messageId": "m-1", "outcome": "accepted"}));
    store.close().await;
    let store = stores.open().await;
    assert_eq!(fate(&*store, "m-1").await, Some(CallFate::Accepted));
    store.close().await;
}

pub(crate) async fn a_call_without_a_key_is_found_until_it_is_accepted(stores: impl StoreFactory) {
    let store = stores.open().await;
    let ids = [id_of_now(), id_of_now(), id_of_now()];
    for message_id in &ids {
        append(&*store, plain(sized("u", message_id, 20_000))).await.unwrap();
    }
    assert_eq!(fate(&*store, &ids[1]).await, Some(CallFate::Waiting));
    assert_eq!(fate(&*store, &id_of_now()).await, None);
    let stored = waiting(&*store).await;
    settle(&*store, vec![accepted(stored[0].id), refused(stored[1].id, "no")]).await;
    let fates = [fate(&*store, &ids[0]).await, fate(&*store, &ids[1]).await, fate(&*store, &ids[2]).await];
    assert_eq!(fates, [None, Some(CallFate::Refused), Some(CallFate::Waiting)]);
    store.close().await;
    let store = stores.open().await;
    assert_eq!(fate(&*store, &ids[1]).await, Some(CallFate::Refused));
    store.close().await;
}

pub(crate) async fn a_call_is_found_whatever_the_time_in_its_id(stores: impl StoreFactory) {
    let store = stores.open().await;
    // The clock was wrong then, or the id is a random one of an earlier version.
    let ids = [id_of(0), id_of(4_000_000_000), Uuid::new_v4().to_string()];
    for message_id in &ids {
        append(&*store, plain(call("u", message_id))).await.unwrap();
        append(&*store, plain(call("v", &id_of_now()))).await.unwrap();
    }
    for message_id in &ids {
        assert_eq!(fate(&*store, message_id).await, Some(CallFate::Waiting), "{message_id}");
    }
    assert_eq!(fate(&*store, &id_of(0)).await, None);
    store.close().await;
}

pub(crate) async fn the_later_calls_of_a_parked_user_wait(stores: impl StoreFactory) {
    let store = stores.open().await;
    let ids = [id_of_now(), id_of_now()];
    for message_id in &ids {
        append(&*store, plain(call("u", message_id))).await.unwrap();
    }
    let stored: Vec<i64> = waiting(&*store).await.iter().map(|stored| stored.id).collect();
    settle(&*store, vec![parked(stored[0]), behind(stored[1])]).await;
    assert_eq!(fate(&*store, &ids[0]).await, Some(CallFate::Parked));
    let later = find(&*store, &ids[1]).await.unwrap();
    assert_eq!((later.outcome, later.kept.unwrap().attempts), (CallFate::Waiting, None));
    settle(&*store, vec![accepted(stored[0])]).await;
    assert_eq!(fate(&*store, &ids[1]).await, Some(CallFate::Waiting), "its user is read in turn now");
    store.close().await;
}

pub(crate) async fn a_call_that_moves_is_always_found(stores: impl StoreFactory) {
    let store = stores.open().await;
    // Its id says nothing, and so many others are there that a search takes several reads of each table.
    let wanted = Uuid::new_v4().to_string();
    let others = |user: &'static str| (0..1000).map(move |_| plain(call(user, &Uuid::new_v4().to_string())));
    for table in ["refused", "parked", "waiting"] {
        for _ in 0..5 {
            let before = store.fresh().await.last_id;
            group(&*store, others(table).collect(), true).await.unwrap();
            let all = waiting(&*store).await;
            let ids = all.iter().map(|stored| stored.id).filter(|id| *id > before);
            match table {
                "refused" => settle(&*store, ids.map(|id| refused(id, "no")).collect()).await,
                "parked" => settle(&*store, ids.map(behind).collect()).await,
                _ => {}
            }
        }
    }
    let mut id = store_one(&*store, plain(call("u", &wanted))).await;
    let is_done = AtomicBool::new(false);
    let moves = async {
        while !is_done.load(Ordering::Relaxed) {
            settle(&*store, vec![parked(id)]).await;
            settle(&*store, vec![refused(id, "no")]).await;
            let letter = DeadLetters::list(&*store, 1, LetterFilter::default()).await.unwrap().letters[0].id;
            assert_eq!(store.replay(vec![letter]).await.unwrap(), 1);
            id = store.fresh().await.last_id;
        }
    };
    let searches = async {
        for _ in 0..40 {
            assert!(fate(&*store, &wanted).await.is_some());
        }
        is_done.store(true, Ordering::Relaxed);
    };
    tokio::join!(moves, searches);
    assert_eq!(fate(&*store, &Uuid::new_v4().to_string()).await, None);
    store.close().await;
}

pub(crate) async fn no_event_and_no_other_call_is_taken_for_the_one(stores: impl StoreFactory) {
    let store = stores.open().await;
    let wanted = id_of_now();
    let event = KeptEvent {
        source: "shop".into(),
        headers: Vec::new(),
        body: format!(r#"{{"type":"a","messageId":"{wanted}"}}"#).into(),
        received_at: 1_700_000_000_000,
        reason: "null".to_owned(),
        key: None,
    };
    store.keep(event, in_a_minute()).await.unwrap();
    // An id that ends as the wanted one, and a user's id that says so.
    append(&*store, plain(call("u", &format!("x{wanted}")))).await.unwrap();
    append(&*store, plain(call(&format!(r#"\",\"messageId\":\"{wanted}\"}}"#), "m-1"))).await.unwrap();
    assert_eq!(fate(&*store, &wanted).await, None);
    store.close().await;
}
