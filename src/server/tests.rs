//! Connections over a pipe in memory, served by a service that knows nothing of customers: how long a silent or slow peer
//! may stay.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tower::service_fn;

use super::connection::{ServerState, serve_connection};
use super::places::{Notice, Place};
use super::stream::Transport;
use super::{Connection, Limits};
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// The address of every peer.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

/// The first bytes of an HTTP/2 peer, and empty settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The same, with settings that allow no body to be sent; and a `GET /healthz`.
const HTTP2_THAT_READS_NOTHING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\
    \0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x04\x08/healthz";

/// The same as [`HTTP2`], and a `GET /healthz`.
const HTTP2_GET: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x04\x08/healthz";

/// Kinds of HTTP/2 frames.
const DATA: u8 = 0;
const GOAWAY: u8 = 7;

/// An HTTP/2 ping.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0whoisit?";

/// The streams that are open at once, beside one on each connection.
const STREAMS: usize = 8;

/// A request and its answer: the body is read, and a word is said.
const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: relay\r\ncontent-length: 5\r\n\r\nhello";

/// The same, and a secret is shown.
const SECRET: &[u8] = b"GET /secret HTTP/1.1\r\nhost: relay\r\n\r\n";

/// How much is served at once.
const LIMITS: Limits = Limits { connections: 8, streams: STREAMS, keep_alive: Duration::from_secs(75), threads: 1 };

