//! `/dead-letters`: the calls that Segment refused. Operators read, replay or discard them.
//!
//! A replayed call keeps its `messageId` and its old values. It goes behind the user's waiting calls, so it may
//! overwrite newer values. Actions are logged with ids and counts, and with nothing of a call.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::page::{self, PageQuery};
use super::state::AdminState;
use crate::api::error::ApiError;
use crate::api::request_id::RequestId;
use crate::api::state::{Admin, AppState};
use crate::outbox::{DeadLetters, OutboxError};
use crate::telemetry::EVERY_LINE;

/// The id in a path, if it is a number.
type LetterId = Result<Path<i64>, PathRejection>;

/// How many dead letters will be sent again.
#[derive(Serialize)]
pub(super) struct Replayed {
    replayed: u64,
}

/// `GET /dead-letters?limit=100&before=ID`: newest first.
pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<([(HeaderName, &'static str); 1], Body), ApiError> {
    let dead_letters = dead_letters(&admin)?.clone();
    let range = query.map_err(|_| page::invalid_query())?.0.range()?;
    let permit = admin.page_permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::overloaded("too many pages are being read; try again"))?;
    // The read may outlast the request. It keeps its permit until it ends, so that abandoned reads do not pile up.
    let (sender, receiver) = oneshot::channel();
    // One more than is shown tells whether there are more.
    let limit = range.limit + 1;
    state.supervisor.spawn("dead letters", async move {
        let letters = dead_letters.list(limit, range.before).await;
        // If the request is gone, this releases the permit.
        let _ = sender.send((letters, permit));
    });
    let (letters, permit) = receiver.await.map_err(|_| OutboxError::Unreadable)?;
    Ok(([(CONTENT_TYPE, "application/json")], page::body(letters?, range.limit, permit)))
}

/// `POST /dead-letters/{id}/replay`
pub(super) async fn replay(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    id: LetterId,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let id = on_letter(&state, &admin, id, |dead_letters, id| async move { dead_letters.replay(id).await }).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), dead_letter = id, "a dead letter will be sent again");
    Ok((StatusCode::ACCEPTED, Json(Replayed { replayed: 1 })))
}

/// `POST /dead-letters/replay`: all of them. This alone has no time limit: putting back a million letters takes long, and an
/// answer before the end would only hide how many there were.
pub(super) async fn replay_all(
    Admin(admin): Admin,
    request_id: RequestId,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let count = dead_letters(&admin)?.replay_all().await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), count, "all dead letters will be sent again");
    Ok((StatusCode::ACCEPTED, Json(Replayed { replayed: count })))
}

/// `DELETE /dead-letters/{id}`
pub(super) async fn discard(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    id: LetterId,
) -> Result<StatusCode, ApiError> {
    let id = on_letter(&state, &admin, id, |dead_letters, id| async move { dead_letters.discard(id).await }).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), dead_letter = id, "a dead letter was discarded");
    Ok(StatusCode::NO_CONTENT)
}

/// Does something to one letter within the time of a request, and returns its id.
async fn on_letter<F>(
    state: &AppState,
    admin: &AdminState,
    id: LetterId,
    action: impl FnOnce(Arc<dyn DeadLetters>, i64) -> F,
) -> Result<i64, ApiError>
where
    F: Future<Output = Result<bool, OutboxError>>,
{
    let dead_letters = dead_letters(admin)?;
    let unknown = || ApiError::not_found("there is no dead letter with this id");
    let Path(id) = id.map_err(|_| unknown())?;
    let action = timeout(state.request_timeout, action(dead_letters.clone(), id));
    let was_there = action.await.unwrap_or(Err(OutboxError::Unconfirmed))?;
    was_there.then_some(id).ok_or_else(unknown)
}

fn dead_letters(admin: &AdminState) -> Result<&Arc<dyn DeadLetters>, ApiError> {
    let no_outbox = "no outbox is configured (RELAY_OUTBOX_URL), so there are no dead letters";
    admin.dead_letters.as_ref().ok_or_else(|| ApiError::not_found(no_outbox))
}
