//! HTTP/2 by peers who know its weak spots: streams, resets, floods of frames, windows that stay shut.

use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::withstand;
use crate::harness::{App, Frame, H2, frame, get, post};

/// Peers who do the same at once.
const CROWD: usize = 10;

/// Frames of a flood, unless it is stopped.
const FLOOD: usize = 20_000;

/// Of them in one write.
const WAVE: usize = 500;

/// Streams that a peer may have open (`src/server/connection.rs`).
const MAX_STREAMS: usize = 100;

/// A peer that is not read for so long is stuck.
const STUCK: Duration = Duration::from_secs(2);

/// Both flags of a head that is a whole request.
const WHOLE: u8 = Frame::END_HEADERS | Frame::END_STREAM;

/// Codes of RFC 9113, section 7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A peer's streams have odd numbers.
fn stream(number: usize) -> u32 {
    u32::try_from(2 * number + 1).expect("a stream")
}

/// A stream that begins with this frame, and is reset at once.
fn reset(number: usize, begin: Vec<u8>) -> Vec<u8> {
    [begin, frame(Frame::RST_STREAM, 0, stream(number), &CANCEL.to_be_bytes())].concat()
}

/// `first`, and from then on `next`.
fn then(number: usize, first: Vec<u8>, next: Vec<u8>) -> Vec<u8> {
    if number == 0 { first } else { next }
}

/// Sends one frame after another until it is stopped. The code with which it was; none if all were sent and the peer is
/// there still.
async fn flood(app: &App, frames: impl Fn(usize) -> Vec<u8>) -> Option<u32> {
    let mut peer = H2::connect(app.relay().address(), &[]).await;
    let waves = (0..FLOOD / WAVE).map(|wave| (wave * WAVE..(wave + 1) * WAVE).flat_map(&frames).collect::<Vec<_>>());
    for wave in waves {
        // Who does not read what is said to him is read no more; who did wrong is told so.
        if !matches!(timeout(STUCK, peer.try_send(wave)).await, Ok(Ok(()))) {
            break;
        }
    }
    // It is there still if it answers.
    let _ = peer.try_send(frame(Frame::PING, 0, 0, b"the last")).await;
    loop {
        let frame = peer.next().await.expect("an answer to the last frame, or why there is none");
        match frame.kind {
            Frame::GOAWAY => return frame.error(),
            Frame::PING if frame.payload == b"the last" => return None,
            _ => {}
        }
    }
}

