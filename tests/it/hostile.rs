//! Hostile callers, with honest ones beside them.
//!
//! Every attack goes over real sockets against the built binary. While it lasts, honest callers post in each of the ways in
//! which they do (on a connection that is kept, on a new one for each post, over HTTP/2): every one of their posts is
//! accepted. Afterwards exactly these arrived, in order; the relay still runs, is ready, has nothing in flight, never used
//! more than so much memory, and said nothing of a panic or an error.

mod bodies;
mod connections;
mod heads;
mod http2;
mod payloads;
mod smuggling;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, App, LONG_PATIENCE, client_builder, eventually};

/// What a relay may have in use at its most, in bytes, whatever a test does to it: about thirty times what it has when
/// nothing happens, which is far from what a machine has.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;

/// Posts that each honest caller makes at least, however short the attack.
const FEWEST_POSTS: u64 = 5;

/// What a user id of an attacker's begins with. No such call may arrive unless a test says that it is a good one.
const HOSTILE: &str = "hostile";

/// Attacks the app, and returns what the attack returns when all is found well.
async fn withstand<T>(app: &mut App, attack: impl AsyncFnOnce(&App) -> T) -> T {
    let is_over = Arc::new(AtomicBool::new(false));
    let url = app.relay().url("/customers");
    let mut honest = JoinSet::new();
    for (name, client) in [
        ("keeps", client_builder()),
        ("renews", client_builder().pool_max_idle_per_host(0)),
        ("streams", client_builder().http2_prior_knowledge()),
    ] {
        let client = client.timeout(LONG_PATIENCE).build().expect("a client");
        let (url, is_over) = (url.clone(), is_over.clone());
        honest.spawn(async move { (name, post_until(&is_over, &client, &url, name).await) });
    }
    let result = attack(app).await;
    is_over.store(true, Ordering::Relaxed);
    let mut posted = 0;
    let received = honest.join_all().await;
    let arrived = app.segment().received().await;
    for (name, count) in received {
        let numbers = arrived.iter().filter(|call| call["userId"] == name).map(|call| call["traits"]["n"].as_u64());
        assert!(numbers.eq((0..count).map(Some)), "{name}: {count} were accepted");
        posted += count;
    }
    let strangers = arrived.iter().filter(|call| call["userId"].as_str().is_none_or(|id| id.starts_with(HOSTILE)));
    assert_eq!(strangers.collect::<Vec<_>>(), [&Value::Null; 0]);
    check_health(app, posted).await;
    result
}

/// Posts one customer after another. The number that were accepted.
async fn post_until(is_over: &AtomicBool, client: &Client, url: &str, user: &str) -> u64 {
    let mut number = 0;
    while number < FEWEST_POSTS || !is_over.load(Ordering::Relaxed) {
        let body = json!({"userId": user, "traits": {"n": number}});
        let answer = Answer::of(client.post(url).json(&body).send().await.expect("an answer")).await;
        let answer = answer.expect("a whole answer");
        assert!(answer.is_accepted(), "{user}/{number}: {answer:?}");
        number += 1;
    }
    number
}

async fn check_health(app: &mut App, posted: u64) {
    assert_eq!(app.get("/readyz").await.status, 200);
    eventually(async || app.relay().metric("segment_relay_requests_in_flight").await == 0.0).await;
    let peak = app.relay().process().peak_memory();
    // For SECURITY.md: `cargo test --test it hostile -- --nocapture`.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test}: {posted} honest posts, {} MiB at most", peak >> 20);
    assert!(peak < MOST_MEMORY, "{peak} bytes");
    assert!(app.relay_mut().process_mut().is_running());
    let (log, errors) = (app.relay().process().stdout(), app.relay().process().stderr());
    let troubles: Vec<_> =
        log.iter().chain(&errors).filter(|line| line.contains("panic") || line.contains(r#""ERROR""#)).collect();
    assert!(troubles.is_empty(), "{troubles:?}");
}
