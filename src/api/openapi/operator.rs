//! What is said of the endpoints of operators.

use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use serde_json::{Value, json};

use super::answers::{Answers, of_type};
use super::security;
use crate::api::admin::dead_letters::Replayed;
use crate::api::admin::page::{LIMIT, MAX_LIMIT};
use crate::api::admin::report::Report;
use crate::api::code::Code;
use crate::integration::ErrorCode;
use crate::outbox::DeadLetter;

/// How these operations are grouped.
pub(super) const TAG: &str = "Operators";

const REPLAY: &str = "replayDeadLetter";
const DISCARD: &str = "discardDeadLetter";

pub(in crate::api) fn status() -> Value {
    let answers = Answers::new().json(StatusCode::OK, "Nothing personal and no secret is in it.", of_type::<Report>());
    operation("getStatus", "How the relay is", json!([]), answers)
}

pub(in crate::api) fn list() -> Value {
    let page = json!({
        "type": "object",
        "required": ["deadLetters", "next"],
        "properties": {
            "deadLetters": {"type": "array", "maxItems": MAX_LIMIT, "items": of_type::<DeadLetter>()},
            "next": {"type": ["integer", "null"], "description": "`before` of the next page; null if there is none."},
        },
    });
    let parameters = json!([
        {
            "name": "limit",
            "in": "query",
            "description": "How many at most.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT},
        },
        {
            "name": "before",
            "in": "query",
            "description": "Only those with smaller ids.",
            "schema": {"type": "integer", "minimum": 1, "maximum": i64::MAX},
        },
    ]);
    let first = json!({"id": "$response.body#/deadLetters/0/id"});
    let answers = Answers::new()
        .json(StatusCode::OK, "A page of them.", page)
        .leads_to(StatusCode::OK, REPLAY, first.clone())
        .leads_to(StatusCode::OK, DISCARD, first);
    let answers =
        of_outbox(answers).call_fails(ErrorCode::InvalidPayload, "a query parameter is wrong, unknown or there twice.");
    operation("listDeadLetters", "The calls that Segment refused, newest first", parameters, answers)
}

pub(in crate::api) fn replay_all() -> Value {
    let answers = Answers::new().json(StatusCode::ACCEPTED, "How many these are.", of_type::<Replayed>());
    operation("replayDeadLetters", "Send all dead letters again", json!([]), of_outbox(answers))
}

pub(in crate::api) fn replay() -> Value {
    let answers = Answers::new().json(StatusCode::ACCEPTED, "It will be sent again.", of_type::<Replayed>());
    operation(REPLAY, "Send a dead letter again", json!([id()]), one(of_outbox(answers)))
}

pub(in crate::api) fn discard() -> Value {
    let answers = Answers::new().empty(StatusCode::NO_CONTENT, "It is gone for good.");
    operation(DISCARD, "Delete a dead letter", json!([id()]), one(of_outbox(answers)))
}

fn operation(id: &str, summary: &str, parameters: Value, answers: Answers) -> Value {
    let answers = security::refusing_strangers(answers).with_all(
        &CACHE_CONTROL,
        "No cache may keep it.",
        &json!({"const": "no-store"}),
    );
    json!({
        "operationId": id,
        "summary": summary,
        "tags": [TAG],
        "security": security::needed_by_operators(),
        "parameters": parameters,
        "responses": answers.done(),
    })
}

/// With what can go wrong with an outbox.
fn of_outbox(answers: Answers) -> Answers {
    answers
        .fails(Code::NotFound, "no outbox is configured, so there are no dead letters.")
        .call_fails(ErrorCode::Overloaded, "the outbox is full, has no time, or cannot be read or written.")
        .call_fails(ErrorCode::ShuttingDown, "the relay is shutting down.")
        .call_fails(ErrorCode::OutboxTimeout, "the outbox did not confirm it: outcome unknown. Trying again is safe.")
}

/// With what can go wrong with one dead letter.
fn one(answers: Answers) -> Answers {
    answers.fails(Code::NotFound, "there is no dead letter with this id.")
}

fn id() -> Value {
    json!({
        "name": "id",
        "in": "path",
        "required": true,
        "description": "`id` of a dead letter.",
        "schema": {"type": "integer", "minimum": 1, "maximum": i64::MAX},
    })
}
