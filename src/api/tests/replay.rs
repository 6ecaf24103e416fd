//! Operators replay events that are dead letters: the filter of today runs, and what it makes takes the letter's place.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::{Answer, Relay};
use crate::api::AdminState;
use crate::config::{Secret, WriteKeys};
use crate::outbox::{DeadLetters, LetterFilter, LetterIds, LetterPage, OutboxError};
use crate::segment::MessageIds;
use crate::sources::Sources;
use crate::sources::mapping::MapError;
use crate::sources::settings::KeyPart;
use crate::sources::test_sources::{FakeEvents, FakeFilters, source};

const ADA: &str = r#"{"userId":"c-1042","traits":{"email":"ada@example.com"}}"#;

/// The events that are kept, and a call with the id 100.
struct FakeLetters(Arc<FakeEvents>);

#[async_trait]
impl DeadLetters for FakeLetters {
    async fn list(&self, _limit: usize, _filter: LetterFilter) -> Result<LetterPage, OutboxError> {
        Ok(LetterPage { letters: Vec::new(), next: None })
    }

    async fn find(&self, _from: i64, _limit: usize, _filter: LetterFilter) -> Result<LetterIds, OutboxError> {
        let events: Vec<i64> = self.0.kept.lock().iter().map(|(id, _)| *id).collect();
        Ok(LetterIds { ids: [&*events, &[100]].concat(), events, next: None })
    }

    async fn replay(&self, ids: Vec<i64>) -> Result<u64, OutboxError> {
        Ok(ids.contains(&100).into())
    }

    async fn discard(&self, _ids: Vec<i64>) -> Result<u64, OutboxError> {
        Ok(0)
    }
}

struct Operated {
    relay: Relay,
    filters: Arc<FakeFilters>,
    events: Arc<FakeEvents>,
}

impl Operated {
    /// With a dead letter of each of these sources. The source `shop` is configured.
    async fn with_letters_of(names: &[&str]) -> Self {
        let (filters, events) = (FakeFilters::making(Ok(vec![ADA])), Arc::<FakeEvents>::default());
        for name in names {
            events.keep_one(name).await;
        }
        let ids = MessageIds::new(&WriteKeys::new(Secret::new("wk"))).unwrap();
        let mut shop = source("shop");
        shop.key = vec![KeyPart::Body("/id".to_owned())];
        let (shared, kept) = (filters.clone(), events.clone());
        let relay = Relay::with(8, |state| {
            let letters = Arc::new(FakeLetters(kept.clone()));
            let sources = Sources::new([Arc::new(shop)], shared, Some(kept), ids, state.metrics.clone());
            state.with_sources(Arc::new(sources)).with_admin(AdminState::new("t0ken", Some(letters)))
        });
        Self { relay, filters, events }
    }

    async fn replay(&self, which: &str) -> Answer {
        self.ask("POST", which).await
    }

    async fn preview(&self, id: i64) -> Answer {
        self.ask("GET", &format!("{id}/preview")).await
    }

