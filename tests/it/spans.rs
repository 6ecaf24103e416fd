//! Traces, as a receiver of OpenTelemetry's protocol gets them: from the sender's `traceparent` to the request to Segment.

use reqwest::Method;
use serde_json::json;

use crate::harness::{App, Durable, Span, SpanReceiver, ada, customer, eventually};

/// A sender's trace, and the span that it sends the customer from.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// The settings of a relay that exports its spans at once.
fn exporting_to(receiver: &SpanReceiver) -> [(&str, &str); 2] {
    [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url()), ("OTEL_BSP_SCHEDULE_DELAY", "10")]
}

/// The only span with this name, when it has arrived.
async fn the(receiver: &SpanReceiver, name: &str) -> Span {
    eventually(async || receiver.named(name).len() == 1).await;
    receiver.named(name).remove(0)
}

async fn post_in_trace(durable: &Durable, user: &str, flags: &str) {
    let body = customer(user).to_string();
    let headers = [("content-type", "application/json"), ("traceparent", &*traceparent(flags))];
    assert_eq!(durable.relay().post_with(&headers, body).await.status, 202);
}

#[tokio::test]
async fn a_call_is_followed_from_the_senders_traceparent_to_the_request_to_segment() {
    let receiver = SpanReceiver::start().await;
    let app = App::with(&exporting_to(&receiver)).await;
    let headers = [("content-type", "application/json"), ("traceparent", &*traceparent("01"))];
    assert_eq!(app.post_with(&headers, ada().to_string()).await.status, 200);
    let accept = the(&receiver, "POST /customers").await;
    assert_eq!((&*accept.trace, &*accept.parent, &*accept.service), (TRACE, PARENT, "segment-relay"));
    assert_eq!(accept.attribute("http.response.status_code"), "200");
    let deliver = the(&receiver, "deliver").await;
    assert_eq!((&deliver.trace, &deliver.parent), (&accept.trace, &accept.id));
    assert_eq!(deliver.attribute("segment_relay.outcome"), "accepted");
    let request = the(&receiver, "POST /v1/batch").await;
    assert!(request.is_linked_to(&deliver) && deliver.is_linked_to(&request), "{request:?} {deliver:?}");
    assert_eq!(request.attribute("segment_relay.calls"), "1");
    assert_eq!(request.attribute("segment_relay.result"), "accepted");
    assert_eq!(request.attribute("http.response.status_code"), "200");
}

#[tokio::test]
async fn a_trace_goes_on_after_the_process_was_killed_and_started_again() {
    let receiver = SpanReceiver::start().await;
    let mut durable = Durable::prepared(&exporting_to(&receiver)).await;
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    post_in_trace(&durable, "u-1", "01").await;
    let accept = the(&receiver, "POST /customers").await;
    assert_eq!((&*accept.trace, &*accept.parent), (TRACE, PARENT));
    let store = the(&receiver, "store").await;
    assert_eq!((&store.trace, &store.parent), (&accept.trace, &accept.id));
    durable.kill().await;
    durable.segment().heal().await;
    durable.start_relay().await;
    eventually(async || durable.segment().received().await.len() == 1).await;
    let accepted = |span: &Span| span.attribute("segment_relay.outcome") == "accepted";
    eventually(async || receiver.named("deliver").iter().any(accepted)).await;
    let deliver = receiver.named("deliver").into_iter().find(accepted).expect("a span");
    assert_eq!((&deliver.trace, &deliver.parent), (&accept.trace, &accept.id));
    eventually(async || receiver.named("POST /v1/batch").iter().any(|request| request.is_linked_to(&deliver))).await;
}

#[tokio::test]
async fn a_request_to_segment_is_linked_to_every_call_that_it_held() {
    let receiver = SpanReceiver::start().await;
    let mut durable = Durable::prepared(&exporting_to(&receiver)).await;
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let users: Vec<String> = (0..20).map(|number| format!("u-{number}")).collect();
    for user in &users {
        assert_eq!(durable.relay().post(&customer(user)).await.status, 202);
    }
    durable.segment().heal().await;
    eventually(async || durable.segment().received().await.len() == users.len()).await;
    let accepted = |span: &Span| span.attribute("segment_relay.outcome") == "accepted";
    eventually(async || receiver.named("deliver").iter().filter(|span| accepted(span)).count() == users.len()).await;
    let accepted_requests = || {
        receiver.named("POST /v1/batch").into_iter().filter(|span| span.attribute("segment_relay.result") == "accepted")
    };
    let calls = |request: &Span| request.attribute("segment_relay.calls").parse::<usize>().expect("a number");
    eventually(async || accepted_requests().map(|request| calls(&request)).sum::<usize>() == users.len()).await;
    for request in accepted_requests() {
        assert_eq!(request.links.len(), calls(&request));
    }
    for deliver in receiver.named("deliver").iter().filter(|span| accepted(span)) {
        assert_eq!(accepted_requests().filter(|request| request.is_linked_to(deliver)).count(), 1);
    }
}

