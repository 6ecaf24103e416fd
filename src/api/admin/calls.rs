//! `GET /calls/{messageId}`: what became of a call.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use tokio::time::timeout;

use super::page::NoQuery;
use crate::api::error::ApiError;
use crate::api::state::{Admin, AppState};
use crate::outbox::CallReport;

/// `GET /calls/{messageId}`. The store may look at all calls it has, so this is bounded as the pages are, and never says 404
/// before the look has ended.
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    _: NoQuery,
    message_id: Result<Path<String>, PathRejection>,
) -> Result<Json<CallReport>, ApiError> {
    let no_outbox = "no outbox is configured (RELAY_OUTBOX_URL), so nothing is known of a call after its answer";
    let calls = admin.calls.as_ref().ok_or_else(|| ApiError::not_found(no_outbox))?;
    let unknown = || {
        ApiError::not_found(
            "nothing is known of a call with this messageId: it was accepted without a key, or longer ago than its key is \
             remembered, or it never came here",
        )
    };
    let Path(message_id) = message_id.map_err(|_| unknown())?;
    let _permit = admin.page_permit("too many requests about calls are in progress; try again")?;
    let in_time = timeout(state.request_timeout, calls.find(&message_id)).await.map_err(|_| {
        ApiError::overloaded(
            "the outbox holds so many calls that the look at all of them did not end in time; try again",
        )
    })?;
    in_time?.map(Json).ok_or_else(unknown)
}
