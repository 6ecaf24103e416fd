//! `POST /sources/{name}`: takes an event of a product, and answers with what became of its customers.
//!
//! The order is that of `POST /customers`: the sender's head, the coding, the body, its signature, a place in flight. Then the
//! filter makes customers of the event, and all of them are handed over together. A genuine event that makes no valid customers
//! is kept as a dead letter, and its sender hears of a success: many give up on an address that refuses. What is the relay's
//! trouble, such as a full outbox, is always answered as an error, so that the sender tries again.

mod answer;
mod handshake;
mod proven_event;
pub(super) mod shares;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::error::{ApiError, ApiErrorCode, FailureRecord, method_not_allowed};
use super::proven_body::TOO_MANY_REQUESTS;
use super::state::AppState;
use crate::auth::Challenge;
use crate::metrics::SourceOutcome;
use crate::segment::{ErrorCode, GroupTerms, IdempotencyKey, Receipt, SegmentError};
use crate::sources::event::{EventError, Unmapped, check_customers, event_headers, event_key};
use crate::sources::mapping::Event;
use crate::sources::settings::OnError;
use crate::sources::{Source, Sources};
use crate::telemetry::TARGET;
use answer::Taken;
use proven_event::{Arrived, ProvenEvent};
use shares::Share;

pub(super) const PATH: &str = "/sources/{name}";

const NO_SOURCE: &str = "there is no source of this name";

/// The methods of a source whose sender asks by GET whether the address is right.
const ALL_METHODS: &str = "GET,HEAD,POST";

const TOO_MANY_OF_THIS_SOURCE: &str = "too many requests of this source are in flight; this one was not taken";
const TOO_MANY_WAIT: &str = "too many events of this source wait for its filter; this one was not taken";
const NO_TIME: &str = "the time of the request ended before the event's filter did; the event was not taken";

/// `/sources/{name}` with any method: which ones there are depends on the source.
pub(super) async fn any(
    State(state): State<Arc<AppState>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let sources = state.sources.as_ref().zip(name.ok());
    let source = sources.and_then(|(sources, Path(name))| Some((sources, sources.get(&name)?)));
    let Some((sources, source)) = source else {
        let is_known = [Method::GET, Method::HEAD, Method::POST].contains(request.method());
        let error = if is_known { ApiError::not_found(NO_SOURCE) } else { not_allowed(ALL_METHODS).await };
        return error.into_response();
    };
    let begun = Instant::now();
    let handshake =
        source.settings.challenge.as_ref().filter(|challenge| matches!(challenge, Challenge::Header { .. }));
    let taken = match (request.method(), handshake) {
        (&Method::POST, _) => {
            let share = state.source_shares.of(&source.settings.name);
            take(&state, sources, &source, &share, request).await
        }
        (&(Method::GET | Method::HEAD), Some(challenge)) => handshake::of_header(challenge, request.headers()),
        (_, handshake) => Err(not_allowed(if handshake.is_some() { ALL_METHODS } else { "POST" }).await),
    };
    respond(&source, taken, begun)
}

async fn not_allowed(methods: &'static str) -> ApiError {
    method_not_allowed().await.with_header("allow", HeaderValue::from_static(methods))
}

/// Counts the outcome, and marks a failure for the log.
fn respond(source: &Source, taken: Result<Taken, ApiError>, begun: Instant) -> Response {
    let outcome = match &taken {
        Ok(taken) => taken.outcome(),
        Err(error) if error.code == ApiErrorCode::Unauthorized => Some(SourceOutcome::Unauthorized),
        Err(error) if error.code.status().is_server_error() => Some(SourceOutcome::Failed),
        Err(_) => Some(SourceOutcome::Refused),
    };
    if let Some(outcome) = outcome {
        source.metrics.count(outcome);
        source.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    }
    let mut response = taken.map_or_else(ApiError::into_response, |taken| taken.into_response(source.settings.answer));
    if let Some(failure) = response.extensions_mut().get_mut::<FailureRecord>() {
        (failure.is_logged, failure.source) = (true, Some(source.settings.name.clone()));
    }
    response
}

