//! The operators' routes: how the relay is, its parked users and dead letters, and a backup.
//!
//! The routes exist only if a token is set: without one their paths are 404 like any other. Every request to them must show
//! the token, also one with a wrong method. `record` logs and counts every request.

mod backup;
mod dead_letters;
pub(super) mod page;
mod parked;
mod record;
mod report;
pub(super) mod state;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};

use super::error::{ApiError, method_not_allowed};
use super::state::AppState;
use crate::auth::Unauthorized;
use record::{Operation, OperationRecord};

pub use report::{DurationSummary, OutboxReport, ParkedReport, SegmentReport, ShutGate};
pub use state::AdminState;

/// The routes that only read. The caller sets a time limit.
pub(super) fn read_routes(state: &Arc<AppState>) -> Router<Arc<AppState>> {
    operators(state, "/status", get(status::get))
        .merge(operators(state, "/dead-letters", get(dead_letters::list)))
        .merge(operators(state, "/parked", get(parked::list)))
}

/// The routes that change something, and the backup. Each sets its own time limit, or has none: the answer must not hide the
/// outcome of a change that has begun.
pub(super) fn write_routes(state: &Arc<AppState>) -> Router<Arc<AppState>> {
    operators(state, "/backup", get(backup::get).head(backup::head))
        .merge(operators(state, "/dead-letters/replay", post(dead_letters::replay_all)))
        .merge(operators(state, "/dead-letters/{id}", delete(dead_letters::discard)))
        .merge(operators(state, "/dead-letters/{id}/replay", post(dead_letters::replay)))
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
    let Some(admin) = state.admin.clone() else { return Router::new() };
    let guard = from_fn_with_state((state.clone(), admin, route), require_token);
    Router::new().route(route, methods).method_not_allowed_fallback(method_not_allowed).route_layer(guard)
}

/// Lets a request pass that shows the token.
async fn require_token(
    State((state, admin, route)): State<(Arc<AppState>, Arc<AdminState>, &'static str)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let what = Operation::new(&request, route);
    let verdict = admin.token.read().verify_bearer(request.headers());
    if let Err(Unauthorized { challenge, .. }) = verdict {
        state.metrics.admin_unauthorized.inc();
        admin.refusals.refused(&state.supervisor, &what);
        let message = "this needs the header Authorization: Bearer and the admin token".to_owned();
        return Err(Unauthorized { message, challenge }.into());
    }
    let mut record = OperationRecord::begin(what, state.metrics.clone());
    let response = next.run(request).await;
    record.ended(response.status());
    Ok(response)
}
