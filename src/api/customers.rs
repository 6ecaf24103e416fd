//! `POST /customers`: one customer in, the truth about it out.
//!
//! The steps stand in the order in which they can fail, cheapest first: who sends it, media type, body, its signature, a
//! place, the payload, Segment. Nothing of the body is parsed before its sender is known.
//! A failure is counted and logged here, once, without anything personal; a success is only counted.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use tokio::time::Instant;

use super::AppState;
use super::answer::{Answer, Failure};
use super::body::{self, BodyError, MAX_BODY};
use super::code::Code;
use super::in_flight::InFlight;
use super::prefer::{self, Wait};
use super::request_id::RequestId;
use crate::auth::Unauthorized;
use crate::customer::SegmentIdentifyPayload;
use crate::integration::{
    DeliveryState, ErrorCode, IdempotencyKey, KeyKind, MIN_RETRY_AFTER, send_customer_to_segment_with_client,
};

/// Where customers are posted.
pub(crate) const PATH: &str = "/customers";

/// A failed request: its answer, and what the log says of it.
struct Failed {
    code: Code,
    /// Where it names nothing but headers, what the sender is told: whose clock or secret is wrong is for operators to find.
    reason: Option<String>,
    answer: Answer,
}

/// The handler, for the router.
pub(super) async fn post(State(state): State<Arc<AppState>>, request: Request) -> Response {
    answer(&state, &InFlight::new(1), request).await
}

/// The handler. One body at a time has a place of the connection's own, so that no others can keep it from being read.
pub(crate) async fn answer(state: &AppState, own: &InFlight, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    match customer(state, own, request).await {
        Ok((standing, answer)) => {
            match standing {
                DeliveryState::Accepted => state.metrics.requests_accepted.inc(),
                DeliveryState::Stored => state.metrics.requests_stored.inc(),
            }
            answer.with_id(&id)
        }
        Err(Failed { code, reason, answer }) => {
            let code = code.as_str();
            state.metrics.request_failed(code);
            let request_id = id.as_str();
            if answer.status().is_server_error() {
                tracing::warn!(request_id, code, "a customer was not accepted");
            } else {
                tracing::info!(request_id, code, reason, "a customer was refused");
            }
            answer.with_id(&id)
        }
    }
}

async fn customer(state: &AppState, own: &InFlight, request: Request) -> Result<(DeliveryState, Answer), Failed> {
    let deadline = Instant::now() + state.request_timeout;
    let (head, body) = request.into_parts();
    let overloaded = || unavailable(ErrorCode::Overloaded, "too many requests are in flight; this one was not sent");
    if state.supervisor.is_draining() {
        body::throw_away(&head.headers, body, deadline).await;
        return Err(unavailable(ErrorCode::ShuttingDown, "the relay is shutting down"));
    }
    let claim = match state.auth.claim(&head.headers, SystemTime::now()) {
        Ok(claim) => claim,
        Err(fault) => {
            body::throw_away(&head.headers, body, deadline).await;
            return Err(unauthorized(fault));
        }
    };
    if let Err(fault) = check_media_type(&head.headers) {
        body::throw_away(&head.headers, body, deadline).await;
        let failure = Failure::new(Code::UnsupportedMediaType, fault);
        return Err(Failed::new(&failure));
    }
    let reading = own.enter().or_else(|| state.reading.enter()).ok_or_else(overloaded)?;
    let body = body::read(&head.headers, body, deadline).await.map_err(no_body)?;
    let signed_id = claim.prove(&body).map_err(unauthorized)?;
    let key = idempotency_key(signed_id, &head.headers);
    // Without an outbox every caller hears the outcome, and there is nothing to wait for beyond that.
    let wait = if state.clients.stores() { prefer::wait(&head.headers) } else { None };
    // Both are views of the connection's read buffer. Letting go of them before the wait for Segment brings 14 % more
    // requests with 512 callers, and costs none with 2,000 (`cargo bench`).
    let body = body.to_vec();
    drop((head, reading));
    let _place = state.in_flight.enter().ok_or_else(overloaded)?;
    let payload = SegmentIdentifyPayload::parse(&body).map_err(|error| {
        let (code, answer) = Answer::invalid(&error);
        Failed { code, reason: None, answer }
    })?;
    let (time, applied) = wait.map(|Wait { time, applied }| (time, applied)).unzip();
    let mut client = state.clients.open(deadline, key, time);
    match send_customer_to_segment_with_client(&mut *client, &payload).await {
        Ok(receipt) => Ok((receipt.standing, applying(applied, Answer::success(&receipt)))),
        Err(error) => {
            let answer = Answer::not_accepted(&error);
            // Of all failures this alone is heard after the call was stored, and because the caller waited.
            let applied = applied.filter(|_| error.code == ErrorCode::Rejected);
            Err(Failed { code: Code::Call(error.code), reason: None, answer: applying(applied, answer) })
        }
    }
}