/// A pipe has no resets.
impl Transport for DuplexStream {
    fn poll_reset(&self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}

/// One end of a connection that is served.
struct Peer {
    stream: DuplexStream,
    shared: Arc<ServerState>,
    supervisor: Supervisor,
    began: Instant,
    /// The places of others.
    newcomers: Vec<(Place, Notice)>,
}

impl Peer {
    /// A connection with a buffer of `room` bytes. The service answers, or never does.
    fn with(room: usize, answers: bool) -> Self {
        let supervisor = Supervisor::new();
        let metrics = Metrics::new().unwrap().of_listener("senders", LIMITS.connections);
        let shared = Arc::new(ServerState::new(supervisor.clone(), LIMITS, metrics));
        let service = service_fn(move |request: Request<Incoming>| async move {
            if !answers {
                std::future::pending::<()>().await;
            }
            let connection = request.extensions().get::<Connection>().cloned().unwrap();
            if request.uri().path() == "/secret" {
                connection.set_known();
            }
            let _waits = connection.await_body();
            // A body that breaks off ends the connection anyway.
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"heard"))))
        });
        let (stream, served) = duplex(room);
        let connection = shared.clone();
        supervisor.spawn("connection", async move {
            let place = connection.places.take(PEER).await.unwrap();
            serve_connection(served, place, service, connection).await;
        });
        Self { stream, shared, supervisor, began: Instant::now(), newcomers: Vec::new() }
    }

    /// Lets newcomers take places until they are short.
    async fn crowd(&mut self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        while !self.shared.places.make_room() {
            self.newcomers.push(self.shared.places.take(PEER).await.unwrap());
        }
    }

    /// Makes the connection one on which a secret was shown, so that newcomers go before it.
    async fn show_secret(&mut self) {
        self.send(SECRET).await;
        let mut answer = [0; 1024];
        let length = self.stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }

    fn new() -> Self {
        Self::with(64 * 1024, true)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request and reads the answer. Times count from here.
    async fn post(&mut self) {
        self.send(REQUEST).await;
        let mut answer = [0; 1024];
        let length = self.stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        self.began = Instant::now();
    }

    /// The seconds until the other end closes, while `again` is sent every second.
    async fn closed_after(&mut self, again: &[u8]) -> u64 {
        let mut read = [0; 1024];
        loop {
            match timeout(Duration::from_secs(1), self.stream.read(&mut read)).await {
                Ok(Ok(0) | Err(_)) => return self.began.elapsed().as_secs(),
                Ok(Ok(_)) => {}
                // If the other end has just closed, the next read says so.
                Err(_nothing) => drop(self.stream.write_all(again).await),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_closes_the_connection_after_10_to_15_seconds() {
    let mut peer = Peer::new();
    peer.send(b"POST /customers HTTP/1.1\r\nx-slow: ").await;
    assert!((10..=15).contains(&peer.closed_after(b"x").await));
    assert_eq!(peer.shared.places.metrics.slow.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn half_a_head_and_then_silence_closes_it_as_soon() {
    let mut peer = Peer::new();
    peer.post().await;
    peer.send(b"P").await;
    assert!((10..=15).contains(&peer.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_75_to_80_seconds() {
    let mut fresh = Peer::new();
    assert!((75..=80).contains(&fresh.closed_after(b"").await));
    let mut used = Peer::new();
    used.post().await;
    assert!((75..=80).contains(&used.closed_after(b"").await));
    assert_eq!(used.shared.places.metrics.slow.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_that_only_pings_is_idle_and_not_slow() {
    let mut peer = Peer::new();
    peer.send(HTTP2).await;
    assert!((75..=80).contains(&peer.closed_after(PING).await));
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_that_takes_no_answer_is_closed_after_10_to_15_seconds() {
    let mut peer = Peer::new();
    peer.send(HTTP2_THAT_READS_NOTHING).await;
    assert!((10..=15).contains(&peer.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn while_no_stream_permits_are_left_each_connection_has_one_stream_and_the_next_is_reset() {
    let mut peer = Peer::new();
    let shared = peer.shared.clone();
    let places: Vec<_> = std::iter::from_fn(|| shared.streams.try_acquire().ok()).collect();
    assert_eq!(places.len(), STREAMS);
    peer.send(HTTP2_THAT_READS_NOTHING).await;
    peer.send(b"\0\0\x0c\x01\x05\0\0\0\x03\x82\x86\x04\x08/healthz").await;
    let reset = |stream: u8| [b"\0\0\x04\x03\0\0\0\0", &[stream][..], b"\0\0\0\x08"].concat();
    let mut read = Vec::new();
    // The reset is the last frame: nothing else is sent.
    let told = async {
        while !read.ends_with(&reset(3)) {
            assert!(peer.stream.read_buf(&mut read).await.unwrap() > 0, "{read:?}");
        }
    };
    timeout(Duration::from_secs(1), told).await.unwrap();
    assert!(!read.windows(13).any(|bytes| bytes == reset(1)), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn while_places_are_short_the_connection_that_is_idle_for_longest_makes_room_at_once() {
    for http2 in [false, true] {
        let mut peer = Peer::new();
        if http2 {
            peer.send(HTTP2_GET).await;
            assert!(kinds_within(&mut peer, Duration::from_secs(1)).await.contains(&DATA));
        } else {
            peer.post().await;
        }
        peer.crowd().await;
        peer.began = Instant::now();
        let closed = timeout(Duration::from_secs(1), peer.closed_after(b"")).await;
        assert_eq!(closed, Ok(0), "{http2}");
        assert!(peer.newcomers.iter_mut().all(|(_, notice)| notice.try_recv().is_err()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_whole_request_makes_room_at_once() {
    for begun in
        [&b""[..], b"G", b"POST / HTTP/1.1\r\nhost: relay\r\ncontent-length: 5\r\n\r\nhell", &HTTP2[..20], HTTP2]
    {
        let mut peer = Peer::new();
        peer.send(begun).await;
        peer.crowd().await;
        peer.began = Instant::now();
        assert_eq!(timeout(Duration::from_secs(1), peer.closed_after(b"")).await, Ok(0), "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_places_are_short_an_http1_connection_ends_with_its_next_answer_unless_it_has_shown_a_secret() {
    for (shows, request) in [(false, REQUEST), (true, REQUEST), (false, SECRET)] {
        let mut peer = Peer::new();
        // What was accepted earlier makes room.
        peer.newcomers.push(peer.shared.places.take(PEER).await.unwrap());
        peer.newcomers.push(peer.shared.places.take(PEER).await.unwrap());
        tokio::task::yield_now().await;
        if shows {
            peer.show_secret().await;
        }
        peer.crowd().await;
        peer.send(request).await;
        let mut answer = Vec::new();
        let ended = timeout(Duration::from_secs(1), peer.stream.read_to_end(&mut answer)).await.is_ok();
        let answer = String::from_utf8(answer).unwrap();
        let stays = shows || request == SECRET;
        assert_eq!((ended, answer.contains("connection: close\r\n")), (!stays, !stays), "{answer}");
        assert!(answer.ends_with("heard"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_places_are_short_an_http2_connection_is_answered_and_then_gets_goaway() {
    let mut peer = Peer::new();
    peer.newcomers.push(peer.shared.places.take(PEER).await.unwrap());
    peer.newcomers.push(peer.shared.places.take(PEER).await.unwrap());
    tokio::task::yield_now().await;
    peer.crowd().await;
    peer.send(HTTP2).await;
    // Nothing was answered yet, so the peer is not told.
    assert!(!kinds_within(&mut peer, Duration::from_secs(1)).await.contains(&GOAWAY));
    peer.send(&HTTP2_GET[HTTP2.len()..]).await;
    let kinds = kinds_within(&mut peer, Duration::from_secs(1)).await;
    assert!(kinds.contains(&DATA) && kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn while_places_are_short_no_connection_gets_older_than_60_seconds() {
    let mut idle = Peer::new();
    idle.show_secret().await;
    idle.crowd().await;
    assert!((55..=60).contains(&idle.closed_after(b"").await));
    let mut busy = Peer::new();
    busy.show_secret().await;
    busy.crowd().await;
    // Its answers say that it ends when it is as old.
    let closed = timeout(Duration::from_secs(100), busy.closed_after(REQUEST)).await.unwrap();
    assert!((55..=60).contains(&closed), "{closed}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_just_after_a_new_connection_is_answered_though_the_process_drains() {
    let mut peer = Peer::new();
    peer.supervisor.stop();
    peer.supervisor.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    peer.send(REQUEST).await;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(1), peer.stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_never_used_ends_at_once_when_the_process_drains() {
    let mut peer = Peer::new();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = Instant::now();
    peer.supervisor.cancel();
    let mut nothing = Vec::new();
    timeout(Duration::from_secs(1), peer.stream.read_to_end(&mut nothing)).await.unwrap().unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_request_is_being_answered_is_not_idle_and_makes_no_room() {
    let mut peer = Peer::with(64 * 1024, false);
    peer.send(REQUEST).await;
    peer.crowd().await;
    assert!(timeout(Duration::from_secs(1_000), peer.closed_after(b"")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_server_stops_reading_from_a_peer_that_does_not_read_and_closes_the_connection() {
    let mut peer = Peer::with(1024, true);
    let mut sent = 0;
    while timeout(Duration::from_secs(1), peer.send(REQUEST)).await.is_ok() {
        sent += REQUEST.len();
        assert!(sent < 1024 * 1024, "what nobody reads is answered without end");
    }
    // The first write that fails shows that the connection is closed.
    let closed = async { while peer.stream.write_all(b"x").await.is_ok() {} };
    timeout(Duration::from_secs(35), closed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_process_drains_an_incomplete_head_is_not_waited_for() {
    let mut peer = Peer::new();
    peer.post().await;
    peer.send(b"POST /customers HTTP/1.1\r\nx-slow: ").await;
    peer.supervisor.cancel();
    assert!(peer.closed_after(b"x").await <= 1);
}

/// The HTTP/2 frames that the other end sends in this time, or until it closes, by their kinds.
async fn kinds_within(peer: &mut Peer, time: Duration) -> Vec<u8> {
    let mut read = Vec::new();
    // What was read before the time is over stays.
    let _ = timeout(time, peer.stream.read_to_end(&mut read)).await;
    let (mut frames, mut kinds) = (&read[..], Vec::new());
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        kinds.push(*kind);
        frames = &rest[u32::from_be_bytes([0, *a, *b, *c]) as usize..];
    }
    kinds
}

#[tokio::test(start_paused = true)]
async fn an_http2_preface_in_several_packets_has_the_time_limits_of_http2() {
    for cut in [1, 2, 3, 4, 23, 24, 30] {
        let mut peer = Peer::new();
        for packet in HTTP2.chunks(cut) {
            peer.send(packet).await;
            tokio::task::yield_now().await;
        }
        peer.began = Instant::now();
        let after = peer.closed_after(b"").await;
        assert!((75..=80).contains(&after), "{cut}: {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_http2_preface_has_the_time_of_a_head() {
    let mut peer = Peer::new();
    peer.send(&HTTP2[..20]).await;
    assert!((10..=15).contains(&peer.closed_after(b"").await));
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_ends_with_goaway() {
    let mut peer = Peer::new();
    peer.send(HTTP2).await;
    assert!(kinds_within(&mut peer, Duration::from_secs(100)).await.contains(&GOAWAY));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_is_read_for_a_moment_so_that_nothing_is_answered_with_a_reset() {
    let mut peer = Peer::new();
    peer.post().await;
    assert!((75..=80).contains(&peer.closed_after(b"").await));
    // A request that crosses the end of the connection.
    peer.stream.write_all(REQUEST).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(peer.stream.write_all(REQUEST).await.is_err());
}
