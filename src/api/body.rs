//! Reads the body of a request: whole, bounded and within the deadline.
//!
//! Many senders read only after they have sent everything. So the rest of a refused body is read and discarded for a
//! while: its sender then reads the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use tokio::task::unconstrained;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::body_room::{BodyRoom, TakenRoom};
use crate::customer::first_byte;

/// The largest body of one customer, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// The largest body of several customers, and of an event, in bytes.
pub(super) const MAX_LARGE_BODY: usize = 1024 * 1024;

/// How much of a refused body is read and discarded, in bytes: what a sender may have on its way, and not so much that
/// sending more pays.
const MAX_DISCARDED: usize = 1024 * 1024;

/// How long the relay waits for the next piece of a refused body: several round trips on any line. A longer wait would
/// let a sender who announces a body and sends none occupy a connection.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// How large a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLimit {
    Bytes(usize),
    /// [`MAX_LARGE_BODY`] if it begins as a JSON array, else [`MAX_BODY`].
    OneOrArray,
}

/// A whole body.
pub(super) struct WholeBody {
    /// A copy, so that the connection's read buffer is not kept while the call waits for Segment. That brings 14 % more
    /// requests with 512 callers, and costs none with 2,000 (`cargo bench`).
    pub(super) bytes: Vec<u8>,
    /// What the bytes take of the room for bodies. Both are dropped together.
    pub(super) room: TakenRoom,
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// More than this limit, in bytes.
    TooLarge(usize),
    /// All bodies together take as much as they may.
    NoRoom,
    /// It was not complete by the deadline.
    TimedOut,
    /// The sender went away before the end, or broke the protocol.
    Broken,
}

/// Reads the whole body, within `limit`.
///
/// # Errors
/// See [`BodyError`].
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    deadline: Instant,
    limit: BodyLimit,
    room: &Arc<BodyRoom>,
) -> Result<WholeBody, BodyError> {
    if body.size_hint().lower() > limit.most() as u64 {
        discard(headers, body, deadline).await;
        return Err(BodyError::TooLarge(limit.most()));
    }
    let outcome = by(deadline, collect(&mut body, limit, room)).await.unwrap_or(Err(BodyError::TimedOut));
    if matches!(outcome, Err(BodyError::TooLarge(_) | BodyError::NoRoom)) {
        drain(body, deadline).await;
    }
    outcome
}

/// Reads and discards what is on its way of a body that is refused.
pub(super) async fn discard(headers: &HeaderMap, body: Body, deadline: Instant) {
    if headers.contains_key(EXPECT) {
        // The sender waits for a `100 Continue` that it will not get.
        return;
    }
    drain(body, deadline).await;
}

async fn drain(mut body: Body, deadline: Instant) {
    let read = async {
        let mut read = 0;
        while read < MAX_DISCARDED
            && let Ok(Some(Ok(frame))) = timeout(DISCARD_TIMEOUT, body.frame()).await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // The answer is the same whether or not the deadline passed.
    let _ = by(deadline, read).await;
}

/// Waits until the deadline, also where the runtime's budget for this task is used up: hyper reads in the same task, and a sender who
/// sends without a pause uses it up each time. A timer does not fire without it.
async fn by<T>(deadline: Instant, reading: impl Future<Output = T>) -> Result<T, Elapsed> {
    unconstrained(timeout_at(deadline, reading)).await
}

/// Collects the body, and stops where it turns out to be too large, or where there is no room for it.
async fn collect(body: &mut Body, limit: BodyLimit, room: &Arc<BodyRoom>) -> Result<WholeBody, BodyError> {
    let mut whole = WholeBody { bytes: Vec::new(), room: TakenRoom::default() };
    let WholeBody { bytes, room: taken } = &mut whole;
    let mut known = None;
    while let Some(chunk) = next(body).await? {
        let size = bytes.len() + chunk.len();
        let announced = usize::try_from(body.size_hint().lower()).map_or(usize::MAX, |rest| size.saturating_add(rest));
        known = known.or_else(|| limit.of(&chunk));
        // White space alone says nothing about what comes.
        let (size_so_far, most) = known.map_or((size, MAX_BODY), |most| (announced, most));
        if size_so_far > most {
            return Err(BodyError::TooLarge(most));
        }
        if size > bytes.capacity() {
            // Twice as much as came, so that few bytes are copied often; never more than was announced, if it was.
            let end = if body.size_hint().exact().is_some() { announced } else { most };
            let capacity = size.max(end.min(bytes.capacity() * 2));
            if !taken.grow_to(capacity, room) {
                return Err(BodyError::NoRoom);
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(whole)
}

impl BodyLimit {
    /// The limit of a body that begins with these bytes. `None` if they do not tell.
    fn of(self, beginning: &[u8]) -> Option<usize> {
        match self {
            Self::Bytes(limit) => Some(limit),
            Self::OneOrArray => {
                first_byte(beginning).map(|first| if first == b'[' { MAX_LARGE_BODY } else { MAX_BODY })
            }
        }
    }

    /// The largest limit of any body.
    fn most(self) -> usize {
        match self {
            Self::Bytes(limit) => limit,
            Self::OneOrArray => MAX_LARGE_BODY,
        }
    }
}

/// The next bytes. Trailers are skipped.
async fn next(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
