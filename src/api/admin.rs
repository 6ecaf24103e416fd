//! The endpoints of those who operate the relay: what it does, and the calls that Segment refused.
//!
//! They are there only if a token is set: without one these paths are like any other at which there is nothing. Every
//! request to them must show the token, one with a wrong method included. No answer may be kept by a cache.

pub(super) mod dead_letters;
pub(super) mod page;
pub(super) mod report;

use std::sync::Arc;

use axum::extract::{FromRef, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::{self, Next};
use axum::response::Response;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::AppState;
use super::answer::{Answer, Failure};
use super::code::Code;
use super::openapi::{Routes, operator as describe};
use super::request_id::RequestId;
use crate::auth::Tokens;
use crate::outbox::DeadLetters;

pub use report::{Durations, OutboxReport, SegmentReport};

/// Pages of dead letters that are being read or sent at once, 32 MiB each at the most: a few operators and their scripts.
const MAX_PAGES: usize = 4;

/// What the operator's endpoints need. Injected.
pub struct Operator {
    token: Tokens,
    /// None without an outbox.
    dead_letters: Option<Arc<dyn DeadLetters>>,
    segment: Box<dyn Fn() -> SegmentReport + Send + Sync>,
    outbox: Box<dyn Fn() -> Option<OutboxReport> + Send + Sync>,
    pages: Arc<Semaphore>,
    started: (Timestamp, Instant),
}

impl Operator {
    /// Whoever shows `token` may ask for the status and see to `dead_letters`.
    pub fn new(token: &str, dead_letters: Option<Arc<dyn DeadLetters>>) -> Self {
        Self {
            token: Tokens::new(&[token]),
            dead_letters,
            segment: Box::new(SegmentReport::default),
            outbox: Box::new(|| None),
            pages: Arc::new(Semaphore::new(MAX_PAGES)),
            started: (Timestamp::now(), Instant::now()),
        }
    }

    /// Asks `segment` and `outbox` how things are whenever somebody wants to know.
    #[must_use]
    pub fn reporting(
        self,
        segment: impl Fn() -> SegmentReport + Send + Sync + 'static,
        outbox: impl Fn() -> Option<OutboxReport> + Send + Sync + 'static,
    ) -> Self {
        Self { segment: Box::new(segment), outbox: Box::new(outbox), ..self }
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Desk {
    state: Arc<AppState>,
    operator: Arc<Operator>,
}

impl FromRef<Desk> for Arc<AppState> {
    fn from_ref(desk: &Desk) -> Self {
        desk.state.clone()
    }
}

/// The operator's routes.
pub(super) fn routes(state: Arc<AppState>, operator: Arc<Operator>) -> Routes<Arc<AppState>> {
    let desk = Desk { state, operator };
    let routes = Routes::new()
        .get("/status", report::get, describe::status())
        .get("/dead-letters", dead_letters::list, describe::list())
        .post("/dead-letters/replay", dead_letters::replay_all, describe::replay_all())
        .delete("/dead-letters/{id}", dead_letters::discard, describe::discard())
        .post("/dead-letters/{id}/replay", dead_letters::replay, describe::replay());
    routes.on_router(|router| {
        router
            .method_not_allowed_fallback(super::method_not_allowed)
            .route_layer(middleware::from_fn_with_state(desk.clone(), admit))
            .with_state(desk)
    })
}

/// Lets those in who show the token.
async fn admit(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let mut response = match desk.operator.token.check_bearer(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(fault) => {
            let failure =
                Failure::new(Code::Unauthorized, "this needs the header Authorization: Bearer and the admin token");
            super::customers::challenged(fault.challenge, Answer::failure(&failure))
                .with_id(&RequestId::of(request.headers()))
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
