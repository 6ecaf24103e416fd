//! Connections over a pipe in memory: how long those who say nothing, or never end what they say, are listened to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::{ADA, Fake, FakeSegment, Mood};
use crate::api::AppState;
use crate::metrics::Metrics;
use crate::server::connection::{self, Shared};
use crate::supervisor::Supervisor;

/// What an HTTP/2 peer begins with, and settings that say nothing.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The same, with settings that allow no body to be sent; and a `GET /healthz`.
const HTTP2_THAT_READS_NOTHING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\
    \0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x04\x08/healthz";

/// A question whether the peer is there, in HTTP/2.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0whoisit?";

/// One end of a connection that is served.
struct Peer {
    stream: DuplexStream,
    shared: Arc<Shared>,
    began: Instant,
}

impl Peer {
    /// With so many bytes between the two ends.
    fn with(room: usize, mood: Mood) -> Self {
        let supervisor = Supervisor::new();
        let segment = FakeSegment { mood, ..FakeSegment::default() };
        let clients = Arc::new(Fake(Arc::new(parking_lot::Mutex::new(segment))));
        let metrics = Arc::new(Metrics::new().unwrap());
        let state = Arc::new(AppState::new(clients, metrics, supervisor.clone(), Duration::from_secs(10), 10));
        let shared = Arc::new(Shared::new(state));
        let (stream, served) = duplex(room);
        supervisor.spawn("connection", connection::serve(served, shared.clone()));
        Self { stream, shared, began: Instant::now() }
    }

    fn new() -> Self {
        Self::with(64 * 1024, Mood::Accepts)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request and reads the answer. What follows is counted from here.
    async fn post(&mut self) {
        self.send(request().as_bytes()).await;
        let mut answer = [0; 1024];
        let length = self.stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        self.began = Instant::now();
    }

    /// After how many seconds the other end closes, while `again` is sent every second.
    async fn closed_after(&mut self, again: &[u8]) -> u64 {
        let mut read = [0; 1024];
        loop {
            match timeout(Duration::from_secs(1), self.stream.read(&mut read)).await {
                Ok(Ok(0) | Err(_)) => return self.began.elapsed().as_secs(),
                Ok(Ok(_)) => {}
                // It may have closed just now; then the next read says so.
                Err(_nothing) => drop(self.stream.write_all(again).await),
            }
        }
    }
}

fn request() -> String {
    let length = ADA.len();
    format!(
        "POST /customers HTTP/1.1\r\nhost: relay\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ADA}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_heard_for_10_to_15_seconds() {
    let mut peer = Peer::new();
    peer.send(b"POST /customers HTTP/1.1\r\nx-slow: ").await;
    assert!((10..=15).contains(&peer.closed_after(b"x").await));
}

#[tokio::test(start_paused = true)]
async fn half_a_head_and_then_silence_is_heard_no_longer() {
    let mut peer = Peer::new();
    peer.post().await;
    peer.send(b"P").await;
    assert!((10..=15).contains(&peer.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays_for_75_to_80_seconds() {
    let mut fresh = Peer::new();
    assert!((75..=80).contains(&fresh.closed_after(b"").await));
    let mut used = Peer::new();
    used.post().await;
    assert!((75..=80).contains(&used.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_who_pings_is_idle_and_no_slow_head() {
    let mut peer = Peer::new();
    peer.send(HTTP2).await;
    assert!((75..=80).contains(&peer.closed_after(PING).await));
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_who_takes_no_answer_is_waited_for_for_10_to_15_seconds() {
    let mut peer = Peer::new();
    peer.send(HTTP2_THAT_READS_NOTHING).await;
    assert!((10..=15).contains(&peer.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn while_all_places_for_streams_are_taken_each_connection_has_one_and_the_next_is_reset() {
    let mut peer = Peer::new();
    let shared = peer.shared.clone();
    let places: Vec<_> = std::iter::from_fn(|| shared.streams.enter()).collect();
    assert!(places.len() >= 2_048, "{}", places.len());
    peer.send(HTTP2_THAT_READS_NOTHING).await;
    peer.send(b"\0\0\x0c\x01\x05\0\0\0\x03\x82\x86\x04\x08/healthz").await;
    let reset = |stream: u8| [b"\0\0\x04\x03\0\0\0\0", &[stream][..], b"\0\0\0\x08"].concat();
    let mut read = Vec::new();
    // Its frame is the last for as long as nothing else is said.
    let told = async {
        while !read.ends_with(&reset(3)) {
            assert!(peer.stream.read_buf(&mut read).await.unwrap() > 0, "{read:?}");
        }
    };
    timeout(Duration::from_secs(1), told).await.unwrap();
    assert!(!read.windows(13).any(|bytes| bytes == reset(1)), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn while_others_wait_for_a_place_an_idle_connection_stays_for_5_to_10_seconds() {
    let mut peer = Peer::new();
    peer.shared.crowded.store(true, Ordering::Relaxed);
    peer.post().await;
    assert!((5..=10).contains(&peer.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_call_is_under_way_is_not_idle() {
    let mut peer = Peer::with(64 * 1024, Mood::NeverAnswers);
    peer.shared.crowded.store(true, Ordering::Relaxed);
    peer.send(request().as_bytes()).await;
    assert!(timeout(Duration::from_secs(1_000), peer.closed_after(b"")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_reads_no_answer_is_read_no_more_and_closed() {
    let mut peer = Peer::with(1024, Mood::Accepts);
    let request = request();
    let mut sent = 0;
    while timeout(Duration::from_secs(1), peer.send(request.as_bytes())).await.is_ok() {
        sent += request.len();
        assert!(sent < 1024 * 1024, "what nobody reads is answered without end");
    }
    // Every write that fails from now on says that it is closed.
    let closed = async { while peer.stream.write_all(b"x").await.is_ok() {} };
    timeout(Duration::from_secs(35), closed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_process_drains_half_a_head_is_not_waited_for() {
    let mut peer = Peer::new();
    peer.post().await;
    peer.send(b"POST /customers HTTP/1.1\r\nx-slow: ").await;
    peer.shared.state.supervisor.end();
    assert!(peer.closed_after(b"x").await <= 1);
}
