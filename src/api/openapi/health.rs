//! What is said of `/healthz`, `/readyz` and `/metrics`.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answers::{Answers, of_type};
use crate::api::code::Code;
use crate::api::health::{Health, TEXT_FORMAT};

/// How these operations are grouped.
pub(super) const TAG: &str = "The relay itself";

pub(in crate::api) fn healthz() -> Value {
    json!({
        "operationId": "getHealth",
        "summary": "Whether the process lives",
        "tags": [TAG],
        "responses": Answers::new().json(StatusCode::OK, "It serves.", of_type::<Health>()).done(),
    })
}

pub(in crate::api) fn readyz() -> Value {
    json!({
        "operationId": "getReadiness",
        "summary": "Whether the process should get requests",
        "description": "Segment's troubles do not count: taking relays out of the balancer would not cure them.",
        "tags": [TAG],
        "responses": Answers::new()
            .json(StatusCode::OK, "It should.", of_type::<Health>())
            .json(
                StatusCode::SERVICE_UNAVAILABLE,
                "It should not: it is shutting down, or its outbox is full or cannot be written.",
                of_type::<Health>(),
            )
            .done(),
    })
}

pub(in crate::api) fn metrics() -> Value {
    json!({
        "operationId": "getMetrics",
        "summary": "Counters for Prometheus",
        "tags": [TAG],
        "responses": Answers::new()
            .content(StatusCode::OK, "In Prometheus' text format.", TEXT_FORMAT, json!({"type": "string"}))
            .fails(Code::InternalError, "the metrics cannot be written.")
            .done(),
    })
}
