//! Tests of events that are kept as dead letters: kept once, read, replaced by calls, and otherwise as other dead letters.

use super::{
    Inspect, StoreFactory, accepted, append, call, has_nothing, in_a_minute, keyed, letters, plain, settle, take, text,
    texts,
};
use crate::outbox::{Append, DeadLetters, Events, KeptEvent, LetterFilter, LetterIds, LetterWhy, Outbox, OutboxError};

fn event(key: Option<u8>, body: &'static [u8]) -> KeptEvent {
    KeptEvent {
        source: "shop".into(),
        headers: vec![("x-topic".to_owned(), b"a".to_vec()), ("x-topic".to_owned(), b"\xe9".to_vec())],
        body: body.into(),
        received_at: 1_700_000_000_000,
        reason: "null has no keys".to_owned(),
        key: key.map(|key| [key; 16]),
    }
}

async fn keep(store: &impl Events, event: KeptEvent) {
    store.keep(event, in_a_minute()).await.unwrap();
}

fn of_shop(append: Append) -> Append {
    Append { call: append.call.of_source(Some("shop".into())), ..append }
}

pub(crate) async fn an_event_is_kept_as_an_unmapped_dead_letter(stores: impl StoreFactory) {
    let store = stores.open().await;
    keep(&*store, event(Some(1), br#"{"a": 1}"#)).await;
    keep(&*store, event(None, b"\xff\x00")).await;
    let before = store.fresh().await;
    assert_eq!((before.dead_letters, before.keys, before.waiting), (2, 1, 0));
    store.close().await;
    let store = stores.open().await;
    assert_eq!(store.fresh().await.dead_letter_bytes, before.dead_letter_bytes);
    let found = letters(&*store).await.unwrap();
    let json: Vec<serde_json::Value> = found.iter().map(|letter| serde_json::to_value(letter).unwrap()).collect();
    assert_eq!((&json[0]["eventBase64"], json[0].get("event")), (&"/wA=".into(), None));
    let refused_at = json[1]["refusedAt"].clone();
    let expected = serde_json::json!({
        "id": found[1].id, "messageId": null, "userId": null, "why": "unmapped", "source": "shop", "call": null,
        "event": r#"{"a": 1}"#, "headers": {"x-topic": "a, é"}, "status": null, "reason": "null has no keys", "attempts": 0,
        "storedAt": "2023-11-14T22:13:20.000Z", "refusedAt": refused_at,
    });
    assert_eq!(json[1], expected);
    assert!(Events::find(&*store, found[1].id).await.unwrap() == Some(event(Some(1), br#"{"a": 1}"#)));
    assert!(Events::find(&*store, found[1].id + 9).await.unwrap().is_none());
    assert_eq!(store.discard(vec![found[0].id, found[1].id]).await.unwrap(), 2);
    assert_eq!((store.fresh().await.dead_letter_bytes, store.fresh().await.keys), (0, 0));
    store.close().await;
}

pub(crate) async fn a_repeated_event_is_kept_once(stores: impl StoreFactory) {
    let store = stores.open().await;
    keep(&*store, event(Some(1), b"{}")).await;
    keep(&*store, event(Some(1), b"{}")).await;
    keep(&*store, event(Some(2), b"{}")).await;
    keep(&*store, event(None, b"{}")).await;
    keep(&*store, event(None, b"{}")).await;
    assert_eq!((store.fresh().await.dead_letters, store.fresh().await.keys), (4, 2));
    // A discarded one is forgotten.
    let oldest = letters(&*store).await.unwrap().pop().unwrap().id;
    assert_eq!(store.discard(vec![oldest]).await.unwrap(), 1);
    keep(&*store, event(Some(1), b"{}")).await;
    assert_eq!((store.fresh().await.dead_letters, store.fresh().await.keys), (4, 2));
    store.close().await;
}

pub(crate) async fn an_event_is_replaced_by_its_calls(stores: impl StoreFactory) {
    let store = stores.open().await;
    keep(&*store, event(Some(1), b"{}")).await;
    keep(&*store, event(Some(2), b"{}")).await;
    let ids: Vec<i64> = letters(&*store).await.unwrap().iter().map(|letter| letter.id).collect();
    let calls = || vec![of_shop(keyed(call("u", "m0"), 7, 1)), of_shop(plain(call("v", "m1")))];
    let replaced = store.replace(ids[1], calls()).await.unwrap().unwrap();
    assert_eq!(replaced.iter().map(|appended| appended.replayed).collect::<Vec<_>>(), [false, false]);
    assert_eq!(store.replace(ids[1], calls()).await.unwrap().map(|all| all.len()), None);
    let stats = store.fresh().await;
    // The key of the event is forgotten, and that of its call is known.
    assert_eq!((stats.waiting, stats.dead_letters, stats.keys), (2, 1, 2));
    let taken = take(&*store, 2).await;
    assert_eq!(texts(&taken), [text("u", "m0"), text("v", "m1")]);
    settle(&*store, taken.iter().map(|stored| accepted(stored.id)).collect()).await;
    // It makes nothing now.
    assert_eq!(store.replace(ids[0], Vec::new()).await.unwrap().map(|all| all.len()), Some(0));
    assert_eq!((store.fresh().await.dead_letters, store.fresh().await.dead_letter_bytes), (0, 0));
    store.close().await;
}

pub(crate) async fn an_event_whose_call_has_the_key_of_another_stays(stores: impl StoreFactory) {
    let store = stores.open().await;
    append(&*store, keyed(call("w", "known"), 7, 2)).await.unwrap();
    keep(&*store, event(Some(1), b"{}")).await;
    let id = letters(&*store).await.unwrap()[0].id;
    let before = store.fresh().await;
    let calls = vec![of_shop(plain(call("v", "m1"))), of_shop(keyed(call("u", "m0"), 7, 1))];
    assert_eq!(store.replace(id, calls).await.unwrap_err(), OutboxError::KeyReused);
    let after = store.fresh().await;
    assert_eq!((after.waiting, after.dead_letters, after.keys), (before.waiting, before.dead_letters, before.keys));
    store.note_reason(id, "key reused".to_owned()).await.unwrap();
    store.note_reason(id + 9, "nothing".to_owned()).await.unwrap();
    assert_eq!(letters(&*store).await.unwrap()[0].reason, "key reused");
    assert_eq!(texts(&take(&*store, 1).await), [text("w", "known")]);
    assert_eq!(store.discard(vec![id]).await.unwrap(), 1);
    assert_eq!(store.fresh().await.dead_letter_bytes, 0);
    store.close().await;
}

pub(crate) async fn a_replay_of_dead_letters_leaves_events(stores: impl StoreFactory) {
    let store = stores.open().await;
    keep(&*store, event(Some(1), b"{}")).await;
    append(&*store, plain(call("u", "m0"))).await.unwrap();
    let id = take(&*store, 1).await[0].id;
    settle(&*store, vec![super::refused(id, "words")]).await;
    let all = LetterFilter::default();
    let LetterIds { ids, events, next } = DeadLetters::find(&*store, 0, 10, all.clone()).await.unwrap();
    assert_eq!((ids.len(), &events[..], next), (2, &ids[..1], None));
    let unmapped = LetterFilter { why: Some(LetterWhy::Unmapped), ..all.clone() };
    assert_eq!(DeadLetters::find(&*store, 0, 10, unmapped).await.unwrap().ids, events);
    let shop = LetterFilter { source: Some("shop".to_owned()), ..all };
    assert_eq!(DeadLetters::list(&*store, 10, shop).await.unwrap().letters.len(), 1);
    assert_eq!(store.replay(ids.clone()).await.unwrap(), 1);
    assert_eq!(texts(&take(&*store, 1).await), [text("u", "m0")]);
    assert!(Events::find(&*store, events[0]).await.unwrap().is_some() && has_nothing(&*store).await);
    // A call is no event.
    let call = waiting_id(&*store).await;
    settle(&*store, vec![super::refused(call, "words")]).await;
    let letter = letters(&*store).await.unwrap()[0].id;
    assert!(Events::find(&*store, letter).await.unwrap().is_none());
    assert!(store.replace(letter, Vec::new()).await.unwrap().is_none());
    store.note_reason(letter, "other".to_owned()).await.unwrap();
    assert_eq!(letters(&*store).await.unwrap()[0].reason, "words");
    store.close().await;
}

async fn waiting_id(store: &impl super::Inspect) -> i64 {
    super::waiting(store).await[0].id
}