async fn take(
    state: &AppState,
    sources: &Sources,
    source: &Source,
    share: &Share,
    request: Request,
) -> Result<Taken, ApiError> {
    let ProvenEvent { headers, body, room, received_at, deadline } =
        match proven_event::read(state, source, share, request).await? {
            Arrived::Event(event) => event,
            Arrived::Handshake(taken) => return Ok(taken),
        };
    let _share = share.places.try_acquire().map_err(|_| ApiError::overloaded(TOO_MANY_OF_THIS_SOURCE))?;
    let _place = state.in_flight.try_acquire().map_err(|_| ApiError::overloaded(TOO_MANY_REQUESTS))?;
    let event = Event { headers: event_headers(&source.settings, &headers), body, received_at };
    drop(headers);
    let key = event_key(&source.settings.key, &event);
    let why = match hand_over(state, sources, source, &event, key.as_ref(), deadline).await? {
        Ok(taken) => return Ok(taken),
        Err(why) => why,
    };
    let name = &*source.settings.name;
    match sources.on_error(source) {
        OnError::Refuse => Err(refusal(why)),
        OnError::Keep => {
            sources.keep(source, event, key.as_ref(), &why, deadline).await?;
            // Its bytes are the store's now.
            drop(room);
            tracing::warn!(source = name, code = why.code(), "an event made no valid customers and is a dead letter");
            Ok(Taken::Kept)
        }
    }
}

/// Makes customers of an event and hands them over. The outer error is the relay's trouble, the inner one the event's own.
async fn hand_over(
    state: &AppState,
    sources: &Sources,
    source: &Source,
    event: &Event,
    key: Option<&IdempotencyKey>,
    deadline: Instant,
) -> Result<Result<Taken, Unmapped>, ApiError> {
    let name = &*source.settings.name;
    let span = tracing::info_span!(target: TARGET, "map", segment_relay.source = name);
    let made = timeout_at(deadline, sources.make_customers(source, event.clone())).instrument(span).await;
    let texts = match made.map_err(|_| ApiError::overloaded(NO_TIME))? {
        Ok(texts) if texts.is_empty() => return Ok(Ok(Taken::None)),
        Ok(texts) => texts,
        Err(EventError::Overloaded) => return Err(ApiError::overloaded(TOO_MANY_WAIT)),
        Err(EventError::Unmapped(why)) => return Ok(Err(why)),
    };
    let mut group = state.clients.open_group(GroupTerms {
        deadline,
        key: key.cloned(),
        wait: None,
        source: Some(source.settings.name.clone()),
        is_all_or_nothing: true,
    });
    match check_customers(&source.settings, &texts) {
        Err(why) => return Ok(Err(why)),
        Ok(payloads) => {
            for (place, payload) in payloads.iter().enumerate() {
                match group.identify(place, payload) {
                    Ok(()) => {}
                    Err(error) if error.code == ErrorCode::MessageTooLarge => {
                        return Ok(Err(Unmapped::TooLarge(error.message)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    // Nothing but the event is kept while its customers are stored or sent.
    drop(texts);
    let results = group.flush().await;
    settled(results, sources.on_error(source))
}

/// What the outcomes of an event's customers make of it.
fn settled(
    results: Vec<Result<Receipt, SegmentError>>,
    on_error: OnError,
) -> Result<Result<Taken, Unmapped>, ApiError> {
    let (mut receipts, mut errors) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Ok(receipt) => receipts.push(receipt),
            // The repeat of an event that is kept already: its call is a dead letter, with which operators deal.
            Err(error) if error.replayed && on_error == OnError::Keep => {}
            Err(error) => errors.push(error),
        }
    }
    if errors.iter().any(|error| error.code == ErrorCode::KeyReused) {
        return Ok(Err(Unmapped::KeyReused));
    }
    if let Some(index) = errors.iter().position(|error| error.code == ErrorCode::MessageTooLarge) {
        return Ok(Err(Unmapped::TooLarge(errors.swap_remove(index).message)));
    }
    // A failure after which a repeat helps comes first.
    let mut errors: Vec<ApiError> = errors.into_iter().map(ApiError::from).collect();
    let first = errors.iter().position(|error| error.code.status().is_server_error()).unwrap_or(0);
    if first < errors.len() {
        return Err(errors.swap_remove(first));
    }
    Ok(Ok(if receipts.is_empty() { Taken::Kept } else { Taken::Customers(receipts) }))
}

/// The answer to an event that makes no valid customers, where it is not kept.
fn refusal(why: Unmapped) -> ApiError {
    match why {
        Unmapped::InvalidJson(message) => ApiError::new(ApiErrorCode::InvalidJson, message),
        // The filter's own words are the operator's, and may quote the event.
        Unmapped::FilterFailed(_) => {
            ApiError::new(ApiErrorCode::FilterFailed, "the filter of this source failed on this event")
        }
        Unmapped::Invalid(broken) => crate::customer::PayloadError::Invalid { broken }.into(),
        Unmapped::TooLarge(message) => ApiError::new(ApiErrorCode::Call(ErrorCode::MessageTooLarge), message),
        Unmapped::KeyReused => ApiError::new(
            ApiErrorCode::Call(ErrorCode::KeyReused),
            "this event's key came with another customer before; nothing was stored",
        ),
    }
}
