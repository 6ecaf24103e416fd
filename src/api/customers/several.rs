//! Several customers in one request: an outcome for each, and one answer.
//!
//! Whatever is wrong with one customer concerns no other. What could be stored or sent is.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use tokio::sync::SemaphorePermit;

use crate::api::body::{BodyError, MAX_BODY, WholeBody};
use crate::api::error::{ApiError, ApiErrorCode, FailureRecord, REPLAYED, whole_seconds};
use crate::api::prefer::{self, Wait};
use crate::api::proven_body::{BodyForm, ProvenBody, TOO_MANY_REQUESTS};
use crate::api::state::AppState;
use crate::customer::{BrokenRule, Customers, MAX_CUSTOMERS, PayloadError};
use crate::metrics::Metrics;
use crate::segment::{DeliveryState, ErrorCode, GroupTerms, IdempotencyKey, Receipt, SegmentError};

/// Bytes for which a request takes one more place in flight. A request with one customer holds a call of up to as many.
const BYTES_OF_A_PLACE: usize = 32 * 1024;

/// What a customer takes in memory beside its text, in bytes, roughly: the call's envelope, its id, its place in the queue.
const CUSTOMER_OVERHEAD: usize = 1024;

/// Customers after which other requests on the same thread get their turn: it takes them less than a millisecond.
const CUSTOMERS_IN_A_ROW: usize = 64;

/// The answer to several customers.
pub(in crate::api) struct Outcomes {
    each: Vec<Outcome>,
    /// The `Preference-Applied` header.
    applied: Option<HeaderValue>,
}

/// An extension of an answer whose customers are counted already, each by its own outcome.
#[derive(Clone)]
pub(super) struct Counted;

/// What became of one of several customers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(serialize_with = "number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(flatten)]
    failure: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    #[serde(serialize_with = "word")]
    code: ApiErrorCode,
    message: Cow<'static, str>,
    #[serde(skip_serializing_if = "<[BrokenRule]>::is_empty")]
    details: Box<[BrokenRule]>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    record: FailureRecord,
}

/// Takes the customers of a request, whose place in flight the caller holds.
pub(super) async fn take(
    state: &AppState,
    wait: Option<Wait>,
    header_key: Option<IdempotencyKey>,
    body: ProvenBody,
) -> Result<Outcomes, ApiError> {
    let ProvenBody { body: WholeBody { bytes, room }, form, deadline, signed_key } = body;
    let customers = match form {
        BodyForm::Json => Customers::from_array(&bytes)?,
        BodyForm::Lines => Customers::from_lines(&bytes),
    };
    let places = check_count(customers.count).map(|()| further_places(bytes.len(), customers.count, state))?;
    let _places = take_places(state, places)?;
    let (wait, applied, _waiter_place) = state.grant_wait(wait, places + 1);
    let terms = GroupTerms { deadline, key: signed_key.or(header_key), wait, source: None, is_all_or_nothing: false };
    let mut group = state.clients.open_group(terms);
    let mut each = Vec::with_capacity(customers.read.len());
    for (place, customer) in customers.read.into_iter().enumerate() {
        if place % CUSTOMERS_IN_A_ROW == CUSTOMERS_IN_A_ROW - 1 {
            tokio::task::yield_now().await;
        }
        each.push(match customer.payload {
            _ if customer.text.len() > MAX_BODY => Some(ApiError::from(BodyError::TooLarge(MAX_BODY)).into()),
            Ok(payload) => group.identify(place, &payload).err().map(Outcome::from),
            Err(error) => Some(ApiError::from(error).into()),
        });
    }
    // Nothing of the body is kept while the outcomes are waited for.
    drop(bytes);
    drop(room);
    let mut flushed = group.flush().await.into_iter();
    let mut settled = || flushed.next().map_or_else(|| ApiError::internal().into(), Outcome::from);
    let each: Vec<Outcome> = each.into_iter().map(|failed| failed.unwrap_or_else(&mut settled)).collect();
    each.iter().for_each(|outcome| outcome.count(&state.metrics));
    Ok(Outcomes { each, applied })
}

