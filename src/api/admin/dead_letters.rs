//! `/dead-letters`: the calls that were not delivered. Operators read, replay or discard one of them, or many.
//!
//! A replayed call keeps its `messageId` and its old values. It goes behind the user's waiting calls, so it may
//! overwrite newer values. `replay` says what becomes of an event. Actions are logged with ids and counts, and with nothing
//! of a call.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::letter_query::{Asked, LetterQuery};
use super::paced_replay::{PacedReplay, count};
use super::page::{self, NoQuery};
use super::replay::{self, replay_event};
use super::state::AdminState;
use crate::api::error::ApiError;
use crate::api::request_id::RequestId;
use crate::api::state::{Admin, AppState};
use crate::outbox::{DeadLetters, LetterWalk, OutboxError};
use crate::telemetry::EVERY_LINE;

/// The id in a path, if it is a number.
type LetterId = Result<Path<i64>, PathRejection>;

/// How many dead letters will be sent again.
#[derive(Serialize)]
pub(super) struct Replayed {
    replayed: u64,
}

/// How many dead letters were deleted.
#[derive(Serialize)]
pub(super) struct Discarded {
    discarded: u64,
}

/// `GET /dead-letters?limit=100&before=ID`: newest first.
pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    query: Asked,
) -> Result<([(HeaderName, &'static str); 1], Body), ApiError> {
    let dead_letters = dead_letters(&admin)?.clone();
    let (limit, filter) = LetterQuery::list(query)?;
    let permit = permit(&admin)?;
    // The read may outlast the request. It keeps its permit until it ends, so that abandoned reads do not pile up.
    let read = async move { dead_letters.list(limit, filter).await.map(|page| (page, permit)) };
    let read = timeout(state.request_timeout, to_the_end(&state, read));
    let in_time = read.await.map_err(|_| ApiError::overloaded("the answer was not ready in time; try again"))?;
    let (page, permit) = in_time?;
    Ok(([(CONTENT_TYPE, "application/json")], page::body(page, permit)))
}

/// `POST /dead-letters/{id}/replay`
pub(super) async fn replay(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    _: NoQuery,
    id: LetterId,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let sources = state.sources.as_deref();
    let replay = |letters: Arc<dyn DeadLetters>, id| async move {
        if replay_event(sources, id).await? { Ok(1) } else { Ok(letters.replay(vec![id]).await?) }
    };
    let id = on_letter(&state, &admin, id, replay).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), dead_letter = id, "a dead letter will be sent again");
    Ok((StatusCode::ACCEPTED, Json(Replayed { replayed: 1 })))
}

/// `POST /dead-letters/replay`: all of them, or those that fit. This and the deletion of many have no time limit: putting
/// back a million letters takes long, and an answer before the end would only hide how many there were. With a pace the
/// answer comes first, and says how many fit.
pub(super) async fn replay_all(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    query: Asked,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let dead_letters = dead_letters(&admin)?.clone();
    let (filter, per_second) = LetterQuery::replay(query)?;
    let sources = state.sources.clone();
    let replayed = match per_second {
        None => {
            let permit = permit(&admin)?;
            let replay = async move {
                let mut walk = LetterWalk::start(dead_letters.clone(), filter).await?;
                let mut replayed = 0;
                while let Some(found) = walk.step(usize::MAX).await? {
                    replay::replay(&*dead_letters, sources.as_deref(), &found, &mut replayed).await?;
                }
                drop(permit);
                Ok(replayed)
            };
            let count = to_the_end(&state, replay).await?;
            tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), count, "dead letters will be sent again");
            count
        }
        Some(per_second) => {
            let Ok(running) = admin.paced_permit.clone().try_acquire_owned() else {
                return Err(ApiError::overloaded("a replay with a pace is in progress; only one is at a time"));
            };
            let permit = permit(&admin)?;
            let walk = LetterWalk::start(dead_letters.clone(), filter).await?;
            let count = count(walk.clone()).await?;
            drop(permit);
            let request_id = request_id.as_str().to_owned();
            tracing::info!(name: EVERY_LINE, request_id, count, per_second, "dead letters will be sent again at a pace");
            PacedReplay { dead_letters, sources, walk, per_second, request_id }.start(&state.supervisor, running);
            count
        }
    };
    Ok((StatusCode::ACCEPTED, Json(Replayed { replayed })))
}

/// `DELETE /dead-letters`: those that fit, or all if the query says so.
pub(super) async fn discard_all(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    query: Asked,
) -> Result<Json<Discarded>, ApiError> {
    let dead_letters = dead_letters(&admin)?.clone();
    let filter = LetterQuery::discard(query)?;
    let permit = permit(&admin)?;
    let discard = async move {
        let mut walk = LetterWalk::start(dead_letters.clone(), filter).await?;
        let mut discarded = 0;
        while let Some(found) = walk.step(usize::MAX).await? {
            discarded += dead_letters.discard(found.ids).await?;
        }
        drop(permit);
        Ok(discarded)
    };
    let discarded = to_the_end(&state, discard).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), count = discarded, "dead letters were discarded");
    Ok(Json(Discarded { discarded }))
}

/// `DELETE /dead-letters/{id}`
pub(super) async fn discard(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    _: NoQuery,
    id: LetterId,
) -> Result<StatusCode, ApiError> {
    let discard = |letters: Arc<dyn DeadLetters>, id| async move { Ok(letters.discard(vec![id]).await?) };
    let id = on_letter(&state, &admin, id, discard).await?;
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
    F: Future<Output = Result<u64, ApiError>>,
{
    let dead_letters = dead_letters(admin)?;
    let Path(id) = id.map_err(|_| unknown())?;
    let action = timeout(state.request_timeout, action(dead_letters.clone(), id));
    let count = action.await.unwrap_or(Err(OutboxError::Unconfirmed.into()))?;
    if count > 0 { Ok(id) } else { Err(unknown()) }
}

/// Finishes the work even if its caller leaves.
async fn to_the_end<T: Send + 'static>(
    state: &AppState,
    work: impl Future<Output = Result<T, OutboxError>> + Send + 'static,
) -> Result<T, OutboxError> {
    let (sender, receiver) = oneshot::channel();
    state.supervisor.spawn("dead letters", async move {
        // If the caller is gone, this drops the result.
        let _ = sender.send(work.await);
    });
    receiver.await.map_err(|_| OutboxError::Unreadable)?
}

pub(super) fn unknown() -> ApiError {
    ApiError::not_found("there is no dead letter with this id")
}

/// The right to go through the letters.
pub(super) fn permit(admin: &AdminState) -> Result<OwnedSemaphorePermit, ApiError> {
    admin.page_permit("too many requests about dead letters are in progress; try again")
}

pub(super) fn dead_letters(admin: &AdminState) -> Result<&Arc<dyn DeadLetters>, ApiError> {
    let no_outbox = "no outbox is configured (RELAY_OUTBOX_URL), so there are no dead letters";
    admin.dead_letters.as_ref().ok_or_else(|| ApiError::not_found(no_outbox))
}
