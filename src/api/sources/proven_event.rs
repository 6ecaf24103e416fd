//! Reads the body of a request to a source, once the sender's head is right, and proves it.

use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use tokio::time::Instant;

use super::answer::Taken;
use super::handshake;
use super::shares::Share;
use crate::api::body::{self, BodyLimit};
use crate::api::body_room::TakenRoom;
use crate::api::error::ApiError;
use crate::api::proven_body::{check_coding, check_serving};
use crate::api::state::AppState;
use crate::auth::HeadClaim;
use crate::server::Connection;
use crate::sources::Source;

/// What came.
pub(super) enum Arrived {
    Event(ProvenEvent),
    /// The sender's first request.
    Handshake(Taken),
}

/// An event whose sender is proven.
pub(super) struct ProvenEvent {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What the body takes of the room for bodies.
    pub(super) room: TakenRoom,
    /// In milliseconds since 1970.
    pub(super) received_at: i64,
    /// The end of the whole request.
    pub(super) deadline: Instant,
}

/// Reads a request to a source: the head is checked, then the body is read, then its signature is checked.
///
/// # Errors
/// The sender is not proven, the body does not arrive, or it is too large.
pub(super) async fn read(
    state: &AppState,
    source: &Source,
    share: &Share,
    request: Request,
) -> Result<Arrived, ApiError> {
    let settings = &source.settings;
    let deadline = Instant::now() + state.request_timeout;
    let received_at = SystemTime::now();
    let (parts, body) = request.into_parts();
    let challenge = settings.challenge.as_ref();
    let may_be_form = handshake::may_be_form(challenge, &parts.headers);
    let claim = check_head(state, source, &parts, received_at);
    let connection = parts.extensions.get::<Connection>();
    let waits = connection.map(Connection::await_body);
    let claim = match claim {
        Err(error) if !may_be_form => {
            body::discard(&parts.headers, body, deadline).await;
            return Err(error);
        }
        // The form is not signed. Anything else of this sender is.
        claim => claim,
    };
    let limit = BodyLimit::Bytes(settings.max_body);
    let whole = body::read(&parts.headers, body, deadline, limit, &share.room).await?;
    drop(waits);
    if let Some(taken) = handshake::of_form(challenge.filter(|_| may_be_form), &whole.bytes) {
        return Ok(Arrived::Handshake(taken));
    }
    settings.verifier.verify_body(claim?, &parts.method, &parts.headers, &whole.bytes)?;
    if !settings.verifier.is_none() {
        connection.into_iter().for_each(Connection::set_known);
    }
    if let Some(taken) = handshake::of_field(challenge, &whole.bytes) {
        return Ok(Arrived::Handshake(taken));
    }
    let since_1970 = received_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Arrived::Event(ProvenEvent {
        headers: parts.headers,
        body: whole.bytes.into(),
        room: whole.room,
        received_at: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
        deadline,
    }))
}

fn check_head(state: &AppState, source: &Source, parts: &Parts, now: SystemTime) -> Result<HeadClaim, ApiError> {
    check_serving(state)?;
    let claim = source.settings.verifier.verify_head(&parts.headers, now)?;
    check_coding(&parts.headers)?;
    Ok(claim)
}