    async fn ask(&self, method: &str, which: &str) -> Answer {
        let request = Request::builder().method(method).uri(format!("/dead-letters/{which}"));
        let request = request.header("authorization", "Bearer t0ken");
        self.relay.send(request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn an_event_is_replaced_by_the_calls_that_it_makes_today() {
    let shop = Operated::with_letters_of(&["shop"]).await;
    let answer = shop.replay("1/replay").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({"replayed": 1})));
    assert!(shop.events.kept.lock().is_empty());
    let calls = shop.events.calls.lock();
    let sent: serde_json::Value = serde_json::from_slice(calls[0].call.json()).unwrap();
    assert_eq!((&sent["userId"], &sent["timestamp"]), (&json!("c-1042"), &json!("2023-11-14T22:13:20.007Z")));
    assert!(sent["messageId"].as_str().unwrap().starts_with("relay-"), "the event's key makes the id: {sent}");
    assert_eq!(calls[0].call.source().map(|name| &**name), Some("shop"));
    assert!(calls[0].key.is_some());
}

#[tokio::test]
async fn an_event_that_makes_nothing_today_is_gone() {
    let shop = Operated::with_letters_of(&["shop"]).await;
    *shop.filters.0.lock() = Ok(vec![]);
    assert_eq!(shop.replay("1/replay").await.json(), json!({"replayed": 1}));
    assert!(shop.events.kept.lock().is_empty() && shop.events.calls.lock().is_empty());
}

#[tokio::test]
async fn an_event_that_still_fails_stays_with_the_new_reason_which_the_operator_hears() {
    let shop = Operated::with_letters_of(&["shop"]).await;
    *shop.filters.0.lock() = Err(MapError::Failed("cannot index \"x\"".to_owned()));
    let answer = shop.replay("1/replay").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "filter_failed"));
    assert!(answer.text.contains("cannot index"), "{}", answer.text);
    assert_eq!(shop.events.kept.lock()[0].1.reason, "cannot index \"x\"");
    *shop.filters.0.lock() = Ok(vec![ADA]);
    *shop.events.trouble.lock() = Some(OutboxError::KeyReused);
    assert!(shop.replay("1/replay").await.text.contains("key reused"));
    *shop.events.trouble.lock() = Some(OutboxError::Full);
    assert_eq!(shop.replay("1/replay").await.code(), "overloaded");
    *shop.filters.0.lock() = Err(MapError::Overloaded);
    assert_eq!(shop.replay("1/replay").await.code(), "overloaded");
    assert_eq!(shop.events.kept.lock()[0].1.reason, "key reused");
}

#[tokio::test]
async fn an_event_of_a_source_that_is_not_configured_stays() {
    let shop = Operated::with_letters_of(&["gone"]).await;
    let answer = shop.replay("1/replay").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "filter_failed"));
    assert!(answer.text.contains("not configured"), "{}", answer.text);
    assert_eq!(shop.events.kept.lock()[0].1.reason, "as it was");
}

#[tokio::test]
async fn a_preview_shows_what_a_replay_would_make_and_why_it_would_fail() {
    let shop = Operated::with_letters_of(&["shop", "gone"]).await;
    let made: serde_json::Value = serde_json::from_str(ADA).unwrap();
    assert_eq!(shop.preview(1).await.json(), json!({"customers": [made], "problems": []}));
    *shop.filters.0.lock() = Ok(vec![ADA, r#"{"userId":"c-1","traits":NaN}"#]);
    let answer = shop.preview(1).await.json();
    assert_eq!(answer["customers"], json!([made, r#"{"userId":"c-1","traits":NaN}"#]), "what is no JSON is a string");
    assert_eq!((answer["problems"].as_array().unwrap().len(), &answer["problems"][0]["field"]), (1, &json!("/1")));
    *shop.filters.0.lock() = Err(MapError::Failed("cannot index \"x\"".to_owned()));
    let problems = json!({"customers": [], "problems": [{"message": "cannot index \"x\""}]});
    assert_eq!(shop.preview(1).await.json(), problems);
    *shop.filters.0.lock() = Err(MapError::Overloaded);
    assert_eq!(shop.preview(1).await.code(), "overloaded");
    let message = shop.preview(2).await.json()["problems"][0]["message"].clone();
    assert!(message.as_str().unwrap().contains("not configured"), "{message}");
    assert_eq!((shop.preview(100).await.status.as_u16(), shop.preview(7).await.status.as_u16()), (404, 404));
    assert!(shop.preview(100).await.text.contains("a call and not an event"));
    let kept = shop.events.kept.lock();
    assert_eq!((kept.len(), &*kept[0].1.reason), (2, "as it was"));
    assert!(shop.events.calls.lock().is_empty());
}

#[tokio::test]
async fn what_is_no_event_is_replayed_as_a_call() {
    let shop = Operated::with_letters_of(&["shop"]).await;
    assert_eq!(shop.replay("100/replay").await.json(), json!({"replayed": 1}));
    assert_eq!(shop.replay("7/replay").await.status, 404);
    assert_eq!(shop.events.kept.lock().len(), 1);
}

#[tokio::test]
async fn of_many_letters_those_that_are_none_any_more_are_counted() {
    let shop = Operated::with_letters_of(&["shop", "gone", "shop"]).await;
    let answer = shop.replay("replay").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({"replayed": 3})));
    assert_eq!(shop.events.kept.lock().len(), 1);
    assert_eq!(shop.events.calls.lock().len(), 2);
}
