//! The pooled connections to Segment die together, and new ones work: no caller notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{App, Relay, Segment, customer, eventually};
use crate::line::{Death, Line};

/// Idle connections in the relay's pool.
const WARM: usize = 16;

/// The publisher says what it does with a batch.
const PUBLISHER_LOG: (&str, &str) = ("RELAY_LOG", "info,segment_relay::publisher=debug");

/// The pauses of batches, once so many requests have ended.
async fn pauses(relay: &Relay, attempts: usize) -> usize {
    let count = |message: &str| relay.log().iter().filter(|line| line["message"] == message).count();
    eventually(async || count("request ended") == attempts).await;
    count("batch paused")
}

/// A relay with [`WARM`] idle connections to its sandbox.
async fn warm(settings: &[(&str, &str)]) -> (Relay, Line, Segment) {
    let segment = Segment::start().await;
    let line = Line::to(segment.url()).await;
    let url = line.url();
    let relay = Relay::start(&[&[("SEGMENT_ENDPOINT", &*url)][..], settings].concat()).await;
    line.hold_answers(true);
    let mut waiting = JoinSet::new();
    for number in 0..WARM {
        waiting.spawn(relay.post_request(&customer(&format!("warm-{number}"))).send());
        eventually(async || line.opened() == number + 1).await;
    }
    line.hold_answers(false);
    for answer in waiting.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    eventually(async || relay.metric("segment_relay_slots_busy").await == 0.0).await;
    assert_eq!(line.opened(), WARM);
    (relay, line, segment)
}

/// The users whose calls arrived, but for those that warmed the connections.
async fn arrived(segment: &Segment) -> Vec<String> {
    let calls = segment.received().await;
    let users = calls.iter().filter_map(|call| call["userId"].as_str());
    users.filter(|user| !user.starts_with("warm-")).map(str::to_owned).collect()
}

async fn all_calls_arrive_after(death: Death) {
    let (relay, line, segment) = warm(&[("RELAY_REQUEST_TIMEOUT", "30s")]).await;
    line.kill_all(death);
    let first = relay.post(&customer("c-0")).await;
    assert!(first.is_accepted(), "{death:?}: {first:?}");
    let customers: Vec<Value> = (1..40).map(|number| customer(&format!("c-{number}"))).collect();
    for answer in join_all(customers.iter().map(|customer| relay.post(customer))).await {
        assert!(answer.is_accepted(), "{death:?}: {answer:?}");
    }
    let mut users = arrived(&segment).await;
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 40);
    // The dead connections were dropped together: no other attempt met one of them.
    assert_eq!(relay.metric(r#"segment_relay_segment_attempts_total{result="unknown"}"#).await, 1.0);
}

#[tokio::test]
async fn all_calls_arrive_when_all_idle_connections_answer_with_a_reset() {
    all_calls_arrive_after(Death::Reset).await;
}

#[tokio::test]
async fn all_calls_arrive_when_all_idle_connections_are_closed_by_the_next_request() {
    all_calls_arrive_after(Death::Close).await;
}

#[tokio::test]
async fn all_calls_arrive_when_all_idle_connections_are_silent() {
    all_calls_arrive_after(Death::Silence).await;
}

#[tokio::test]
async fn the_attempt_on_a_new_connection_follows_at_once_and_counts_as_a_retry() {
    let (relay, line, segment) = warm(&[PUBLISHER_LOG]).await;
    line.kill_all(Death::Reset);
    assert!(relay.post(&customer("c-1")).await.is_accepted());
    // It follows at once.
    assert_eq!(pauses(&relay, WARM + 2).await, 0);
    let requests = segment.requests().await;
    let last = requests.last().unwrap();
    assert_eq!(last["headers"]["x-retry-count"], "1");
    assert_eq!(requests.len(), WARM + 1);
}

#[tokio::test]
async fn requests_under_way_on_silent_connections_each_wait_for_one_timeout() {
    let (relay, line, segment) = warm(&[("RELAY_REQUEST_TIMEOUT", "30s"), ("SEGMENT_MAX_CONCURRENCY", "16")]).await;
    line.kill_all(Death::Silence);
    let mut waiting = JoinSet::new();
    for number in 0..WARM {
        waiting.spawn(relay.post_request(&customer(&format!("c-{number}"))).send());
        eventually(async || line.swallowed() == number + 1).await;
    }
    for answer in waiting.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(arrived(&segment).await.len(), WARM);
    assert_eq!(relay.metric(r#"segment_relay_segment_attempts_total{result="unknown"}"#).await, WARM as f64);
}

#[tokio::test]
async fn an_attempt_that_fails_on_a_new_connection_is_followed_by_a_pause() {
    let app = App::with(&[PUBLISHER_LOG]).await;
    app.segment().fail(json!({"reset": true, "count": 1})).await;
    assert!(app.post(&customer("c-1")).await.is_accepted());
    assert_eq!(pauses(app.relay(), 2).await, 1);
}

/// Takes one connection at a time with a small buffer, reads the head of a request, pauses, and then reads the rest and accepts.
/// Returns its base URL, and counts the requests that it read to their end.
fn late_reader(pause: Duration) -> (String, Arc<AtomicUsize>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    let url = format!("http://{}", listener.local_addr().unwrap());
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            std::thread::sleep(pause);
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if stream.read_exact(&mut vec![0; length.unwrap_or(0)]).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    (url, whole)
}

#[tokio::test]
async fn a_large_request_to_a_segment_that_reads_late_needs_one_attempt() {
    let (url, whole) = late_reader(Duration::from_secs(4));
    let settings = [("SEGMENT_ENDPOINT", &*url), ("SEGMENT_TIMEOUT", "40s"), ("RELAY_REQUEST_TIMEOUT", "50s")];
    let relay = Relay::start(&settings).await;
    let large = json!({"userId": "c-1", "traits": {"text": "x".repeat(31_000)}});
    let answer = relay.post(&large).await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(whole.load(Ordering::SeqCst), 1);
    assert_eq!(relay.metric(r#"segment_relay_segment_attempts_total{result="unknown"}"#).await, 0.0);
}
