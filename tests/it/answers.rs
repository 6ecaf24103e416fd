//! What an answer means: Segment's own word refuses or accepts a call, and a gateway's or a proxy's word never does.

mod echo;
mod reasons;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{App, Durable, Peer, Relay, ada, answer, customer, eventually};

/// Where a host has no address, so that only a proxy could reach it.
const NOWHERE: &str = "https://segment.invalid";

async fn waiting(durable: &Durable) -> f64 {
    durable.relay().metric("segment_relay_outbox_calls").await
}

#[tokio::test]
async fn a_gateways_4xx_buries_no_stored_call() {
    join_all([402, 405, 407, 421, 451].map(|status| async move {
        let durable = Durable::start().await;
        durable.segment().fail(json!({"status": status, "body": "no"})).await;
        for number in 0..50 {
            assert!(durable.post(&customer(&format!("c-{number}"))).await.is_stored());
        }
        eventually(async || durable.segment().stats().await["faultedRequests"].as_u64() >= Some(2)).await;
        assert!(durable.dead_letters().await.is_empty(), "{status}");
        durable.segment().heal().await;
        eventually(async || waiting(&durable).await == 0.0).await;
        assert_eq!(durable.segment().received().await.len(), 50, "{status}");
        assert!(durable.dead_letters().await.is_empty(), "{status}");
    }))
    .await;
}

#[tokio::test]
async fn a_sign_in_page_accepts_no_stored_call() {
    let is_signed_in = Arc::new(AtomicBool::new(false));
    let word = is_signed_in.clone();
    let gateway = Peer::start(move |_| {
        let page = "<html><title>Sign in</title></html>";
        answer("200 OK", &[], if word.load(Ordering::Relaxed) { r#"{"success":true}"# } else { page })
    });
    let mut durable = Durable::prepared(&[]).await;
    durable.set("SEGMENT_ENDPOINT", &gateway.url());
    durable.start_relay().await;
    for number in 0..10 {
        assert!(durable.post(&customer(&format!("c-{number}"))).await.is_stored());
    }
    eventually(async || gateway.heads().len() >= 2).await;
    assert_eq!(waiting(&durable).await, 10.0);
    assert!(durable.dead_letters().await.is_empty());
    is_signed_in.store(true, Ordering::Relaxed);
    eventually(async || waiting(&durable).await == 0.0).await;
    assert!(durable.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_2xx_that_is_not_segments_is_no_success() {
    let cut = format!(r#"{{"pad":"{}","success":true}}"#, "x".repeat(20_000));
    let bodies =
        ["<html>sign in</html>", "OK", "[]", r#""success""#, "true", "null", r#"{"success":true"#, "{} {}", &cut];
    join_all(bodies.map(|body| async move {
        let app = App::start().await;
        app.segment().fail(json!({"status": 200, "body": body})).await;
        app.post(&ada()).await.assert_failed(502, "segment_misconfigured");
    }))
    .await;
}

#[tokio::test]
async fn a_gateway_that_did_not_hear_in_time_leaves_the_outcome_unknown() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "600ms")]).await;
    for status in [502, 504] {
        app.segment().fail(json!({"status": status, "afterAccepting": true})).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(504, "segment_timeout");
        assert!(answer.retry_after() >= Some(1), "{status}: {answer:?}");
    }
    assert!(!app.segment().received().await.is_empty());
}

#[tokio::test]
async fn a_4xx_that_the_table_does_not_name_is_not_segments_api() {
    let app = App::start().await;
    for status in [418, 428] {
        app.segment().fail(json!({"status": status})).await;
        app.post(&ada()).await.assert_failed(502, "segment_misconfigured");
        app.segment().heal().await;
        assert!(app.post(&customer("c-2")).await.is_accepted());
    }
}

/// The relay's settings for an endpoint that only this proxy can reach.
fn by_proxy<'a>(endpoint: &'a str, proxy: &'a str) -> [(&'a str, &'a str); 4] {
    [("SEGMENT_ENDPOINT", endpoint), ("HTTPS_PROXY", proxy), ("HTTP_PROXY", proxy), ("RELAY_REQUEST_TIMEOUT", "3s")]
}

#[tokio::test]
async fn a_proxy_that_refuses_the_credentials_is_asked_slowly() {
    let cases = [
        (NOWHERE, "407 Proxy Authentication Required"),
        (NOWHERE, "403 Forbidden"),
        (NOWHERE, "401 Unauthorized"),
        ("http://segment.invalid", "407 Proxy Authentication Required"),
    ];
    join_all(cases.map(|(endpoint, status)| async move {
        let proxy = Peer::start(move |_| answer(status, &["connection: close"], "who are you?"));
        let url = format!("http://relay:pr0xy-pa55w0rd@{}", proxy.address());
        let mut durable = Durable::prepared(&by_proxy(endpoint, &url)).await;
        durable.start_relay().await;
        for number in 0..50 {
            assert!(durable.post(&customer(&format!("c-{number}"))).await.is_stored());
        }
        let attempts = async |result: &str| {
            durable.relay().metric(&format!("segment_relay_segment_attempts_total{{result=\"{result}\"}}")).await
        };
        // After five seconds at the earliest.
        eventually(async || attempts("unauthorized").await >= 2.0).await;
        let heads = proxy.heads();
        assert_eq!(attempts("unavailable").await, 0.0, "{status}");
        assert_eq!(durable.relay().metric("segment_relay_gate_shut").await, 1.0, "{status}");
        assert!(durable.dead_letters().await.is_empty());
        // One CONNECT for each try, the next one among them, and one that asks for the status.
        let tries = attempts("unauthorized").await as usize;
        assert!(heads.len() <= tries + 2, "{status}: {} for {tries}", heads.len());
        let is_proper = |head: &String| head.to_ascii_lowercase().contains("proxy-authorization: basic ");
        assert!(heads.iter().all(is_proper), "{heads:?}");
        durable.kill().await;

        let direct = Relay::start(&by_proxy(endpoint, &url)).await;
        let refused = direct.post(&ada()).await;
        refused.assert_failed(502, "segment_unauthorized");
        assert!(!refused.message().contains("who are you"), "{refused:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_proxy_that_cannot_connect_is_no_matter_of_credentials() {
    join_all(["502 Bad Gateway", "503 Service Unavailable", "404 Not Found"].map(|status| async move {
        let proxy = Peer::start(move |_| answer(status, &[], ""));
        let url = proxy.url();
        let relay = Relay::start(&by_proxy(NOWHERE, &url)).await;
        relay.post(&ada()).await.assert_failed(502, "segment_unavailable");
    }))
    .await;
}

#[tokio::test]
async fn a_retry_after_with_a_fraction_is_rounded_up_and_the_largest_counts() {
    for (lines, seconds) in [
        (&["retry-after: 30.5"][..], 30..=31),
        (&["retry-after: 5", "retry-after: 120"], 119..=120),
        (&["retry-after: 120", "retry-after: 5"], 119..=120),
        (&["retry-after: soon", "retry-after: 90"], 89..=90),
        (&["retry-after: 5, 70"], 69..=70),
        (&["retry-after: 1000000.1"], 299..=300),
    ] {
        let segment = Peer::start(move |_| answer("429 Too Many Requests", lines, ""));
        let relay = Relay::start(&[("SEGMENT_ENDPOINT", &segment.url())]).await;
        let told = relay.post(&ada()).await;
        told.assert_failed(503, "segment_rate_limited");
        assert!(seconds.contains(&told.retry_after().unwrap_or_default()), "{lines:?}: {told:?}");
    }
}
