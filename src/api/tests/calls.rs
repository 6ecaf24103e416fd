//! `GET /calls/{messageId}` over a store in memory: what it says, and that it never says 404 before the look has ended.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use parking_lot::Mutex;
use serde_json::json;

use super::{Answer, Relay};
use crate::api::AdminState;
use crate::outbox::{CallFate, CallReport, Calls, OutboxError};

/// One call that was accepted, and nothing else.
#[derive(Default)]
struct FakeCalls {
    asked: Mutex<Vec<String>>,
    failure: Mutex<Option<OutboxError>>,
    hangs: Mutex<bool>,
}

#[async_trait]
impl Calls for FakeCalls {
    async fn find(&self, message_id: &str) -> Result<Option<CallReport>, OutboxError> {
        self.asked.lock().push(message_id.to_owned());
        if *self.hangs.lock() {
            std::future::pending::<()>().await;
        }
        let report = || CallReport { message_id: message_id.to_owned(), outcome: CallFate::Accepted, kept: None };
        self.failure.lock().map_or(Ok((message_id == "a/b").then(report)), Err)
    }
}

fn with_calls() -> (Relay, Arc<FakeCalls>) {
    let calls = Arc::new(FakeCalls::default());
    let admin = AdminState::new("t0ken", None).with_calls(Some(calls.clone()));
    (Relay::with(1, |state| state.with_admin(admin)), calls)
}

async fn ask(relay: &Relay, path: &str) -> Answer {
    let request = Request::get(path).header("authorization", "Bearer t0ken");
    relay.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn an_id_is_decoded_and_an_unknown_one_is_not_found() {
    let (relay, calls) = with_calls();
    let found = ask(&relay, "/calls/a%2Fb").await;
    assert_eq!((found.status.as_u16(), found.json()), (200, json!({"messageId": "a/b", "outcome": "accepted"})));
    for path in ["/calls/ab", "/calls/%ff", "/calls/a/b", "/calls/a%252Fb"] {
        let answer = ask(&relay, path).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "not_found"), "{path}");
    }
    assert_eq!(*calls.asked.lock(), ["a/b", "ab", "a%2Fb"]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_does_not_end_in_time_is_no_404_and_few_are_at_once() {
    let (relay, calls) = with_calls();
    *calls.failure.lock() = Some(OutboxError::Unreadable);
    let answer = ask(&relay, "/calls/m-1").await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (503, "overloaded"));
    *calls.hangs.lock() = true;
    let asked = [(); 6].map(|()| ask(&relay, "/calls/m-1"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!((answer.status.as_u16(), &*answer.code()), (503, "overloaded"));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(calls.asked.lock().len(), 1 + 4, "two had no place");
}