#[tokio::test]
async fn an_events_customers_are_mapped_stored_and_delivered_in_its_trace() {
    let receiver = SpanReceiver::start().await;
    let file = tempfile::tempdir().unwrap();
    let sources = file.path().join("sources.toml");
    let filter = ".users[] | {userId: ., traits: {}}";
    std::fs::write(&sources, format!("[shop]\nverify = \"none\"\nmap = '{filter}'\n")).unwrap();
    let sources = sources.display().to_string();
    let durable = Durable::with(&[&exporting_to(&receiver)[..], &[("RELAY_SOURCES", &sources)]].concat()).await;
    let event = durable.relay().request(Method::POST, "/sources/shop").header("traceparent", traceparent("01"));
    let answer = event.body(r#"{"users":["u-1","u-2"]}"#).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    eventually(async || receiver.named("deliver").len() == 2).await;
    let accept = the(&receiver, "POST /sources/{name}").await;
    assert_eq!((&*accept.trace, &*accept.parent), (TRACE, PARENT));
    let [map, store] = [the(&receiver, "map").await, the(&receiver, "store").await];
    assert_eq!((map.attribute("segment_relay.source"), store.attribute("segment_relay.calls")), ("shop", "2"));
    for span in [map, store].iter().chain(&receiver.named("deliver")) {
        assert_eq!((&span.trace, &span.parent), (&accept.trace, &accept.id), "{span:?}");
    }
}

#[tokio::test]
async fn a_sender_that_does_not_sample_gets_no_spans_and_another_ones_trace_is_new() {
    let receiver = SpanReceiver::start().await;
    let durable = Durable::with(&exporting_to(&receiver)).await;
    post_in_trace(&durable, "u-1", "00").await;
    assert_eq!(durable.relay().post(&customer("u-2")).await.status, 202);
    eventually(async || durable.segment().received().await.len() == 2).await;
    let deliver = the(&receiver, "deliver").await;
    let accept = the(&receiver, "POST /customers").await;
    assert_eq!((&deliver.trace, &*accept.parent), (&accept.trace, ""));
    assert_ne!(accept.trace, TRACE);
    assert!(receiver.spans().iter().all(|span| span.trace != TRACE), "{:?}", receiver.spans());
}

#[tokio::test]
async fn no_span_holds_what_is_personal_or_secret() {
    let receiver = SpanReceiver::start().await;
    let durable = Durable::with(&exporting_to(&receiver)).await;
    durable.segment().fail(json!({"poisonUserIds": ["user-of-nobody"]})).await;
    let body = json!({"userId": "user-of-nobody", "messageId": "message-of-nobody", "traits": {"email": "nobody@example.com"}});
    assert_eq!(durable.relay().post(&body).await.status, 202);
    eventually(async || durable.relay().metric("segment_relay_dead_letters").await == 1.0).await;
    let deliver = the(&receiver, "deliver").await;
    assert_eq!(deliver.attribute("segment_relay.outcome"), "refused");
    the(&receiver, "POST /v1/batch").await;
    let told = format!("{:?}", receiver.spans());
    for secret in ["nobody", crate::harness::WRITE_KEY, "poison"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[tokio::test]
async fn spans_that_wait_are_exported_when_the_relay_stops() {
    let receiver = SpanReceiver::start().await;
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url()), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let mut durable = Durable::with(&endpoint).await;
    assert_eq!(durable.relay().post(&ada()).await.status, 202);
    eventually(async || durable.segment().received().await.len() == 1).await;
    assert!(receiver.spans().is_empty());
    assert_eq!(durable.stop().await, Some(0));
    assert_eq!(receiver.named("POST /customers").len(), 1);
}

#[tokio::test]
async fn a_receiver_that_is_away_changes_no_answer_and_is_told_in_the_log() {
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let mut durable = Durable::with(&settings).await;
    assert_eq!(durable.relay().post(&ada()).await.status, 202);
    eventually(async || durable.segment().received().await.len() == 1).await;
    eventually(async || durable.relay().log().iter().any(|line| line.to_string().contains("ExportError"))).await;
    assert_eq!(durable.stop().await, Some(0));
}

#[tokio::test]
async fn spans_never_go_past_a_proxy() {
    let receiver = SpanReceiver::start().await;
    let url = receiver.url().replace("127.0.0.1", "localhost");
    let mut durable = Durable::prepared(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("NO_PROXY", "127.0.0.1"),
        // By this some HTTP clients know that a server runs them, and ignore HTTP_PROXY.
        ("REQUEST_METHOD", "GET"),
    ])
    .await;
    durable.start_relay().await;
    assert_eq!(durable.relay().post(&ada()).await.status, 202);
    eventually(async || durable.segment().received().await.len() == 1).await;
    eventually(async || durable.relay().log().iter().any(|line| line.to_string().contains("ExportError"))).await;
    assert!(receiver.spans().is_empty(), "{:?}", receiver.spans());
}
