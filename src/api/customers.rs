//! `POST /customers`: takes one customer and answers with the outcome of its call.
//!
//! The extractors prove the sender and read the body. The handler then takes a place in flight, checks the payload and hands
//! it to Segment. Each request is counted once, and each failure is logged once, without anything personal.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::{ApiError, FailureRecord};
use super::idempotency::KeyFromHeaders;
use super::prefer::{self, Wait};
use super::proven_body::{ProvenBody, TOO_MANY_REQUESTS};
use super::request_id::RequestId;
use super::state::AppState;
use crate::customer::SegmentIdentifyPayload;
use crate::integration::send_customer_to_segment_with_client;
use crate::segment::{DeliveryState, ErrorCode, Receipt};

pub(super) const PATH: &str = "/customers";

/// Says that a call with this key was stored before, and that no second call was made. No standard defines the header;
/// this name is the usual one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

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
) -> Result<CustomerTaken, ApiError> {
    let _place = state.in_flight.try_acquire().map_err(|_| ApiError::overloaded(TOO_MANY_REQUESTS))?;
    let payload = SegmentIdentifyPayload::parse(&body.bytes)?;
    // Without an outbox every caller hears the outcome, so there is nothing to wait for beyond that.
    let (time, applied) = wait.filter(|_| state.clients.stores()).map(|Wait { time, applied }| (time, applied)).unzip();
    let mut client = state.clients.open(body.deadline, body.signed_key.or(header_key), time);
    match send_customer_to_segment_with_client(&mut *client, &payload).await {
        Ok(receipt) => Ok(CustomerTaken { receipt, applied }),
        Err(error) => {
            // Only this failure is known after the call was stored, because the caller waited.
            let applied = applied.filter(|_| error.code == ErrorCode::Rejected);
            let error = ApiError::from(error);
            Err(match applied {
                Some(applied) => error.with_header(prefer::APPLIED, applied),
                None => error,
            })
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

/// Counts every answer of this route, and logs every failure.
pub(super) async fn record(
    State(state): State<Arc<AppState>>,
    request_id: RequestId,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<FailureRecord>() {
        None if response.status() == StatusCode::ACCEPTED => state.metrics.requests_stored.inc(),
        None => state.metrics.requests_accepted.inc(),
        Some(FailureRecord { code, reason }) => {
            let (request_id, code) = (request_id.as_str(), code.as_str());
            state.metrics.request_failed(code);
            if response.status().is_server_error() {
                tracing::warn!(request_id, code, "a customer was not accepted");
            } else {
                tracing::info!(request_id, code, reason = reason.as_deref(), "a customer was refused");
            }
        }
    }
    response
}
