//! `/parked`: the users whose first waiting call fails on its own while others are accepted. Operators list them, try their
//! calls now, or give the calls up.
//!
//! A call that is given up becomes a dead letter. Actions are logged with ids and counts, and with nothing of a call.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::page::{self, MAX_LIMIT, NoQuery, PageQuery, PageRange};
use super::state::AdminState;
use crate::api::error::{ApiError, ApiErrorCode};
use crate::api::request_id::RequestId;
use crate::api::state::{Admin, AppState};
use crate::outbox::{OutboxError, ParkedFilter, ParkedUsers};
use crate::segment::ErrorCode;
use crate::telemetry::EVERY_LINE;

/// The id in a path, if it is a number.
type UserPathId = Result<Path<i64>, PathRejection>;

/// How many parked calls are tried now.
#[derive(Serialize)]
pub(super) struct Retried {
    retried: u64,
}

/// How many calls were given up, or are when their request ends without success.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GaveUp {
    gave_up: u64,
}

/// Which users are listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ListQuery {
    limit: Option<usize>,
    before: Option<i64>,
    user_id: Option<String>,
}

/// Which users are meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ParkedQuery {
    status: Option<u16>,
    source: Option<String>,
    user_id: Option<String>,
}

impl ParkedQuery {
    fn filter(self) -> Result<ParkedFilter, ApiError> {
        let Self { status, source, user_id } = self;
        // The statuses that HTTP can write.
        let is_valid = status.is_none_or(|status| (100..=999).contains(&status))
            && source.as_deref() != Some("")
            && user_id.as_deref() != Some("");
        is_valid.then_some(ParkedFilter { status, source, user_id }).ok_or_else(invalid_filter)
    }
}

/// `GET /parked?limit=100&before=ID&userId=c-1`: newest first.
pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<([(HeaderName, &'static str); 1], Body), ApiError> {
    let parked = parked(&admin)?.clone();
    let ListQuery { limit, before, user_id } = query.map_err(|_| invalid_list())?.0;
    let PageRange { limit, before } = PageQuery { limit, before }.range().ok_or_else(invalid_list)?;
    if user_id.as_deref() == Some("") {
        return Err(invalid_list());
    }
    let permit = admin.page_permit("too many pages are being read; try again")?;
    // The read may outlast the request. It keeps its permit until it ends, so that abandoned reads do not pile up.
    let (sender, receiver) = oneshot::channel();
    state.supervisor.spawn("parked", async move {
        // One more than is shown tells whether there are more. If the request is gone, this releases the permit.
        let _ = sender.send((parked.list(limit + 1, before, user_id).await, permit));
    });
    let (users, permit) = receiver.await.map_err(|_| OutboxError::Unreadable)?;
    let mut users = users?;
    let has_more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().filter(|_| has_more).map(|last| last.id);
    Ok(([(CONTENT_TYPE, "application/json")], page::rows("parked", users, next, permit)))
}

/// `POST /parked/{id}/retry`
pub(super) async fn retry(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    _: NoQuery,
    id: UserPathId,
) -> Result<(StatusCode, Json<Retried>), ApiError> {
    let id = on_user(&state, &admin, id, |parked, id| async move { parked.retry(id).await }).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), parked = id, "a parked call will be tried now");
    Ok((StatusCode::ACCEPTED, Json(Retried { retried: 1 })))
}

/// `POST /parked/retry?status=503&source=shop`. As a replay of all dead letters it has no time limit: the answer says how many
/// there were.
pub(super) async fn retry_all(
    Admin(admin): Admin,
    request_id: RequestId,
    query: Result<Query<ParkedQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<Retried>), ApiError> {
    let parked = parked(&admin)?;
    let filter = query.map_err(|_| invalid_filter())?.0.filter()?;
    let status = filter.status;
    let count = parked.retry_all(filter).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), status, count, "parked calls will be tried now");
    Ok((StatusCode::ACCEPTED, Json(Retried { retried: count })))
}

/// `POST /parked/{id}/give-up`
pub(super) async fn give_up(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
    _: NoQuery,
    id: UserPathId,
) -> Result<(StatusCode, Json<GaveUp>), ApiError> {
    let id = on_user(&state, &admin, id, |parked, id| async move { parked.give_up(id).await }).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), parked = id, "a parked call was given up");
    Ok((StatusCode::ACCEPTED, Json(GaveUp { gave_up: 1 })))
}

/// `POST /parked/give-up?status=403&source=shop`. It has no time limit, as [`retry_all`].
pub(super) async fn give_up_all(
    Admin(admin): Admin,
    request_id: RequestId,
    query: Result<Query<ParkedQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<GaveUp>), ApiError> {
    let parked = parked(&admin)?;
    let filter = query.map_err(|_| invalid_filter())?.0.filter()?;
    let status = filter.status;
    let count = parked.give_up_all(filter).await?;
    tracing::info!(name: EVERY_LINE, request_id = request_id.as_str(), status, count, "parked calls were given up");
    Ok((StatusCode::ACCEPTED, Json(GaveUp { gave_up: count })))
}

/// Does something to one user within the time of a request, and returns the id.
async fn on_user<F>(
    state: &AppState,
    admin: &AdminState,
    id: UserPathId,
    action: impl FnOnce(Arc<dyn ParkedUsers>, i64) -> F,
) -> Result<i64, ApiError>
where
    F: Future<Output = Result<bool, OutboxError>>,
{
    let parked = parked(admin)?;
    let unknown = || ApiError::not_found("there is no parked user with this id");
    let Path(id) = id.map_err(|_| unknown())?;
    let action = timeout(state.request_timeout, action(parked.clone(), id));
    let was_there = action.await.unwrap_or(Err(OutboxError::Unconfirmed))?;
    was_there.then_some(id).ok_or_else(unknown)
}

/// The answer to a list's query that breaks a rule. It repeats nothing of the query.
fn invalid_list() -> ApiError {
    let message = format!(
        "limit must be a whole number from 1 to {MAX_LIMIT}, before the id of a parked user, and userId a user's id; each may be \
         there once, and there are no parameters but these"
    );
    ApiError::new(ApiErrorCode::Call(ErrorCode::InvalidPayload), message)
}

fn invalid_filter() -> ApiError {
    let message = "status must be a whole number from 100 to 999, source the name of a source, and userId a user's id; each may be \
                   there once, and there are no parameters but these";
    ApiError::new(ApiErrorCode::Call(ErrorCode::InvalidPayload), message)
}

fn parked(admin: &AdminState) -> Result<&Arc<dyn ParkedUsers>, ApiError> {
    let no_outbox = "no outbox is configured (RELAY_OUTBOX_URL), so there are no parked users";
    admin.parked.as_ref().ok_or_else(|| ApiError::not_found(no_outbox))
}
