//! What callers and operators have to show, in OpenAPI's terms.

use axum::http::HeaderValue;
use axum::http::header::WWW_AUTHENTICATE;
use serde_json::{Map, Value, json};

use super::answers::Answers;
use crate::api::code::Code;
use crate::auth::{Auth, BASIC, BEARER, OTHER_BEARER, STANDARD, SVIX, Scheme};

/// The operators' token among the schemes.
const OPERATOR: &str = "operator";

/// The callers' token, or user and password.
const CALLER: &str = "caller";

/// All there are; the operators' only where there are endpoints for them.
pub(super) fn schemes(auth: &Auth, operated: bool) -> Value {
    let header = |name: &str, means: String| {
        (name.to_owned(), json!({"type": "apiKey", "in": "header", "name": name, "description": means}))
    };
    let http = |scheme: &str| (CALLER.to_owned(), json!({"type": "http", "scheme": scheme}));
    let mut schemes = match &auth.0 {
        Scheme::None => Map::new(),
        Scheme::Bearer(_) => Map::from_iter([http("bearer")]),
        Scheme::Basic(_) => Map::from_iter([http("basic")]),
        Scheme::Hmac { header: name, encoding, .. } => {
            let means = format!("HMAC-SHA256 of the body, in {}, with or without sha256= before it.", encoding.name());
            Map::from_iter([header(name.as_str(), means)])
        }
        Scheme::StandardWebhooks(_) => [STANDARD, SVIX]
            .iter()
            .flat_map(|names| {
                let means = |what: &str| format!("{what} See standardwebhooks.com.");
                [
                    header(names.id, means("The webhook's id, and the key against duplicates.")),
                    header(names.timestamp, means("When it was signed, in seconds since 1970.")),
                    header(
                        names.signature,
                        means("Signatures of id, time and body: v1, and an HMAC-SHA256 in base64."),
                    ),
                ]
            })
            .collect(),
    };
    if operated {
        let means = "What RELAY_ADMIN_TOKEN holds.";
        schemes.insert(OPERATOR.to_owned(), json!({"type": "http", "scheme": "bearer", "description": means}));
    }
    schemes.into()
}

/// What a caller needs: one of these.
pub(super) fn needed(auth: &Auth) -> Value {
    match &auth.0 {
        Scheme::None => json!([]),
        Scheme::Bearer(_) | Scheme::Basic(_) => json!([{CALLER: []}]),
        Scheme::Hmac { header, .. } => json!([{header.as_str(): []}]),
        Scheme::StandardWebhooks(_) => [STANDARD, SVIX]
            .map(|names| json!({names.id: [], names.timestamp: [], names.signature: []}))
            .into_iter()
            .collect(),
    }
}

/// What an operator needs.
pub(super) fn needed_by_operators() -> Value {
    json!([{OPERATOR: []}])
}

/// With what those get who do not show it, if there is something to show.
pub(super) fn refusing(answers: Answers, auth: &Auth) -> Answers {
    let challenges: &[HeaderValue] = match &auth.0 {
        Scheme::None => return answers,
        Scheme::StandardWebhooks(_) | Scheme::Hmac { .. } => &[],
        Scheme::Bearer(_) => &[BEARER, OTHER_BEARER],
        Scheme::Basic(_) => &[BASIC],
    };
    unauthorized(answers, "a header is missing or stale, or what it holds does not fit.", challenges)
}

/// The same for operators.
pub(super) fn refusing_strangers(answers: Answers) -> Answers {
    unauthorized(answers, "the token is missing or another.", &[BEARER, OTHER_BEARER])
}

fn unauthorized(answers: Answers, when: &str, challenges: &[HeaderValue]) -> Answers {
    let answers = answers.fails(Code::Unauthorized, when);
    if challenges.is_empty() {
        return answers;
    }
    let challenges: Vec<_> = challenges.iter().filter_map(|challenge| challenge.to_str().ok()).collect();
    let schema = json!({"enum": challenges});
    answers.always(Code::Unauthorized.status(), &WWW_AUTHENTICATE, "What is asked for.", &schema)
}
