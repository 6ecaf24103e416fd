//! Reading a body: how large it may be, how long it may take, and the room it takes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::time::Instant;

use super::{BodyError, BodyLimit, DISCARD_TIMEOUT, MAX_BODY, MAX_DISCARDED, MAX_LARGE_BODY, WholeBody, discard, read};
use crate::api::body_room::BodyRoom;

const TOO_LARGE: Result<usize, BodyError> = Err(BodyError::TooLarge(MAX_BODY));

async fn read_within(body: Body, limit: BodyLimit, room: &Arc<BodyRoom>) -> Result<WholeBody, BodyError> {
    read(&HeaderMap::new(), body, Instant::now() + Duration::from_secs(1), limit, room).await
}

async fn read_all(body: Body) -> Result<usize, BodyError> {
    read_within(body, BodyLimit::OneOrArray, &BodyRoom::half()).await.map(|body| body.bytes.len())
}

/// Pieces of the same size.
fn chunks(count: usize, size: usize) -> Body {
    pieces((0..count).map(move |_| vec![b'{'; size]))
}

fn pieces(pieces: impl IntoIterator<Item = Vec<u8>, IntoIter: Send + 'static>) -> Body {
    let frames = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

fn silent() -> Body {
    Body::new(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>()))
}

/// An array of this many bytes.
fn array(size: usize) -> Vec<u8> {
    [b" \n[".as_slice(), &vec![b' '; size - 4], b"]"].concat()
}

#[tokio::test]
async fn a_body_at_the_limit_is_read_in_one_piece_or_many() {
    assert_eq!(read_all(Body::from(vec![b'{'; MAX_BODY])).await, Ok(MAX_BODY));
    assert_eq!(read_all(chunks(MAX_BODY / 1024, 1024)).await, Ok(MAX_BODY));
    assert_eq!(read_all(Body::empty()).await, Ok(0));
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_announced_or_not() {
    assert_eq!(read_all(Body::from(vec![b'{'; MAX_BODY + 1])).await, TOO_LARGE);
    assert_eq!(read_all(chunks(MAX_BODY + 1, 1)).await, TOO_LARGE);
    assert_eq!(read_all(chunks(1, MAX_BODY + 1)).await, TOO_LARGE);
    assert_eq!(read_all(Body::from(vec![b' '; MAX_BODY + 1])).await, TOO_LARGE, "white space is no array");
}

#[tokio::test]
async fn an_array_may_be_larger_however_it_arrives() {
    for size in [MAX_BODY + 1, MAX_LARGE_BODY] {
        let whole = array(size);
        assert_eq!(read_all(Body::from(whole.clone())).await, Ok(size));
        for length in [1, 1000] {
            let parts: Vec<_> = whole.chunks(length).map(<[u8]>::to_vec).collect();
            assert_eq!(read_all(pieces(parts)).await, Ok(size), "{length}");
        }
        let blank = [vec![], b"\r\n".to_vec(), vec![], whole[2..].to_vec()];
        assert_eq!(read_all(pieces(blank)).await, Ok(size));
    }
    let too_large = Err(BodyError::TooLarge(MAX_LARGE_BODY));
    assert_eq!(read_all(Body::from(array(MAX_LARGE_BODY + 1))).await, too_large);
    assert_eq!(read_all(pieces([array(MAX_LARGE_BODY), vec![b' ']])).await, too_large);
}

#[tokio::test]
async fn a_limit_may_be_any_other() {
    for (size, expected) in [(100, Ok(100)), (101, Err(BodyError::TooLarge(100)))] {
        for body in [Body::from(vec![b'['; size]), chunks(size, 1)] {
            let read = read_within(body, BodyLimit::Bytes(100), &BodyRoom::half()).await;
            assert_eq!(read.map(|body| body.bytes.len()), expected);
        }
    }
}

#[tokio::test]
async fn a_body_takes_room_until_it_is_dropped_and_without_room_is_refused() {
    let room = BodyRoom::half();
    let mut kept = Vec::new();
    let refused = loop {
        match read_within(pieces([array(MAX_LARGE_BODY)]), BodyLimit::OneOrArray, &room).await {
            Ok(body) => kept.push(body),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, BodyError::NoRoom);
    assert!((8..=24).contains(&kept.len()), "{}", kept.len());
    assert!(read_within(chunks(1, 4096), BodyLimit::OneOrArray, &room).await.is_ok(), "a small one finds room");
    drop(kept);
    assert!(read_within(pieces([array(MAX_LARGE_BODY)]), BodyLimit::OneOrArray, &room).await.is_ok());
}

#[tokio::test]
async fn a_body_takes_room_for_what_has_come_and_not_for_what_is_announced() {
    let room = BodyRoom::half();
    let mut reading = Vec::new();
    for _ in 0..100 {
        let body = Body::new(Announced(Some(Bytes::from_static(b"[1,"))));
        let mut one = Box::pin(read_within(body, BodyLimit::OneOrArray, &room));
        assert!(futures_util::poll!(&mut one).is_pending());
        reading.push(one);
    }
}

/// A body that announces 1 MiB, and sends no more than its first piece.
struct Announced(Option<Bytes>);

impl hyper::body::Body for Announced {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.0.take() {
            Some(piece) => std::task::Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => std::task::Poll::Pending,
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let sent = if self.0.is_none() { 3 } else { 0 };
        hyper::body::SizeHint::with_exact(MAX_LARGE_BODY as u64 - sent)
    }
}

#[tokio::test]
async fn an_endless_body_is_not_read_for_ever() {
    let endless = chunks(usize::MAX, MAX_DISCARDED / 4);
    assert_eq!(read_all(endless).await, TOO_LARGE);
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
    assert_eq!(read_all(Body::new(StreamBody::new(stops))).await, TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_that_does_not_arrive_is_not_waited_for() {
    let begun = Instant::now();
    discard(&HeaderMap::new(), silent(), begun + Duration::from_secs(60)).await;
    assert_eq!(begun.elapsed(), DISCARD_TIMEOUT);
}

#[tokio::test]
async fn the_deadline_comes_although_the_connection_uses_up_its_tasks_budget() {
    let mut reading = pin!(read_all(silent()));
    let outcome = poll_fn(|context| {
        // As hyper does in the same task while a sender sends without a pause.
        while has_budget_remaining() {
            let _ = pin!(consume_budget()).poll(context);
        }
        context.waker().wake_by_ref();
        reading.as_mut().poll(context)
    });
    assert_eq!(outcome.await, Err(BodyError::TimedOut));
}
