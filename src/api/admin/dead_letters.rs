//! `/dead-letters`: the calls that Segment refused, to be read, sent again or deleted.
//!
//! A letter that is sent again keeps its `messageId` and takes its place behind its user's waiting calls, so it may put old
//! values over newer ones. What is done is logged with ids and counts, and nothing that is in a call.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::Desk;
use super::page::{Asked, Page};
use crate::api::answer::{Answer, Failure};
use crate::api::code::Code;
use crate::api::request_id::RequestId;
use crate::integration::{ErrorCode, MIN_RETRY_AFTER};
use crate::outbox::{DeadLetter, DeadLetters, LATER, OutboxError};

/// Which one a path names, if that can be read.
type Letter = Result<Path<String>, PathRejection>;

const INVALID: Code = Code::Call(ErrorCode::InvalidPayload);
const OVERLOADED: Code = Code::Call(ErrorCode::Overloaded);

/// How many dead letters will be sent again.
#[derive(Serialize, JsonSchema)]
pub(in crate::api) struct Replayed {
    replayed: u64,
}

/// `GET /dead-letters?limit=100&before=ID`: newest first.
pub(super) async fn list(State(desk): State<Desk>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let asked = Asked::of(request.uri().query().unwrap_or_default());
    page(&desk, asked).await.unwrap_or_else(|failed| failed).with_id(&id)
}

async fn page(desk: &Desk, asked: Result<Asked, String>) -> Result<Answer, Answer> {
    let dead_letters = dead_letters(desk)?;
    let asked = asked.map_err(|why| Answer::failure(&Failure::new(INVALID, &why)))?;
    let place = desk.operator.pages.clone().try_acquire_owned();
    let place =
        place.map_err(|_| unavailable(OVERLOADED, "too many pages are being read; try again", MIN_RETRY_AFTER))?;
    let (letters, place) = read(desk, dead_letters.clone(), &asked, place).await.map_err(failed)?;
    Ok(Answer::text_of_json(Page::body(letters, asked.limit, place)))
}

/// Reads for as long as a request may take. Whoever reads longer keeps the place until it is done, or what nobody waits for
/// any more would pile up.
async fn read(
    desk: &Desk,
    dead_letters: Arc<dyn DeadLetters>,
    asked: &Asked,
    place: OwnedSemaphorePermit,
) -> Result<(Vec<DeadLetter>, OwnedSemaphorePermit), OutboxError> {
    // One more than is shown tells whether there are more.
    let (limit, before) = (asked.limit + 1, asked.before);
    let (say, hear) = oneshot::channel();
    desk.state.supervisor.spawn("dead letters", async move {
        let letters = dead_letters.list(limit, before).await;
        // If nobody waits any more, the place is free again with this.
        let _ = say.send((letters, place));
    });
    let (letters, place) =
        timeout(desk.state.request_timeout, hear).await.ok().and_then(Result::ok).ok_or(OutboxError::Unreadable)?;
    Ok((letters?, place))
}

/// `POST /dead-letters/{id}/replay`
pub(super) async fn replay(State(desk): State<Desk>, letter: Letter, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let replayed = one(&desk, letter, |dead_letters, letter| async move { dead_letters.replay(letter).await }).await;
    let answer = replayed.map(|letter| {
        tracing::info!(request_id = id.as_str(), dead_letter = letter, "a dead letter will be sent again");
        Answer::json(StatusCode::ACCEPTED, &Replayed { replayed: 1 })
    });
    answer.unwrap_or_else(|failed| failed).with_id(&id)
}

/// `POST /dead-letters/replay`: all of them. This alone has no deadline: putting back a million takes as long as it takes,
/// and leaving half-way would only hide how many there were.
pub(super) async fn replay_all(State(desk): State<Desk>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let replayed = async { dead_letters(&desk)?.replay_all().await.map_err(failed) }.await;
    let answer = replayed.map(|count| {
        tracing::info!(request_id = id.as_str(), count, "all dead letters will be sent again");
        Answer::json(StatusCode::ACCEPTED, &Replayed { replayed: count })
    });
    answer.unwrap_or_else(|failed| failed).with_id(&id)
}

/// `DELETE /dead-letters/{id}`
pub(super) async fn discard(State(desk): State<Desk>, letter: Letter, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let discarded = one(&desk, letter, |dead_letters, letter| async move { dead_letters.discard(letter).await }).await;
    let answer = discarded.map(|letter| {
        tracing::info!(request_id = id.as_str(), dead_letter = letter, "a dead letter was discarded");
        Answer::no_content()
    });
    answer.unwrap_or_else(|failed| failed).with_id(&id)
}

/// Does something to one letter, and says which it was.
async fn one<F>(desk: &Desk, letter: Letter, act: impl FnOnce(Arc<dyn DeadLetters>, i64) -> F) -> Result<i64, Answer>
where
    F: Future<Output = Result<bool, OutboxError>>,
{
    let dead_letters = dead_letters(desk)?;
    let unknown = || not_found("there is no dead letter with this id");
    let letter = letter.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(unknown)?;
    let was_there = in_time(desk, act(dead_letters.clone(), letter)).await?;
    was_there.then_some(letter).ok_or_else(unknown)
}

fn dead_letters(desk: &Desk) -> Result<&Arc<dyn DeadLetters>, Answer> {
    let no_outbox = || not_found("no outbox is configured (RELAY_OUTBOX_URL), so there are no dead letters");
    desk.operator.dead_letters.as_ref().ok_or_else(no_outbox)
}

/// Waits for the outbox for as long as a request may take.
async fn in_time<T>(desk: &Desk, work: impl Future<Output = Result<T, OutboxError>>) -> Result<T, Answer> {
    timeout(desk.state.request_timeout, work).await.unwrap_or(Err(OutboxError::Unconfirmed)).map_err(failed)
}

fn failed(error: OutboxError) -> Answer {
    let (code, message, pause) = match error {
        OutboxError::Full => (OVERLOADED, "the outbox is full or cannot be written; try again", LATER),
        OutboxError::Unreadable => (OVERLOADED, "the outbox could not be read", LATER),
        // No key is involved here.
        OutboxError::Busy | OutboxError::KeyReused => {
            (OVERLOADED, "the outbox had no time; try again", MIN_RETRY_AFTER)
        }
        OutboxError::Closed => {
            (Code::Call(ErrorCode::ShuttingDown), "the relay is shutting down; try again", MIN_RETRY_AFTER)
        }
        OutboxError::Unconfirmed => {
            let message = "the outbox did not confirm it in time: whether it was done is unknown; trying again is safe";
            let failure = Failure::new(Code::Call(ErrorCode::OutboxTimeout), message).retry_after(MIN_RETRY_AFTER);
            return Answer::failure(&failure);
        }
    };
    unavailable(code, message, pause)
}

fn unavailable(code: Code, message: &str, pause: Duration) -> Answer {
    Answer::failure(&Failure::new(code, message).retry_after(pause))
}

fn not_found(message: &str) -> Answer {
    Answer::failure(&Failure::new(Code::NotFound, message))
}
