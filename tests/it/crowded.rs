//! More callers than there are places for connections, each polite or slow: they connect again whenever they are closed, and keep
//! nobody out.

use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use futures_util::future::{join_all, join3};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{App, Frame, H2, PATIENCE, Raw, Relay, TOKEN, customer, eventually, frame, get, head};

/// Places for senders' connections.
const PLACES: usize = 160;

/// Callers who want them.
const CALLERS: usize = 1_100;

/// Between two requests of a caller, and before its first.
const PAUSE: Duration = Duration::from_secs(4);

/// Files that this process may have open: the other ends of the crowd, and what the tests beside this one need.
const OUR_FILES: u64 = 4_096;

/// What a caller of the crowd does with a connection.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// It sends a request after each pause.
    Polite,
    /// The same over HTTP/2.
    PoliteHttp2,
    /// Its first head never ends.
    SlowHead,
    /// Its first body never ends.
    SlowBody,
}

/// Callers who do the same for as long as the value lives, once each has connected.
async fn crowd(address: SocketAddr, count: usize, manner: Manner) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    let first = join_all((0..count).map(|_| Raw::connect(address))).await;
    for caller in first {
        callers.spawn(async move {
            call(caller, manner).await;
            loop {
                call(Raw::connect(address).await, manner).await;
            }
        });
    }
    callers
}

/// Uses one connection until it is closed.
async fn call(mut caller: Raw, manner: Manner) {
    let whole = Frame::END_HEADERS | Frame::END_STREAM;
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(Frame::SETTINGS, 0, 0, &[])].concat();
    let first = match manner {
        Manner::Polite => Vec::new(),
        Manner::PoliteHttp2 => preface,
        Manner::SlowHead => head("x-slow: ")[..60].into(),
        Manner::SlowBody => (head("content-length: 1000\r\n") + "{").into(),
    };
    // Closed is closed.
    let _ = caller.try_send(first).await;
    for stream in (1..).step_by(2) {
        if timeout(PAUSE, caller.is_closed_at_last()).await.is_ok() {
            return;
        }
        let next = match manner {
            Manner::Polite => b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n".into(),
            Manner::PoliteHttp2 => frame(Frame::HEADERS, whole, stream, &get("/healthz")),
            Manner::SlowHead | Manner::SlowBody => b" ".to_vec(),
        };
        let _ = caller.try_send(next).await;
    }
}

/// A relay with so few places, and a crowd that wants more of them.
async fn crowded(settings: &[(&str, &str)], manners: &[Manner]) -> (App, Vec<JoinSet<()>>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < OUR_FILES) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(OUR_FILES), maximum })
            .expect("4,096 open files are allowed");
    }
    // What the relay needs beside its connections, with 8 slots (`src/server/fd_limit.rs`).
    let files = 64 + 4 * available_parallelism().map_or(1, usize::from) + 2 * 8 + PLACES;
    let settings = [&[("SEGMENT_MAX_CONCURRENCY", "8")][..], settings].concat();
    let app = App::limited(&format!("ulimit -n {files}"), &settings).await;
    let crowds = manners.iter().map(|manner| crowd(app.relay().address(), CALLERS / manners.len(), *manner));
    let crowds = join_all(crowds).await;
    eventually(async || places_are_short(app.relay())).await;
    (app, crowds)
}

fn places_are_short(relay: &Relay) -> bool {
    relay.process().stdout().iter().any(|line| line.contains("few places for connections are left"))
}

/// Callers who come later connect and are answered.
async fn a_newcomer_is_served_beside(manner: Manner) {
    let (app, _crowd) = crowded(&[], &[manner]).await;
    let address = app.relay().address();
    let post = async {
        let mut caller = Raw::connect(address).await;
        caller.post(&customer("c-1").to_string()).await;
        assert!(caller.answer().await.is_accepted(), "{manner:?}");
    };
    let probe = async {
        let mut caller = Raw::connect(address).await;
        caller.send("GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n").await;
        assert_eq!(caller.answer().await.status, 200, "{manner:?}");
    };
    let probe_http2 = async {
        let mut caller = H2::connect(address, &[]).await;
        caller.send(frame(Frame::HEADERS, Frame::END_HEADERS | Frame::END_STREAM, 1, &get("/healthz"))).await;
        assert!(caller.next_of(Frame::DATA).await.is_some(), "{manner:?}");
    };
    timeout(PATIENCE, join3(post, probe, probe_http2)).await.expect("to be served");
    assert_eq!(app.segment().received().await.len(), 1);
}

#[tokio::test]
async fn a_newcomer_is_served_though_polite_callers_hold_every_place() {
    a_newcomer_is_served_beside(Manner::Polite).await;
}

#[tokio::test]
async fn a_newcomer_is_served_though_polite_http2_callers_hold_every_place() {
    a_newcomer_is_served_beside(Manner::PoliteHttp2).await;
}

#[tokio::test]
async fn a_newcomer_is_served_though_unfinished_heads_hold_every_place() {
    a_newcomer_is_served_beside(Manner::SlowHead).await;
}

#[tokio::test]
async fn a_newcomer_is_served_though_unfinished_bodies_hold_every_place() {
    a_newcomer_is_served_beside(Manner::SlowBody).await;
}

#[tokio::test]
async fn a_sender_who_shows_a_secret_keeps_its_connection_while_strangers_want_every_place() {
    const SECRET: &str = "a-token-of-the-tests-0123456789";
    let settings = [("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", SECRET)];
    let (app, _crowd) = crowded(&settings, &[Manner::Polite, Manner::PoliteHttp2, Manner::SlowBody]).await;
    let mut sender = app.relay().connect().await;
    for number in 0..5 {
        let body = customer(&format!("c-{number}")).to_string();
        let secret = format!("authorization: Bearer {SECRET}\r\ncontent-length: {}\r\n", body.len());
        sender.send(head(&secret) + &body).await;
        let answer = sender.answer().await;
        assert!(answer.is_accepted() && answer.header("connection").is_none(), "{number}: {answer:?}");
        // A stranger who comes later is served in between, and hears that its connection ends.
        let mut stranger = app.relay().connect().await;
        stranger.send("GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n").await;
        let answer = stranger.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    assert_eq!(app.segment().received().await.len(), 5);
}

#[tokio::test]
async fn an_operator_is_served_though_others_connect_to_the_operators_address_without_pause() {
    let settings = [("RELAY_ADMIN_LISTEN", "127.0.0.1:0"), ("RELAY_ADMIN_TOKEN", TOKEN)];
    let relay = Relay::start(&settings).await;
    let log = relay.log();
    let line = log.iter().find(|line| line["message"] == "operators are served").expect("a line");
    let operators: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let _crowd = crowd(operators, 200, Manner::SlowHead).await;
    eventually(async || places_are_short(&relay)).await;
    let mut operator = Raw::connect(operators).await;
    for _ in 0..3 {
        operator.send(format!("GET /status HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {TOKEN}\r\n\r\n")).await;
        let answer = operator.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
        let mut prober = Raw::connect(operators).await;
        prober.send("GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n").await;
        assert_eq!(prober.answer().await.status, 200);
    }
}
