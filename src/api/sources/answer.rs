//! The answers to events that were taken.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::error::REPLAYED;
use crate::metrics::SourceOutcome;
use crate::segment::{DeliveryState, Receipt};

/// What a success says.
pub(super) enum Taken {
    /// The answer that the sender's first request asks for: this string under this name.
    Challenge(String, String),
    /// A first request that asks for a success alone.
    Ping,
    /// The event made no customers.
    None,
    /// The event is a dead letter. The sender hears nothing of the reason.
    Kept,
    Customers(Vec<Receipt>),
}

impl Taken {
    /// `None`: there was no event.
    pub(super) fn outcome(&self) -> Option<SourceOutcome> {
        match self {
            Self::Challenge(..) | Self::Ping => None,
            Self::None => Some(SourceOutcome::None),
            Self::Kept => Some(SourceOutcome::Unmapped),
            Self::Customers(_) => Some(SourceOutcome::Mapped),
        }
    }

    /// `status` is that of an event that was taken. Some senders know 200 alone.
    pub(super) fn into_response(self, status: Option<u16>) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct CustomerTaken {
            message_id: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<&'static str>,
        }
        #[derive(Serialize)]
        struct Body {
            success: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            results: Option<Vec<CustomerTaken>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            customers: Option<usize>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            kept: bool,
        }
        let of_event = |usual| status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(usual);
        let body = Body { success: true, results: None, customers: Some(0), kept: false };
        match self {
            Self::Challenge(name, value) => Json(Map::from_iter([(name, Value::String(value))])).into_response(),
            Self::Ping | Self::None => Json(body).into_response(),
            Self::Kept => (of_event(StatusCode::ACCEPTED), Json(Body { kept: true, ..body })).into_response(),
            Self::Customers(receipts) => {
                let is_stored = receipts.iter().any(|receipt| receipt.state == DeliveryState::Stored);
                let is_replayed = receipts.iter().all(|receipt| receipt.replayed);
                let taken = |Receipt { message_id, state, .. }: Receipt| CustomerTaken {
                    message_id,
                    status: (state == DeliveryState::Stored).then_some("stored"),
                };
                let results = receipts.into_iter().map(taken).collect();
                let body = Body { results: Some(results), customers: None, ..body };
                let status = of_event(if is_stored { StatusCode::ACCEPTED } else { StatusCode::OK });
                let mut response = (status, Json(body)).into_response();
                if is_replayed {
                    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                }
                response
            }
        }
    }
}
