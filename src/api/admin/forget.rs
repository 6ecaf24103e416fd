//! `POST /forget`: deletes what the relay holds of a person.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use tokio::time::Instant;

use super::page::NoQuery;
use crate::api::body::{self, BodyLimit, MAX_BODY};
use crate::api::error::{ApiError, ApiErrorCode};
use crate::api::proven_body::{check_coding, check_serving};
use crate::api::state::{Admin, AppState};
use crate::customer::{check_json, is_blank};
use crate::outbox::{Forgotten, Person};
use crate::segment::ErrorCode;

/// Texts beside the userId: e-mail addresses, phone numbers and older ids of one person.
const MAX_TEXTS: usize = 16;

/// Characters of one text: longer than any e-mail address, which has 254 at most.
const MAX_TEXT: usize = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    user_id: String,
    texts: Option<Vec<String>>,
}

/// The answer comes at the end of the work, which goes on if the caller leaves.
pub(super) async fn post(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    _: NoQuery,
    request: Request,
) -> Result<Json<Forgotten>, ApiError> {
    let no_outbox = "no outbox is configured (RELAY_OUTBOX_URL), so nothing is kept of a person";
    let forgetting = admin.forgetting.as_ref().ok_or_else(|| ApiError::not_found(no_outbox))?;
    check_serving(&state)?;
    let (parts, body) = request.into_parts();
    check_coding(&parts.headers)?;
    let deadline = Instant::now() + state.request_timeout;
    let body = body::read(&parts.headers, body, deadline, BodyLimit::Bytes(MAX_BODY), &state.body_room).await?;
    let person = parse(&body.bytes)?;
    drop(body);
    let _permit = admin.page_permit("too many requests of operators are in progress; try again")?;
    Ok(Json(forgetting.forget(person).await?))
}

/// No message repeats a value, which is personal.
fn parse(text: &[u8]) -> Result<Person, ApiError> {
    check_json(text)?;
    let invalid = |message| ApiError::new(ApiErrorCode::Call(ErrorCode::InvalidPayload), message);
    let shape = "the body must be an object with the text userId and, if at all, the array texts, and no other field";
    let Body { user_id, texts } = serde_json::from_slice(text).map_err(|_| invalid(shape))?;
    if is_blank(&user_id) {
        return Err(invalid("userId must not be blank"));
    }
    if texts.as_ref().is_some_and(|texts| !(1..=MAX_TEXTS).contains(&texts.len())) {
        return Err(invalid("texts must have 1 to 16 entries"));
    }
    let texts = texts.unwrap_or_default();
    if texts.iter().any(|text| is_blank(text) || text.chars().count() > MAX_TEXT) {
        return Err(invalid("each of texts must have 1 to 512 characters, and not be blank"));
    }
    Ok(Person { user_id, texts })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_body_names_a_person() {
        let person = parse(br#"{"userId":"ada","texts":["ada@example.com"]}"#).unwrap();
        assert_eq!((person.user_id.as_str(), person.texts.len()), ("ada", 1));
        assert!(parse(br#"{"userId":"ada"}"#).unwrap().texts.is_empty());
        let long = format!(r#"{{"userId":"ada","texts":["{}"]}}"#, "x".repeat(513));
        let many = format!(r#"{{"userId":"ada","texts":["x"{}]}}"#, r#","x""#.repeat(16));
        for (body, status) in [
            ("", 400),
            (r#"{"userId":"ada","userId":"bob"}"#, 400),
            ("[]", 422),
            ("{}", 422),
            (r#"{"userId":7}"#, 422),
            (r#"{"userId":" "}"#, 422),
            (r#"{"userId":"ada","user":"ada"}"#, 422),
            (r#"{"userId":"ada","texts":[]}"#, 422),
            (r#"{"userId":"ada","texts":[""]}"#, 422),
            (&long, 422),
            (&many, 422),
        ] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.code.status(), status, "{body}");
            assert!(!error.message.contains("ada"), "{}", error.message);
        }
    }
}
