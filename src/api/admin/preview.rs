//! `GET /dead-letters/{id}/preview`: what its source's filter makes of an `unmapped` event now. It changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;

use super::dead_letters::{dead_letters, permit, unknown};
use super::page::NoQuery;
use crate::api::error::ApiError;
use crate::api::state::{Admin, AppState};
use crate::outbox::{DeadLetters, LetterFilter, OutboxError};
use crate::sources::Preview;
use crate::sources::event::Unmapped;

/// The answer.
#[derive(Serialize)]
pub(super) struct PreviewAnswer {
    customers: Vec<Box<RawValue>>,
    problems: Vec<Problem>,
}

/// Why a replay would fail now.
#[derive(Serialize)]
struct Problem {
    /// A JSON pointer into `customers`, if it is one field's.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
}

/// `GET /dead-letters/{id}/preview`
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    _: NoQuery,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<PreviewAnswer>, ApiError> {
    let letters = dead_letters(&admin)?;
    let Path(id) = id.map_err(|_| unknown())?;
    let _permit = permit(&admin)?;
    let preview = async {
        match &state.sources {
            Some(sources) => sources.preview(id).await,
            None => Ok(Preview::Gone),
        }
    };
    let preview = timeout(state.request_timeout, preview).await;
    let preview = preview.map_err(|_| ApiError::overloaded("the filter did not answer in time; try again"))??;
    let (customers, problems) = match preview {
        Preview::Gone => return Err(no_event(&**letters, id).await?),
        Preview::Overloaded => {
            return Err(ApiError::overloaded("too many events of this source wait for its filter; try again"));
        }
        Preview::NotConfigured => (
            Vec::new(),
            vec![problem("the source of this event is not configured, so there is no filter for it".to_owned())],
        ),
        Preview::Made { customers, why_not } => (customers, why_not.map(problems).unwrap_or_default()),
    };
    let customers = customers.iter().map(|text| customer(text)).collect();
    Ok(Json(PreviewAnswer { customers, problems }))
}

/// A customer as the filter wrote it. One that is not JSON, because jq writes NaN, is shown as a string.
fn customer(text: &[u8]) -> Box<RawValue> {
    let as_string = |_| to_raw_value(&String::from_utf8_lossy(text)).unwrap_or_else(|_| RawValue::NULL.to_owned());
    serde_json::from_slice(text).unwrap_or_else(as_string)
}

fn problems(why: Unmapped) -> Vec<Problem> {
    match why {
        Unmapped::Invalid(broken) => {
            broken.into_iter().map(|rule| Problem { field: Some(rule.field), message: rule.message }).collect()
        }
        // The operator may read what the sender may not.
        other => vec![problem(other.to_string())],
    }
}

fn problem(message: String) -> Problem {
    Problem { field: None, message }
}

/// Why there is no event with this id.
async fn no_event(letters: &dyn DeadLetters, id: i64) -> Result<ApiError, OutboxError> {
    let only = LetterFilter { before: Some(id.saturating_add(1)), ..LetterFilter::default() };
    let is_call = letters.find(id, 1, only).await?.ids.contains(&id);
    let message = "this dead letter is a call and not an event: no filter makes anything of it";
    Ok(if is_call { ApiError::not_found(message) } else { unknown() })
}