/// The answer, saying which wish was heeded.
fn applying(applied: Option<HeaderValue>, answer: Answer) -> Answer {
    match applied {
        Some(applied) => answer.with(prefer::APPLIED, applied),
        None => answer,
    }
}

impl Failed {
    fn new(failure: &Failure<'_>) -> Self {
        Self { code: failure.code(), reason: None, answer: Answer::failure(failure) }
    }
}

fn unavailable(code: ErrorCode, message: &str) -> Failed {
    Failed::new(&Failure::new(Code::Call(code), message).retry_after(MIN_RETRY_AFTER))
}

fn unauthorized(fault: Unauthorized) -> Failed {
    let failed = Failed::new(&Failure::new(Code::Unauthorized, &fault.message));
    Failed { reason: Some(fault.message.clone()), answer: challenged(fault.challenge, failed.answer), ..failed }
}

pub(super) fn challenged(challenge: Option<HeaderValue>, answer: Answer) -> Answer {
    match challenge {
        Some(challenge) => answer.with(WWW_AUTHENTICATE, challenge),
        None => answer,
    }
}

fn no_body(why: BodyError) -> Failed {
    match why {
        BodyError::TooLarge => {
            let message = format!("the body is larger than {MAX_BODY} bytes");
            let failure = Failure::new(Code::Call(ErrorCode::MessageTooLarge), &message).close();
            Failed::new(&failure)
        }
        BodyError::Late => {
            let failure = Failure::new(Code::RequestTimeout, "the body did not arrive in time").close();
            Failed::new(&failure)
        }
        // Nobody is likely to read this.
        BodyError::Broken => {
            let failure = Failure::new(Code::InvalidJson, "the body broke off, or is not what its headers say").close();
            Failed::new(&failure)
        }
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err("a body with a Content-Encoding is not taken; send it as it is");
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json") || is_json_suffixed(essence);
    is_json.then_some(()).ok_or("the Content-Type must be application/json, or application/*+json")
}

/// `application/*+json`, such as CloudEvents send.
fn is_json_suffixed(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    essence.strip_prefix("application/").and_then(|subtype| subtype.strip_suffix("+json")).is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    })
}

/// The caller's key: the id that was signed, else `webhook-id`, else `Idempotency-Key`. An empty one is none.
fn idempotency_key(signed_id: Option<&[u8]>, headers: &HeaderMap) -> Option<IdempotencyKey> {
    if let Some(id) = signed_id {
        return Some(IdempotencyKey { kind: KeyKind::WebhookId, value: id.to_vec() });
    }
    [KeyKind::WebhookId, KeyKind::IdempotencyKey].into_iter().find_map(|kind| {
        let value = headers.get(kind.header())?.as_bytes().trim_ascii();
        (!value.is_empty()).then(|| IdempotencyKey { kind, value: value.to_vec() })
    })
}

#[cfg(test)]
mod tests {
    use super::{check_media_type, idempotency_key};
    use crate::integration::KeyKind;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn json_and_its_kin_are_taken() {
        for taken in
            ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json", "application/json;"]
        {
            assert!(check_media_type(&headers(&[("content-type", taken)])).is_ok(), "{taken}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for refused in ["text/json", "application/jsonp", "application/+json", "application/x +json", "json", ""] {
            assert!(check_media_type(&headers(&[("content-type", refused)])).is_err(), "{refused}");
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
        let encoded = headers(&[("content-type", "application/json"), ("content-encoding", "identity")]);
        assert!(check_media_type(&encoded).is_err());
    }

    #[test]
    fn the_webhook_id_goes_before_the_idempotency_key() {
        let both = idempotency_key(None, &headers(&[("idempotency-key", "i"), ("webhook-id", "w")])).unwrap();
        assert_eq!((both.kind, &*both.value), (KeyKind::WebhookId, &b"w"[..]));
        let one = idempotency_key(None, &headers(&[("idempotency-key", "i"), ("webhook-id", "")])).unwrap();
        assert_eq!((one.kind, &*one.value), (KeyKind::IdempotencyKey, &b"i"[..]));
        assert!(idempotency_key(None, &HeaderMap::new()).is_none());
    }
}