fn check_count(count: usize) -> Result<(), ApiError> {
    if (1..=MAX_CUSTOMERS).contains(&count) {
        return Ok(());
    }
    let message = format!("must have 1 to {MAX_CUSTOMERS} customers; it has {count}");
    Err(PayloadError::Invalid { broken: vec![BrokenRule { field: String::new(), message }] }.into())
}

/// How many places in flight a request takes beside its first, by what it holds in memory.
fn further_places(bytes: usize, customers: usize, state: &AppState) -> usize {
    ((bytes + customers * CUSTOMER_OVERHEAD) / BYTES_OF_A_PLACE).min(state.max_in_flight / 2)
}

/// Takes further places. All requests with several customers have at most half of the places, so that they leave the others
/// for those with one.
fn take_places(state: &AppState, places: usize) -> Result<[SemaphorePermit<'_>; 2], ApiError> {
    let places = places.try_into().unwrap_or(u32::MAX);
    let taken = state
        .places_of_several
        .try_acquire_many(places)
        .and_then(|of_several| state.in_flight.try_acquire_many(places).map(|in_flight| [of_several, in_flight]));
    taken.map_err(|_| ApiError::overloaded(TOO_MANY_REQUESTS))
}

impl Outcome {
    fn count(&self, metrics: &Metrics) {
        match &self.failure {
            None if self.status == StatusCode::ACCEPTED => metrics.requests_stored.inc(),
            None => metrics.requests_accepted.inc(),
            Some(failure) => metrics.request_failed(failure.code.as_str()),
        }
    }

    /// Whether the call is stored, or was sent.
    fn is_taken(&self) -> bool {
        let ended_later = [ErrorCode::Rejected, ErrorCode::GaveUp].map(ApiErrorCode::Call);
        self.failure.as_ref().is_none_or(|failure| ended_later.contains(&failure.code))
    }
}

impl From<Result<Receipt, SegmentError>> for Outcome {
    fn from(result: Result<Receipt, SegmentError>) -> Self {
        match result {
            Ok(Receipt { message_id, state, replayed }) => {
                let status = match state {
                    DeliveryState::Accepted => StatusCode::OK,
                    DeliveryState::Stored => StatusCode::ACCEPTED,
                };
                Self { status, message_id: Some(message_id), replayed, failure: None }
            }
            Err(error) => error.into(),
        }
    }
}

impl From<SegmentError> for Outcome {
    fn from(error: SegmentError) -> Self {
        let replayed = error.replayed;
        Self { replayed, ..ApiError::from(error).into() }
    }
}

impl From<ApiError> for Outcome {
    fn from(error: ApiError) -> Self {
        let record = error.record();
        let ApiError { code, message, details, retry_after, .. } = error;
        let failure = Failure { code, message, details, retry_after, record };
        Self { status: code.status(), message_id: None, replayed: false, failure: Some(failure) }
    }
}

impl IntoResponse for Outcomes {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            success: bool,
            results: &'a [Outcome],
        }
        let Self { each, applied } = self;
        let failures = || each.iter().filter_map(|outcome| outcome.failure.as_ref());
        let first_of_the_relay = || failures().find(|failure| failure.code.status().is_server_error());
        let decisive = first_of_the_relay().or_else(|| failures().next());
        let status = match decisive.map(|failure| failure.code.status()) {
            None if each.iter().all(|outcome| outcome.status == StatusCode::OK) => StatusCode::OK,
            None => StatusCode::ACCEPTED,
            Some(status) if status.is_server_error() => status,
            Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let mut response = (status, Json(Body { success: decisive.is_none(), results: &each })).into_response();
        let headers = response.headers_mut();
        if let Some(pause) = failures().filter_map(|failure| failure.retry_after).max() {
            headers.insert(RETRY_AFTER, whole_seconds(pause).into());
        }
        if each.iter().all(|outcome| outcome.replayed) {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(applied) = applied.filter(|_| each.iter().any(Outcome::is_taken)) {
            headers.insert(prefer::APPLIED, applied);
        }
        response.extensions_mut().insert(Counted);
        if let Some(failure) = decisive {
            let failed = Some(failures().count());
            response.extensions_mut().insert(FailureRecord { failed, is_logged: true, ..failure.record.clone() });
        }
        response
    }
}

fn number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn word<S: Serializer>(code: &ApiErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}
