//! What is said of `POST /customers`. The answers stand in the order of the contract's table.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answers::Answers;
use super::security;
use crate::api::answer::REPLAYED;
use crate::api::body::MAX_BODY;
use crate::api::code::Code;
use crate::api::prefer::{APPLIED, PREFER};
use crate::auth::{Auth, Scheme};
use crate::customer;
use crate::integration::{ErrorCode, KeyKind, MAX_CALL_BYTES};

/// How these operations are grouped.
pub(super) const TAG: &str = "Customers";

pub(in crate::api) fn post(auth: &Auth) -> Value {
    json!({
        "operationId": "postCustomer",
        "summary": "Send one customer to Segment",
        "description": "Takes one customer, as it is to be in Segment, and sends it as an Identify call. To try again under \
                        the same key (`messageId`, else `webhook-id`, else `Idempotency-Key`) is safe.",
        "tags": [TAG],
        "security": security::needed(auth),
        "parameters": parameters(auth),
        "requestBody": {
            "required": true,
            "description": format!("As application/json or application/*+json, without a Content-Encoding, at most {MAX_BODY} \
                                    bytes. The call as it is sent to Segment may have {MAX_CALL_BYTES}."),
            "content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Customer"},
                "examples": {"ada": {"summary": "A customer", "value": customer::example()}},
            }},
        },
        "responses": responses(auth),
    })
}

fn parameters(auth: &Auth) -> Value {
    let key = |kind: KeyKind, means: &str| json!({"name": kind.header(), "in": "header", "description": means, "schema": {"type": "string"}});
    let mut parameters = Vec::new();
    // There the id that was signed is the key, whatever other headers say, and is described with what has to be shown.
    if !matches!(auth.0, Scheme::StandardWebhooks(_)) {
        parameters.push(key(
            KeyKind::IdempotencyKey,
            "The key against duplicates, where there is neither messageId nor webhook-id. The same key and customer always \
             make the same messageId.",
        ));
        let means = "The key against duplicates, where there is no messageId: as senders of Standard Webhooks have it.";
        parameters.push(key(KeyKind::WebhookId, means));
    }
    parameters.push(json!({
        "name": PREFER.as_str(),
        "in": "header",
        "description": "`wait=N` (RFC 7240), with an outbox: the caller would like to hear the outcome, for up to N seconds.",
        "schema": {"type": "string"},
        "example": "wait=5",
    }));
    parameters.into()
}

fn responses(auth: &Auth) -> Value {
    let message_id = json!({"type": "string", "minLength": 1, "description": "Under which Segment knows the call."});
    let accepted = json!({
        "type": "object",
        "required": ["success", "messageId"],
        "properties": {"success": {"const": true}, "messageId": message_id},
    });
    let mut stored = accepted.clone();
    stored["required"] = json!(["success", "messageId", "status"]);
    stored["properties"]["status"] = json!({"const": "stored"});
    let answers = Answers::new()
        .json(StatusCode::OK, "Segment accepted this call.", accepted)
        .json(StatusCode::ACCEPTED, "Only with an outbox: the call is on disk, synced, and will be delivered.", stored)
        .fails(Code::InvalidJson, "the body is not JSON; the message says where.")
        .fails(Code::RequestTimeout, "the body did not arrive in time.")
        .call_fails(ErrorCode::MessageTooLarge, "over the limit, in the body or as sent to Segment.")
        .fails(Code::UnsupportedMediaType, "not JSON by its Content-Type, or it has a Content-Encoding.")
        .call_fails(ErrorCode::InvalidPayload, "a rule of the payload is broken; `error.details` lists all that are.")
        .listing_rules()
        .call_fails(
            ErrorCode::KeyReused,
            "only with an outbox: this key came with another payload; nothing was stored.",
        )
        .call_fails(ErrorCode::Rejected, "Segment refused this call for good; its words are in `error.message`.")
        .call_fails(ErrorCode::Unauthorized, "Segment refused the relay's credentials.")
        .call_fails(ErrorCode::Misconfigured, "what answers at the endpoint is not Segment's API.")
        .call_fails(ErrorCode::Unavailable, "Segment failed or could not be reached; certainly not accepted.")
        .call_fails(ErrorCode::RateLimited, "Segment told the relay to wait for longer than this request may.")
        .call_fails(ErrorCode::Overloaded, "no room, or no time, to send or store the call; it was not taken.")
        .call_fails(ErrorCode::ShuttingDown, "the relay is shutting down; the call was not taken.")
        .call_fails(ErrorCode::Timeout, "no answer from Segment: outcome unknown. Try again with the same key.")
        .call_fails(
            ErrorCode::OutboxTimeout,
            "the commit was not confirmed: outcome unknown. Try again with the same key.",
        );
    let known = [StatusCode::OK, StatusCode::ACCEPTED];
    let heeded = [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::UNPROCESSABLE_ENTITY];
    let answers = answers
        .header(
            &known,
            &REPLAYED,
            "The key's call was there already, and no second one was made.",
            json!({"const": "true"}),
        )
        .header(&heeded, &APPLIED, "The wish that was heeded.", json!({"type": "string", "pattern": "^wait=[0-9]+$"}));
    security::refusing(answers, auth).done()
}