#[tokio::test]
async fn floods_of_frames_are_stopped_or_cost_nobody_else() {
    let opened = |flags| move |n| frame(Frame::HEADERS, flags, stream(n), &post());
    let ask = |n| frame(Frame::HEADERS, WHOLE, stream(n), &get("/healthz"));
    let half = || frame(Frame::HEADERS, Frame::END_STREAM, 1, &get("/healthz"));
    let more = |block: &[u8]| frame(Frame::CONTINUATION, 0, 1, block);
    // `x: yyy...`, put into the table of what was sent before, where it takes nearly all the room there is.
    let entry = [&get("/healthz")[..], &[0x40, 1, b'x', 0x7f, 0x80, 0x1e], &[b'y'; 3967]].concat();
    let a_header_without_end = [&get("/healthz")[..], &[0x00, 1, b'x', 0x7f, 0xff, 0xff, 0x7f]].concat();
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        // Rapid reset, CVE-2023-44487.
        assert_eq!(flood(app, |n| reset(n, ask(n))).await, Some(ENHANCE_YOUR_CALM));
        assert_eq!(flood(app, |n| reset(n, opened(Frame::END_HEADERS)(n))).await, Some(ENHANCE_YOUR_CALM));
        // The same by making us reset, CVE-2025-8671: a window update of nothing.
        let made = |n| [opened(Frame::END_HEADERS)(n), frame(Frame::WINDOW_UPDATE, 0, stream(n), &[0; 4])].concat();
        assert_eq!(flood(app, made).await, Some(PROTOCOL_ERROR));
        // More streams than are allowed, without reading an answer or without ending any.
        assert_eq!(flood(app, ask).await, Some(ENHANCE_YOUR_CALM));
        assert_eq!(flood(app, opened(Frame::END_HEADERS)).await, Some(ENHANCE_YOUR_CALM));
        // Heads without end, CVE-2024-27316.
        assert_eq!(flood(app, |n| then(n, half(), more(&[]))).await, Some(ENHANCE_YOUR_CALM));
        let header = [&[0x00, 1, b'x', 100][..], &[b'y'; 100]].concat();
        assert_eq!(flood(app, |n| then(n, half(), more(&header))).await, Some(ENHANCE_YOUR_CALM));
        let begin = || frame(Frame::HEADERS, Frame::END_STREAM, 1, &a_header_without_end);
        assert_eq!(flood(app, |n| then(n, begin(), more(&[b'y'; 1_000]))).await, Some(ENHANCE_YOUR_CALM));
        // 4,000 bytes named in one, 10,000 times a head.
        let bomb = |n| frame(Frame::HEADERS, WHOLE, stream(n), &[&get("/healthz")[..], &[0xbe; 10_000]].concat());
        let begin = || frame(Frame::HEADERS, WHOLE, 1, &entry);
        assert_eq!(flood(app, |n| then(n, begin(), bomb(n))).await, Some(ENHANCE_YOUR_CALM));
        // A body of nothing, again and again.
        let begin = || opened(Frame::END_HEADERS)(0);
        let nothing = || frame(Frame::DATA, 0, 1, &[]);
        assert_eq!(flood(app, |n| then(n, begin(), nothing())).await, Some(ENHANCE_YOUR_CALM));
        // What is allowed, and has no cost but its bytes.
        assert_eq!(flood(app, |_| frame(Frame::PING, 0, 0, b"whoisit?")).await, None);
        assert_eq!(flood(app, |_| frame(Frame::SETTINGS, 0, 0, &[])).await, None);
        assert_eq!(flood(app, |n| frame(Frame::PRIORITY, 0, stream(n), &[0, 0, 0, 0, 1])).await, None);
        assert_eq!(flood(app, |n| frame(0xbe, 0, stream(n), &[0; 10])).await, None);
        assert_eq!(flood(app, |_| frame(Frame::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())).await, None);
        // What is not.
        let too_wide = 0x7fff_ffff_u32.to_be_bytes();
        assert_eq!(flood(app, |_| frame(Frame::WINDOW_UPDATE, 0, 0, &too_wide)).await, Some(FLOW_CONTROL_ERROR));
        assert_eq!(flood(app, |_| frame(Frame::PING, 0, 0, &[0; 20_000])).await, Some(FRAME_SIZE_ERROR));
        assert_eq!(flood(app, |_| frame(Frame::DATA, 0, 0, &[0; 20])).await, Some(PROTOCOL_ERROR));
        assert_eq!(flood(app, |_| frame(Frame::HEADERS, WHOLE, 2, &get("/healthz"))).await, Some(PROTOCOL_ERROR));
    })
    .await;
}

#[tokio::test]
async fn streams_beyond_the_hundredth_are_refused_and_bodies_that_trickle_are_408() {
    let mut app = App::with(&[("RELAY_REQUEST_TIMEOUT", "8s")]).await;
    withstand(&mut app, async |app| {
        join_all((0..CROWD).map(async |_| {
            let mut peer = H2::connect(app.relay().address(), &[]).await;
            for number in 0..MAX_STREAMS + 5 {
                peer.send(frame(Frame::HEADERS, Frame::END_HEADERS, stream(number), &post())).await;
                peer.send(frame(Frame::DATA, 0, stream(number), b"{")).await;
            }
            let (mut refused, mut late) = (0, 0);
            while refused + late < MAX_STREAMS + 5 {
                let frame = peer.next().await.expect("a frame");
                assert_ne!(frame.kind, Frame::GOAWAY, "{frame:?}");
                let is_late = String::from_utf8_lossy(&frame.payload).contains("request_timeout");
                late += usize::from(frame.kind == Frame::DATA && is_late);
                let is_refused = frame.kind == Frame::RST_STREAM && frame.payload == REFUSED_STREAM.to_be_bytes();
                refused += usize::from(is_refused);
            }
            assert_eq!((refused, late), (5, MAX_STREAMS));
        }))
        .await;
    })
    .await;
}

/// Connections with so many streams that they take every place for one beside the first of each connection.
const GREEDY: usize = 30;

