//! Reads the body of a request: whole, bounded and within the deadline.
//!
//! Many senders read only after they have sent everything. So the rest of a refused body is read and discarded for a
//! while: its sender then reads the answer.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

/// The largest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// How much of a refused body is read and discarded, in bytes: what a sender may have on its way, and not so much that
/// sending more pays.
const MAX_DISCARDED: usize = 1024 * 1024;

/// How long the relay waits for the next piece of a refused body: several round trips on any line. A longer wait would
/// let a sender who announces a body and sends none occupy a connection.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// More than [`MAX_BODY`].
    TooLarge,
    /// It was not complete by the deadline.
    TimedOut,
    /// The sender went away before the end, or broke the protocol.
    Broken,
}

/// Reads the whole body.
///
/// # Errors
/// See [`BodyError`].
pub(super) async fn read(headers: &HeaderMap, mut body: Body, deadline: Instant) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        discard(headers, body, deadline).await;
        return Err(BodyError::TooLarge);
    }
    let outcome = timeout_at(deadline, collect(&mut body)).await.unwrap_or(Err(BodyError::TimedOut));
    if outcome == Err(BodyError::TooLarge) {
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
    let _ = timeout_at(deadline, read).await;
}

/// Collects the body, and stops where it turns out to be too large.
async fn collect(body: &mut Body) -> Result<Bytes, BodyError> {
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= MAX_BODY {
        // The usual case: nothing is copied.
        return Ok(first);
    }
    // The announced length: a vector that grows by doubling would take up to twice as much.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(MAX_BODY).min(MAX_BODY);
    let mut whole = Vec::with_capacity(first.len() + announced);
    whole.extend_from_slice(&first);
    drop(first);
    while whole.len() <= MAX_BODY {
        match next(body).await? {
            Some(chunk) if whole.len() + chunk.len() <= MAX_BODY => whole.extend_from_slice(&chunk),
            Some(_) => break,
            None => return Ok(whole.into()),
        }
    }
    Err(BodyError::TooLarge)
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
mod tests {
    use super::{BodyError, DISCARD_TIMEOUT, MAX_BODY, MAX_DISCARDED, discard, read};
    use axum::body::{Body, Bytes};
    use axum::http::HeaderMap;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::time::Duration;
    use tokio::time::Instant;

    async fn read_all(body: Body) -> Result<usize, BodyError> {
        read(&HeaderMap::new(), body, Instant::now() + Duration::from_secs(1)).await.map(|bytes| bytes.len())
    }

    fn chunks(count: usize, size: usize) -> Body {
        let frames = (0..count).map(move |_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b' '; size]))));
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    fn silent() -> Body {
        Body::new(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>()))
    }

    #[tokio::test]
    async fn a_body_at_the_limit_is_read_in_one_piece_or_many() {
        assert_eq!(read_all(Body::from(vec![b' '; MAX_BODY])).await, Ok(MAX_BODY));
        assert_eq!(read_all(chunks(MAX_BODY / 1024, 1024)).await, Ok(MAX_BODY));
        assert_eq!(read_all(Body::empty()).await, Ok(0));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_too_large_announced_or_not() {
        assert_eq!(read_all(Body::from(vec![b' '; MAX_BODY + 1])).await, Err(BodyError::TooLarge));
        assert_eq!(read_all(chunks(MAX_BODY + 1, 1)).await, Err(BodyError::TooLarge));
        assert_eq!(read_all(chunks(1, MAX_BODY + 1)).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn an_endless_body_is_not_read_for_ever() {
        let endless = chunks(usize::MAX, MAX_DISCARDED / 4);
        assert_eq!(read_all(endless).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_times_out() {
        assert_eq!(read_all(silent()).await, Err(BodyError::TimedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_and_then_stops_is_too_large_and_does_not_time_out() {
        let chunk = Frame::data(Bytes::from(vec![b' '; MAX_BODY + 1]));
        let silence = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let stops = futures_util::StreamExt::chain(futures_util::stream::iter([Ok(chunk)]), silence);
        assert_eq!(read_all(Body::new(StreamBody::new(stops))).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_that_does_not_arrive_is_not_waited_for() {
        let begun = Instant::now();
        discard(&HeaderMap::new(), silent(), begun + Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed(), DISCARD_TIMEOUT);
    }
}
