//! The operators' endpoints over parked users in memory: what each does and says.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Answer, Relay};
use crate::api::AdminState;
use crate::outbox::{OutboxError, ParkedFilter, ParkedUser, ParkedUsers};

/// Parked users in memory: ids, oldest first, and the statuses of their last failures.
#[derive(Default)]
struct FakeParked {
    users: Mutex<Vec<(i64, Option<u16>)>>,
    retried: Mutex<Vec<i64>>,
    failure: Mutex<Option<OutboxError>>,
    hangs: Mutex<bool>,
}

/// None of them has a source.
impl FakeParked {
    async fn state(&self) -> Result<(), OutboxError> {
        if *self.hangs.lock() {
            std::future::pending::<()>().await;
        }
        self.failure.lock().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl ParkedUsers for FakeParked {
    async fn list(
        &self,
        limit: usize,
        before: Option<i64>,
        user_id: Option<String>,
    ) -> Result<Vec<ParkedUser>, OutboxError> {
        self.state().await?;
        let users = self.users.lock();
        let is_asked = |id: i64| before.is_none_or(|before| id < before) && is_meant(user_id.as_ref());
        let asked = users.iter().rev().filter(|(id, _)| is_asked(*id));
        Ok(asked.take(limit).map(|(id, status)| user(*id, *status)).collect())
    }

    async fn retry(&self, id: i64) -> Result<bool, OutboxError> {
        self.state().await?;
        let is_there = self.users.lock().iter().any(|(there, _)| *there == id);
        self.retried.lock().extend(is_there.then_some(id));
        Ok(is_there)
    }

    async fn retry_all(&self, ParkedFilter { status, source, user_id }: ParkedFilter) -> Result<u64, OutboxError> {
        self.state().await?;
        let users = self.users.lock();
        let meant: Vec<_> = users
            .iter()
            .filter(|(_, own)| source.is_none() && (status.is_none() || *own == status) && is_meant(user_id.as_ref()))
            .map(|(id, _)| *id)
            .collect();
        self.retried.lock().extend(&meant);
        Ok(meant.len() as u64)
    }

    async fn give_up(&self, id: i64) -> Result<bool, OutboxError> {
        self.state().await?;
        let mut users = self.users.lock();
        let before = users.len();
        users.retain(|(there, _)| *there != id);
        Ok(users.len() < before)
    }

    async fn give_up_all(&self, ParkedFilter { status, source, user_id }: ParkedFilter) -> Result<u64, OutboxError> {
        self.state().await?;
        let mut users = self.users.lock();
        let before = users.len();
        users.retain(|(_, own)| source.is_some() || status.is_some() && *own != status || !is_meant(user_id.as_ref()));
        Ok((before - users.len()) as u64)
    }
}

/// Whether a filter for this user means them: all have one id.
fn is_meant(user_id: Option<&String>) -> bool {
    user_id.is_none_or(|user_id| user_id == "c-1042")
}

fn user(id: i64, status: Option<u16>) -> ParkedUser {
    ParkedUser {
        id,
        user_id: "c-1042".to_owned(),
        message_id: format!("m-{id}"),
        source: None,
        calls: 3,
        since: "2026-11-22T06:28:00.000Z".to_owned(),
        attempts: 9,
        status,
        reason: "Segment failed".to_owned(),
        retry_at: "2026-11-22T06:33:00.000Z".to_owned(),
    }
}

/// A relay with these parked users.
fn with_parked(users: impl IntoIterator<Item = (i64, Option<u16>)>) -> (Relay, Arc<FakeParked>) {
    let parked = Arc::new(FakeParked { users: Mutex::new(users.into_iter().collect()), ..FakeParked::default() });
    let admin = AdminState::new("t0ken", None).with_parked(Some(parked.clone()));
    (Relay::with(1, |state| state.with_admin(admin)), parked)
}

async fn ask(relay: &Relay, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("authorization", "Bearer t0ken");
    relay.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn parked_users_come_newest_first_page_by_page() {
    let (relay, _) = with_parked((1..=5).map(|id| (id, (id > 1).then_some(503))));
    let page = ask(&relay, "GET", "/parked?limit=2").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("application/json")));
    let newest = json!({
        "id": 5, "userId": "c-1042", "messageId": "m-5", "source": null, "calls": 3, "since": "2026-11-22T06:28:00.000Z", "attempts": 9,
        "status": 503, "reason": "Segment failed", "retryAt": "2026-11-22T06:33:00.000Z"
    });
    assert_eq!((&page.json()["parked"][0], &page.json()["next"]), (&newest, &json!(4)));
    for (query, ids, next) in [
        ("limit=2&before=4", &[3, 2][..], json!(2)),
        ("limit=5", &[5, 4, 3, 2, 1], Value::Null),
        ("before=1", &[], Value::Null),
        ("userId=c-1042&limit=2", &[5, 4], json!(4)),
        ("userId=c-7", &[], Value::Null),
    ] {
        let page = ask(&relay, "GET", &format!("/parked?{query}")).await.json();
        let found: Vec<_> =
            page["parked"].as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect();
        assert_eq!((&*found, &page["next"]), (ids, &next), "{query}");
    }
    let last = ask(&relay, "GET", "/parked?before=2").await.json();
    assert_eq!(last["parked"][0]["status"], Value::Null, "there was no answer");
}

#[tokio::test]
async fn one_is_tried_now_or_given_up_by_its_id() {
    let (relay, parked) = with_parked([(1, Some(503)), (2, Some(403))]);
    let retried = ask(&relay, "POST", "/parked/2/retry").await;
    assert_eq!((retried.status.as_u16(), retried.json()), (202, json!({"retried": 1})));
    assert_eq!(*parked.retried.lock(), [2]);
    let gave_up = ask(&relay, "POST", "/parked/1/give-up").await;
    assert_eq!((gave_up.status.as_u16(), gave_up.json()), (202, json!({"gaveUp": 1})));
    assert_eq!(*parked.users.lock(), [(2, Some(403))]);
    for path in ["/parked/1/retry", "/parked/1/give-up", "/parked/one/retry", "/parked/99999999999999999999/give-up"] {
        let answer = ask(&relay, "POST", path).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn all_are_meant_or_those_with_a_status_and_a_wrong_query_means_nobody() {
    let (relay, parked) = with_parked([(1, Some(503)), (2, Some(403)), (3, None), (4, Some(403))]);
    assert_eq!(ask(&relay, "POST", "/parked/retry").await.json(), json!({"retried": 4}));
    assert_eq!(ask(&relay, "POST", "/parked/retry?status=403").await.json(), json!({"retried": 2}));
    assert_eq!(*parked.retried.lock(), [1, 2, 3, 4, 2, 4]);
    for query in [
        "status=",
        "status=99",
        "status=1000",
        "status=x",
        "status=403&status=503",
        "all",
        "source=",
        "user=u",
        "userId=",
    ] {
        for verb in ["retry", "give-up"] {
            let answer = ask(&relay, "POST", &format!("/parked/{verb}?{query}")).await;
            assert_eq!((answer.status.as_u16(), &*answer.code()), (422, "invalid_payload"), "{verb} {query}");
        }
    }
    assert_eq!((parked.users.lock().len(), parked.retried.lock().len()), (4, 6));
    assert_eq!(ask(&relay, "POST", "/parked/retry?source=shop&status=403").await.json(), json!({"retried": 0}));
    assert_eq!(ask(&relay, "POST", "/parked/give-up?source=shop").await.json(), json!({"gaveUp": 0}));
    assert_eq!(ask(&relay, "POST", "/parked/retry?userId=c-7").await.json(), json!({"retried": 0}));
    assert_eq!(ask(&relay, "POST", "/parked/give-up?userId=c-7&status=403").await.json(), json!({"gaveUp": 0}));
    assert_eq!(ask(&relay, "POST", "/parked/give-up?status=403&userId=c-1042").await.json(), json!({"gaveUp": 2}));
    assert_eq!(ask(&relay, "POST", "/parked/give-up").await.json(), json!({"gaveUp": 2}));
    assert!(parked.users.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_cannot_is_said_with_when_to_come_back() {
    let (relay, parked) = with_parked([(1, None)]);
    let requests = [
        ("GET", "/parked"),
        ("POST", "/parked/1/retry"),
        ("POST", "/parked/1/give-up"),
        ("POST", "/parked/retry"),
        ("POST", "/parked/give-up"),
    ];
    for (failure, status, code) in [
        (OutboxError::Full, 503, "overloaded"),
        (OutboxError::Unreadable, 503, "overloaded"),
        (OutboxError::Closed, 503, "shutting_down"),
        (OutboxError::Unconfirmed, 504, "outbox_timeout"),
    ] {
        *parked.failure.lock() = Some(failure);
        for (method, path) in requests {
            let answer = ask(&relay, method, path).await;
            assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{failure:?} {method} {path}");
            assert!(answer.header("retry-after").is_some());
        }
    }
    *parked.hangs.lock() = true;
    assert_eq!(ask(&relay, "GET", "/parked").await.code(), "overloaded", "a request has an end");
    assert_eq!(ask(&relay, "POST", "/parked/1/retry").await.code(), "outbox_timeout");
}
