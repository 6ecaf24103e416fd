//! The operators' routes: how the relay is, what became of a call, the parked users and dead letters, and a backup.
//!
//! The routes exist only if a token is set: without one their paths are 404 like any other. Every request to them must show
//! the token, also one with a wrong method. `record` logs and counts every request.

mod backup;
mod calls;
mod dead_letters;
mod forget;
mod history;
mod letter_query;
mod paced_replay;
pub(super) mod page;
mod parked;
mod preview;
mod record;
mod replay;
mod report;
pub(super) mod state;
mod status;
mod status_events;
mod summary;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};

use super::error::{ApiError, method_not_allowed};
use super::state::AppState;
use crate::auth::Unauthorized;
use crate::server::Connection;
use record::{Operation, OperationRecord};

/// Every operators' route. Of two that fit a path the first is meant.
const ROUTES: [&str; 15] = [
    "/status",
    "/status/events",
    "/calls/{messageId}",
    "/forget",
    "/backup",
    "/dead-letters",
    "/dead-letters/replay",
    "/dead-letters/{id}",
    "/dead-letters/{id}/replay",
    "/dead-letters/{id}/preview",
    "/parked",
    "/parked/retry",
    "/parked/give-up",
    "/parked/{id}/retry",
    "/parked/{id}/give-up",
];

pub use report::{
    DurationSummary, OutboxReport, ParkedReport, SegmentReport, ShutGate, TroubleReport, UnconfiguredSource,
};
pub use state::AdminState;

/// The routes that only read. The caller sets a time limit.
pub(super) fn read_routes(state: &Arc<AppState>) -> Router<Arc<AppState>> {
    operators(state, "/status", get(status::get)).merge(operators(state, "/parked", get(parked::list)))
}

/// The routes that change something, the others of the same paths, the events and the backup. Each sets its own time limit, or has
/// none: the answer must not hide the outcome of a change that has begun.
pub(super) fn write_routes(state: &Arc<AppState>) -> Router<Arc<AppState>> {
    operators(state, "/status/events", get(status_events::get))
        .merge(operators(state, "/backup", get(backup::get).head(backup::head)))
        .merge(operators(state, "/forget", post(forget::post)))
        .merge(operators(state, "/dead-letters", get(dead_letters::list).delete(dead_letters::discard_all)))
        .merge(operators(state, "/dead-letters/replay", post(dead_letters::replay_all)))
        .merge(operators(state, "/dead-letters/{id}", delete(dead_letters::discard)))
        .merge(operators(state, "/dead-letters/{id}/replay", post(dead_letters::replay)))
        .merge(operators(state, "/dead-letters/{id}/preview", get(preview::get)))
        .merge(operators(state, "/calls/{messageId}", get(calls::get)))
        .merge(operators(state, "/parked/retry", post(parked::retry_all)))
        .merge(operators(state, "/parked/give-up", post(parked::give_up_all)))
        .merge(operators(state, "/parked/{id}/retry", post(parked::retry)))
        .merge(operators(state, "/parked/{id}/give-up", post(parked::give_up)))
}

/// One route, if a token is set.
fn operators(
    state: &Arc<AppState>,
    route: &'static str,
    methods: MethodRouter<Arc<AppState>>,
) -> Router<Arc<AppState>> {
    debug_assert!(ROUTES.contains(&route), "{route} is not in the list");
    let Some(admin) = state.admin.clone() else { return Router::new() };
    let guard = from_fn_with_state((state.clone(), admin, route), require_token);
    Router::new().route(route, methods).method_not_allowed_fallback(method_not_allowed).route_layer(guard)
}

/// Lets a request pass that shows the token.
async fn require_token(
    State((state, admin, route)): State<(Arc<AppState>, Arc<AdminState>, &'static str)>,
    request: Request<Body>,
    next: Next,
) -> Result<Response, ApiError> {
    let what = Operation::new(&request, route);
    let verdict = admin.token.read().verify_bearer(request.headers());
    if let Err(Unauthorized { challenge, .. }) = verdict {
        state.metrics.admin_unauthorized.inc();
        what.refused(StatusCode::UNAUTHORIZED);
        let message = "this needs the header Authorization: Bearer and the admin token".to_owned();
        return Err(Unauthorized { message, challenge }.into());
    }
    request.extensions().get::<Connection>().into_iter().for_each(Connection::set_known);
    let mut record = OperationRecord::begin(what, state.metrics.clone());
    let response = next.run(request).await;
    record.ended(response.status());
    Ok(response)
}

/// Records a request that was refused before it reached a route, if it was for an operators' one. Everyone can send these, so
/// they are bounded in the log as those without the token.
pub(super) fn record_refused<B>(state: &AppState, request: &Request<B>, status: StatusCode) {
    let route = ROUTES.iter().find(|route| is_of(route, request.uri().path()));
    if let (Some(_), Some(route)) = (&state.admin, route) {
        state.metrics.admin_failed.inc();
        Operation::new(request, route).refused(status);
    }
}

/// Whether the router would take this path to this route.
fn is_of(route: &str, path: &str) -> bool {
    let (mut names, mut segments) = (route.split('/'), path.split('/'));
    loop {
        match (names.next(), segments.next()) {
            (None, None) => return true,
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {}
            (Some(name), Some(segment)) if name == segment => {}
            _ => return false,
        }
    }
}
