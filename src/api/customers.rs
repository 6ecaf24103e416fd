//! `POST /customers`: takes one customer, or several, and answers with the outcome of each call.
//!
//! The extractors prove the sender and read the body. The handler then takes a place in flight, checks the payload and hands
//! it to Segment. Each customer is counted once, and each failed request is logged once, without anything personal.

mod several;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::{ApiError, FailureRecord, REPLAYED};
use super::idempotency::KeyFromHeaders;
use super::prefer::{self, Wait};
use super::proven_body::{BodyForm, ProvenBody, TOO_MANY_REQUESTS};
use super::request_id;
use super::state::AppState;
use crate::customer::{SegmentIdentifyPayload, first_byte};
use crate::integration::identify_customer;
use crate::metrics::Metrics;
use crate::segment::{DeliveryState, ErrorCode, Receipt};
use several::{Counted, Outcomes};

pub(super) const PATH: &str = "/customers";

/// The answer to what was taken.
pub(super) enum Taken {
    One(CustomerTaken),
    Several(Outcomes),
}

/// The answer to a customer that Segment accepted, or that is on disk.
pub(super) struct CustomerTaken {
    receipt: Receipt,
    /// The `Preference-Applied` header.
    applied: Option<HeaderValue>,
}

pub(super) async fn post(
    State(state): State<Arc<AppState>>,
    wait: Option<Wait>,
    KeyFromHeaders(header_key): KeyFromHeaders,
    body: ProvenBody,
) -> Result<Taken, ApiError> {
    let _place = state.in_flight.try_acquire().map_err(|_| ApiError::overloaded(TOO_MANY_REQUESTS))?;
    if body.form == BodyForm::Lines || first_byte(&body.body.bytes) == Some(b'[') {
        // In a box, so that a request with one customer needs no memory for what it does not do.
        return Box::pin(several::take(&state, wait, header_key, body)).await.map(Taken::Several);
    }
    let ProvenBody { body, form: _, deadline, signed_key } = body;
    let payload = SegmentIdentifyPayload::parse(&body.bytes)?;
    let (wait, applied, _waiter_place) = state.grant_wait(wait, 1);
    let mut client = state.clients.open(deadline, signed_key.or(header_key), wait);
    let identified = identify_customer(&mut *client, &payload);
    // Nothing of a body is kept for as long as its caller waits: 2,048 of them take up to 128 MiB.
    drop(payload);
    drop(body);
    let result = match identified {
        Ok(()) => client.flush().await,
        Err(error) => Err(error),
    };
    match result {
        Ok(receipt) => Ok(Taken::One(CustomerTaken { receipt, applied })),
        Err(error) => {
            // Only these failures are known after the call was stored.
            let applied = applied.filter(|_| matches!(error.code, ErrorCode::Rejected | ErrorCode::GaveUp));
            let error = ApiError::from(error);
            Err(match applied {
                Some(applied) => error.with_header(prefer::APPLIED, applied),
                None => error,
            })
        }
    }
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        match self {
            Self::One(customer) => customer.into_response(),
            Self::Several(outcomes) => outcomes.into_response(),
        }
    }
}

impl IntoResponse for CustomerTaken {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            success: bool,
            message_id: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<&'static str>,
        }
        let Receipt { message_id, state, replayed } = self.receipt;
        let (code, status) = match state {
            DeliveryState::Accepted => (StatusCode::OK, None),
            DeliveryState::Stored => (StatusCode::ACCEPTED, Some("stored")),
        };
        let mut response = (code, Json(Body { success: true, message_id, status })).into_response();
        if replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(applied) = self.applied {
            response.headers_mut().insert(prefer::APPLIED, applied);
        }
        response
    }
}

/// Counts every answer of this route, and marks a failure for [`log_failure`].
pub(super) fn count<B>(metrics: &Metrics, mut response: Response<B>) -> Response<B> {
    if response.extensions().get::<Counted>().is_some() {
        return response;
    }
    let status = response.status();
    match response.extensions_mut().get_mut::<FailureRecord>() {
        None if status == StatusCode::ACCEPTED => metrics.requests_stored.inc(),
        None => metrics.requests_accepted.inc(),
        Some(failure) => {
            metrics.request_failed(failure.code.as_str());
            failure.is_logged = true;
        }
    }
    response
}

/// Logs a failure of this route, or of a source's. It runs outside the router, where the answer has the request's id.
pub(super) fn log_failure<B>(response: Response<B>) -> Response<B> {
    if let Some(FailureRecord { code, reason, status, is_logged: true, failed, source }) = response.extensions().get() {
        let request_id = response.headers().get(request_id::HEADER).and_then(|id| id.to_str().ok());
        let (code, reason, source) = (code.as_str(), reason.as_deref(), source.as_deref());
        match (response.status().is_server_error(), source) {
            (true, None) => tracing::warn!(request_id, code, reason, status, failed, "a customer was not accepted"),
            (false, None) => tracing::info!(request_id, code, reason, status, failed, "a customer was refused"),
            (true, source) => tracing::warn!(request_id, source, code, reason, status, "an event was not accepted"),
            (false, source) => tracing::info!(request_id, source, code, reason, status, "an event was refused"),
        }
    }
    response
}
