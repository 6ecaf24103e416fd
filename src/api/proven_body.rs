//! Extractors for who sends a request, and for its body once the sender is proven.
//!
//! The steps stand in the order in which they can fail, cheapest first: the sender's head, the media type, the body,
//! its signature. Nothing of the body is parsed before its sender is known. `body` discards the rest of a body that is
//! refused early.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::body::{self, BodyLimit, MAX_LARGE_BODY, WholeBody};
use super::error::{ApiError, ApiErrorCode};
use super::state::AppState;
use crate::auth::HeadClaim;
use crate::segment::{ErrorCode, IdempotencyKey, KeyKind, MIN_RETRY_AFTER};
use crate::server::Connection;

/// The sender as far as the head of the request proves it.
pub(super) struct Sender(Option<HeadClaim>);

impl FromRequestParts<Arc<AppState>> for Sender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, ApiError> {
        Ok(Self(state.auth.verify_head(&parts.headers, SystemTime::now())?))
    }
}

/// What the media type says about the form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyForm {
    /// One JSON text: a customer, or an array of customers.
    Json,
    /// A customer in each line (NDJSON).
    Lines,
}

/// The media type of [`BodyForm::Lines`].
const LINES: &str = "application/x-ndjson";

/// The whole body of a request whose sender is proven.
pub(super) struct ProvenBody {
    pub(super) body: WholeBody,
    pub(super) form: BodyForm,
    /// The end of the whole request.
    pub(super) deadline: Instant,
    /// The key that was signed together with the body, if the scheme signs one.
    pub(super) signed_key: Option<IdempotencyKey>,
}

impl FromRequest<Arc<AppState>> for ProvenBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, ApiError> {
        let deadline = Instant::now() + state.request_timeout;
        let (mut parts, body) = request.into_parts();
        let head = check_head(&mut parts, state).await;
        let connection = parts.extensions.get::<Connection>();
        let waits = connection.map(Connection::await_body);
        let (Sender(claim), form) = match head {
            Ok(proven) => proven,
            Err(error) => {
                body::discard(&parts.headers, body, deadline).await;
                return Err(error);
            }
        };
        let limit = match form {
            BodyForm::Json => BodyLimit::OneOrArray,
            BodyForm::Lines => BodyLimit::Bytes(MAX_LARGE_BODY),
        };
        let body = body::read(&parts.headers, body, deadline, limit, &state.body_room).await?;
        drop(waits);
        let signed_id = state.auth.verify_body(claim, &parts.headers, &body.bytes)?;
        if state.auth.asks_for_a_secret() {
            connection.into_iter().for_each(Connection::set_known);
        }
        Ok(Self { body, form, deadline, signed_key: signed_id.and_then(signed_key) })
    }
}

/// Message of a 503 for want of a place in flight.
pub(super) const TOO_MANY_REQUESTS: &str = "too many requests are in flight; this one was not sent";

/// Checks that the relay takes requests.
///
/// # Errors
/// The relay is shutting down.
pub(super) fn check_serving(state: &AppState) -> Result<(), ApiError> {
    if state.supervisor.is_draining() {
        let error = ApiError::new(ApiErrorCode::Call(ErrorCode::ShuttingDown), "the relay is shutting down");
        return Err(error.with_retry_after(MIN_RETRY_AFTER));
    }
    Ok(())
}

async fn check_head(parts: &mut Parts, state: &Arc<AppState>) -> Result<(Sender, BodyForm), ApiError> {
    check_serving(state)?;
    let sender = Sender::from_request_parts(parts, state).await?;
    let form = check_media_type(&parts.headers)?;
    Ok((sender, form))
}

fn signed_key(id: HeaderValue) -> Option<IdempotencyKey> {
    IdempotencyKey::from_header(KeyKind::WebhookId, id.as_bytes())
}

/// Checks that the body has no coding.
///
/// # Errors
/// It has one.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_identity =
        |coding: &[u8]| coding.trim_ascii().is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    let mut codings =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if !codings.all(is_identity) {
        // RFC 9110, section 12.5.3: the answer to an unsupported coding names the supported one.
        return Err(unsupported("a body with a Content-Encoding other than identity is not taken; send it as it is")
            .with_header("accept-encoding", HeaderValue::from_static("identity")));
    }
    Ok(())
}

fn unsupported(message: &'static str) -> ApiError {
    ApiError::new(ApiErrorCode::UnsupportedMediaType, message)
}

fn check_media_type(headers: &HeaderMap) -> Result<BodyForm, ApiError> {
    check_coding(headers)?;
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let first = types.next();
    if types.any(|other| Some(other) != first) {
        return Err(unsupported("the Content-Type lines differ"));
    }
    let media_type = first.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") || has_json_suffix(essence) {
        Ok(BodyForm::Json)
    } else if essence.eq_ignore_ascii_case(LINES) {
        Ok(BodyForm::Lines)
    } else {
        Err(unsupported("the Content-Type must be application/json, application/*+json or application/x-ndjson"))
    }
}

/// `application/*+json`, such as CloudEvents sends.
fn has_json_suffix(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    essence.strip_prefix("application/").and_then(|subtype| subtype.strip_suffix("+json")).is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::{BodyForm, check_media_type};
    use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn content_type(media_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))])
    }

    #[test]
    fn json_media_types_are_accepted() {
        for accepted in
            ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json", "application/json;"]
        {
            assert_eq!(check_media_type(&content_type(accepted)).unwrap(), BodyForm::Json, "{accepted}");
        }
        for accepted in ["application/x-ndjson", "Application/X-NDJSON ; charset=utf-8"] {
            assert_eq!(check_media_type(&content_type(accepted)).unwrap(), BodyForm::Lines, "{accepted}");
        }
    }

    #[test]
    fn other_media_types_and_encodings_are_refused() {
        for refused in [
            "text/json",
            "application/jsonp",
            "application/+json",
            "application/x +json",
            "json",
            "application/ndjson",
            "",
        ] {
            assert!(check_media_type(&content_type(refused)).is_err(), "{refused}");
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }

    /// The headers of a JSON body with these lines more.
    fn with(further: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = content_type("application/json");
        for (name, value) in further {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_equal_content_types_may_be_repeated() {
        assert!(check_media_type(&with(&[(CONTENT_TYPE, "application/json")])).is_ok());
        for other in ["text/plain", "application/ld+json", "application/json; charset=utf-8", "application/json,", ""] {
            assert!(check_media_type(&with(&[(CONTENT_TYPE, other)])).is_err(), "{other}");
            let thrice = with(&[(CONTENT_TYPE, "application/json"), (CONTENT_TYPE, other)]);
            assert!(check_media_type(&thrice).is_err(), "{other}");
        }
    }

    #[test]
    fn the_identity_encoding_counts_as_none() {
        for none in ["", " ", "identity", "Identity", "identity,identity", ", identity ,\t"] {
            assert!(check_media_type(&with(&[(CONTENT_ENCODING, none)])).is_ok(), "{none:?}");
            let twice = with(&[(CONTENT_ENCODING, none), (CONTENT_ENCODING, "IDENTITY")]);
            assert!(check_media_type(&twice).is_ok(), "{none:?}");
        }
        for other in ["gzip", "identity, gzip", "identity;q=1", "identity identity", "\u{7e}"] {
            assert!(check_media_type(&with(&[(CONTENT_ENCODING, other)])).is_err(), "{other:?}");
            let last = with(&[(CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, other)]);
            assert!(check_media_type(&last).is_err(), "{other:?}");
        }
    }
}
