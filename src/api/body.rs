//! The body of a request: whole, bounded and in time, or the reason why not.
//!
//! A body that is too large is read on for a while and thrown away, so that its sender, who does not read before all is
//! sent, gets to read the answer.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

/// The largest body that is taken, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// How much of a body that will be refused is read and thrown away, in bytes: what a sender may have on its way, and not
/// so much that it pays to send more.
const MAX_THROWN_AWAY: usize = 1024 * 1024;

/// How long the next piece of it is waited for: several round trips of any line, and no longer, since whoever announces a
/// body and sends none holds a place meanwhile.
const THROW_AWAY_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// More than [`MAX_BODY`].
    TooLarge,
    /// It was not there by the deadline.
    Late,
    /// The sender went away half-way, or broke the protocol.
    Broken,
}

/// The whole body.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, deadline: Instant) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        throw_away(headers, body, deadline).await;
        return Err(BodyError::TooLarge);
    }
    let outcome = timeout_at(deadline, collect(&mut body)).await.unwrap_or(Err(BodyError::Late));
    if outcome == Err(BodyError::TooLarge) {
        drain(body, deadline).await;
    }
    outcome
}

/// Reads what is under way of a body that is refused, so that the answer will be read.
pub(super) async fn throw_away(headers: &HeaderMap, body: Body, deadline: Instant) {
    if headers.contains_key(EXPECT) {
        // The sender waits for a go-ahead that it will not get.
        return;
    }
    drain(body, deadline).await;
}

async fn drain(mut body: Body, deadline: Instant) {
    let read = async {
        let mut read = 0;
        while read < MAX_THROWN_AWAY
            && let Ok(Some(Ok(frame))) = timeout(THROW_AWAY_PAUSE, body.frame()).await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Late or not: the answer is the same.
    let _ = timeout_at(deadline, read).await;
}

/// Stops where the body is found to be too large.
async fn collect(body: &mut Body) -> Result<Bytes, BodyError> {
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= MAX_BODY {
        // The usual case: nothing is copied.
        return Ok(first);
    }
    // As much as was announced, and no more: growing by doubling would take twice of it.
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

/// The next bytes; trailers are passed over.
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
    use super::{BodyError, MAX_BODY, MAX_THROWN_AWAY, THROW_AWAY_PAUSE, read, throw_away};
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
    async fn a_body_at_the_limit_is_whole_in_one_piece_or_many() {
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
    async fn a_body_without_end_is_not_read_for_ever() {
        let endless = chunks(usize::MAX, MAX_THROWN_AWAY / 4);
        assert_eq!(read_all(endless).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_late() {
        assert_eq!(read_all(silent()).await, Err(BodyError::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_and_then_stops_is_too_large_and_not_late() {
        let chunk = Frame::data(Bytes::from(vec![b' '; MAX_BODY + 1]));
        let silence = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let stops = futures_util::StreamExt::chain(futures_util::stream::iter([Ok(chunk)]), silence);
        assert_eq!(read_all(Body::new(StreamBody::new(stops))).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_that_does_not_come_is_not_waited_for() {
        let begun = Instant::now();
        throw_away(&HeaderMap::new(), silent(), begun + Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed(), THROW_AWAY_PAUSE);
    }
}