#[tokio::test]
async fn bodies_of_many_streams_that_do_not_come_keep_no_other_connection_from_being_read() {
    let mut app = App::with(&[("RELAY_REQUEST_TIMEOUT", "8s")]).await;
    withstand(&mut app, async |app| {
        join_all((0..GREEDY).map(async |_| {
            let mut peer = H2::connect(app.relay().address(), &[]).await;
            let heads = (0..MAX_STREAMS).flat_map(|n| frame(Frame::HEADERS, Frame::END_HEADERS, stream(n), &post()));
            peer.send(heads.collect::<Vec<_>>()).await;
            let mut late = 0;
            while late < MAX_STREAMS {
                let frame = peer.next().await.expect("a frame");
                let answer = String::from_utf8_lossy(&frame.payload);
                late += usize::from(frame.kind == Frame::DATA && answer.contains("request_timeout"));
            }
        }))
        .await;
    })
    .await;
}

/// This block of headers, and a header of one byte so many times: a byte each as it is sent, and a hundred in memory.
fn inflated(block: Vec<u8>, count: usize) -> Vec<u8> {
    // The first takes the first place in the dynamic table, to which the others refer.
    [block, b"\x40\x01x\0".into(), vec![0xbe; count - 1]].concat()
}

#[tokio::test]
async fn a_request_with_more_than_100_headers_is_refused_at_once() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let mut peer = H2::connect(app.relay().address(), &[]).await;
        for (number, (count, is_accepted)) in [(100, true), (101, false), (980, false)].into_iter().enumerate() {
            peer.send(frame(Frame::HEADERS, WHOLE, stream(number), &inflated(get("/healthz"), count))).await;
            let answer = peer.next_of(Frame::HEADERS).await.expect("an answer");
            // 200 is one byte (RFC 7541, appendix A).
            assert_eq!((answer.stream, answer.payload[0] == 0x88), (stream(number), is_accepted), "{count}");
        }
        // They are answered though their bodies are missing, and are gone then.
        let numbers = 3..3 + MAX_STREAMS;
        let post = || inflated(post(), 900);
        let heads = numbers.clone().flat_map(|n| frame(Frame::HEADERS, Frame::END_HEADERS, stream(n), &post()));
        peer.send(heads.collect::<Vec<_>>()).await;
        for _ in numbers {
            assert!(peer.next_of(Frame::HEADERS).await.expect("an answer").flags & Frame::END_STREAM != 0);
        }
    })
    .await;
}

#[tokio::test]
async fn of_peers_whose_blocks_of_headers_lack_frames_only_64_stay() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let mut peers = JoinSet::new();
        for _ in 0..100 {
            let mut peer = app.relay().connect().await;
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            let begun =
                [preface, frame(Frame::SETTINGS, 0, 0, &[]), frame(Frame::HEADERS, 0, 1, &inflated(post(), 980))];
            peer.send(begun.concat()).await;
            peers.spawn(async move { peer.is_closed_at_last().await });
        }
        for _ in 64..100 {
            assert!(peers.join_next().await.expect("a peer").expect("no panic"));
        }
    })
    .await;
}

/// Many peers who have no room for an answer, until they are closed.
pub(super) async fn take_no_answer(app: &App) {
    join_all((0..CROWD).map(async |_| {
        let mut peer = H2::connect(app.relay().address(), &[(Frame::INITIAL_WINDOW_SIZE, 0)]).await;
        let asked = (0..MAX_STREAMS).flat_map(|n| frame(Frame::HEADERS, WHOLE, stream(n), &get("/metrics")));
        peer.send(asked.collect::<Vec<_>>()).await;
        let mut heads = 0;
        while let Some(frame) = peer.next().await {
            assert_ne!(frame.kind, Frame::DATA);
            heads += usize::from(frame.kind == Frame::HEADERS);
        }
        assert_eq!(heads, MAX_STREAMS);
        assert!(peer.is_closed().await);
    }))
    .await;
}

#[tokio::test]
async fn frames_of_noise_are_no_requests() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let mut random = Rng::with_seed(4);
        for _ in 0..500 {
            let mut peer = H2::connect(app.relay().address(), &[]).await;
            for _ in 0..random.usize(1..20) {
                let mut payload = vec![0; random.usize(..100)];
                random.fill(&mut payload);
                let noise = frame(random.u8(..11), random.u8(..), random.u32(..8), &payload);
                // It may have been closed over one before.
                let _ = peer.try_send(noise).await;
            }
        }
    })
    .await;
}
