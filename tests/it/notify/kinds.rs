//! What is told: an outage and its end, the first dead letter, the first parked user, a worker that was replaced.

use std::fs;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Receiver, SECRET_PATH, secret};
use crate::harness::sign::webhook_secret;
use crate::harness::{Durable, Fault, ScriptedSegment, TOKEN, WRITE_KEY, at_last, customer, eventually};

/// A customer with a trait that nobody may see.
fn secretive(user_id: &str) -> Value {
    json!({"userId": user_id, "messageId": format!("m-of-{user_id}"), "traits": {"email": "s3cret@example.com"}})
}

/// What no notification may hold.
const HIDDEN: [&str; 6] = ["u-s3cret", "m-of-", "s3cret@example.com", WRITE_KEY, TOKEN, "s3cret-"];

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a text").parse().expect("RFC 3339")
}

#[tokio::test]
async fn an_outage_is_told_when_it_begins_and_when_it_is_over() {
    let receiver = Receiver::start();
    let older = webhook_secret(b"the-key-of-yesterday-evening");
    let secrets = format!("{older},{}", secret());
    let durable = Durable::with(&[("RELAY_NOTIFY_URL", &receiver.url()), ("RELAY_NOTIFY_SECRETS", &secrets)]).await;
    durable.segment().fail(json!({"status": 503})).await;
    for number in 0..4 {
        assert!(durable.post(&secretive(&format!("u-s3cret-{number}"))).await.is_stored());
    }
    at_last(async || receiver.got().len() == 1).await;
    let begun = receiver.got()[0].json();
    assert_eq!(begun["type"], "outage.begun");
    let data = &begun["data"];
    assert_eq!(
        (&data["code"], &data["reason"], &data["status"], &data["waiting"]),
        (&json!("segment_unavailable"), &json!("status"), &json!(503), &json!(4))
    );
    durable.segment().heal().await;
    at_last(async || receiver.got().len() == 2).await;
    let over = receiver.got()[1].json();
    assert_eq!((&over["type"], &over["data"]["waiting"]), (&json!("outage.over"), &json!(0)));
    assert_eq!(over["data"]["since"], data["since"]);
    let (since, until) = (time(&data["since"]), time(&over["data"]["until"]));
    assert!(since < time(&begun["timestamp"]) && time(&begun["timestamp"]) < until, "{begun} {over}");
    assert!(until < time(&over["timestamp"]) && over["data"]["seconds"].as_u64().expect("a number") >= 10, "{over}");
    for notification in receiver.got() {
        notification.check(&HIDDEN);
        assert!(notification.is_signed_with(&older));
        assert!(!notification.is_signed_with(&webhook_secret(b"the-key-of-somebody-else")));
    }
    let sent = r#"segment_relay_notifications_total{result="sent"}"#;
    eventually(async || durable.relay().metric(sent).await == 2.0).await;
    let log = durable.relay().process().stdout().concat();
    assert!(log.contains("a notification was sent") && !log.contains(SECRET_PATH) && !log.contains("s3cret-"), "{log}");
}

#[tokio::test]
async fn an_outage_that_meets_one_waiting_customer_is_told_too() {
    let receiver = Receiver::start();
    let durable = Durable::with(&[("RELAY_NOTIFY_URL", &receiver.url()), ("RELAY_NOTIFY_SECRETS", &secret())]).await;
    durable.segment().fail(json!({"status": 503})).await;
    assert!(durable.post(&secretive("u-s3cret")).await.is_stored());
    at_last(async || receiver.of_kind("outage.begun").len() == 1).await;
    assert_eq!(receiver.of_kind("outage.begun")[0]["data"]["status"], 503);
    assert!(durable.relay().metric("segment_relay_segment_failures_in_a_row").await >= 3.0);
    durable.segment().heal().await;
    at_last(async || receiver.of_kind("outage.over").len() == 1).await;
}

#[tokio::test]
async fn the_first_dead_letter_and_the_first_parked_user_are_told() {
    let (receiver, segment) = (Receiver::start(), ScriptedSegment::start());
    let settings = [("RELAY_NOTIFY_URL", &*receiver.url()), ("RELAY_NOTIFY_SECRETS", &secret())];
    let mut durable = Durable::sending_to(&segment.url(), &settings);
    durable.start_relay().await;
    segment.fail("u-s3cret-refused", Fault::Status(400));
    segment.fail("u-s3cret-stuck", Fault::Status(500));
    assert!(durable.post(&secretive("u-s3cret-refused-1")).await.is_stored());
    at_last(async || !receiver.of_kind("dead_letter.first").is_empty()).await;
    let letters = receiver.of_kind("dead_letter.first").remove(0);
    assert_eq!(letters["data"], json!({"refused": 1, "gaveUp": 0, "unmapped": 0, "kept": 1}));
    for number in 2..4 {
        assert!(durable.post(&secretive(&format!("u-s3cret-refused-{number}"))).await.is_stored());
        assert!(durable.post(&secretive(&format!("u-s3cret-stuck-{number}"))).await.is_stored());
    }
    let sound = customer("u-s3cret-sound");
    at_last(async || {
        assert!(durable.post(&sound).await.is_stored());
        durable.relay().metric("segment_relay_parked_users").await == 2.0
    })
    .await;
    at_last(async || !receiver.of_kind("user.parked").is_empty()).await;
    let parked = receiver.of_kind("user.parked").remove(0);
    assert!((1..=2).contains(&parked["data"]["users"].as_u64().expect("a number")), "{parked}");
    // The other dead letters were held back.
    let suppressed = r#"segment_relay_notifications_total{result="suppressed"}"#;
    at_last(async || durable.relay().metric(suppressed).await >= 1.0).await;
    let got = receiver.got();
    assert_eq!((got.len(), receiver.of_kind("dead_letter.first").len()), (2, 1));
    assert_ne!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    got.iter().for_each(|notification| notification.check(&HIDDEN));
    // A relay that starts again tells nothing of what was there before.
    durable.kill().await;
    durable.start_relay().await;
    segment.fail("u-s3cret-again", Fault::Status(400));
    assert!(durable.post(&secretive("u-s3cret-again")).await.is_stored());
    at_last(async || receiver.of_kind("dead_letter.first").len() == 2).await;
    assert_eq!(receiver.of_kind("dead_letter.first")[1]["data"]["refused"], 1);
    assert_eq!(receiver.of_kind("user.parked").len(), 1);
}

#[tokio::test]
async fn a_worker_that_was_replaced_and_the_event_that_it_failed_on_are_told() {
    let (receiver, files) = (Receiver::start(), tempfile::tempdir().unwrap());
    let file = files.path().join("sources.toml");
    fs::write(&file, "[shop]\nverify = \"none\"\nmap = 'def f: f; f'\n").unwrap();
    let settings = [
        ("RELAY_NOTIFY_URL", &*receiver.url()),
        ("RELAY_NOTIFY_SECRETS", &secret()),
        ("RELAY_SOURCES", &file.display().to_string()),
    ];
    let durable = Durable::with(&settings).await;
    let event = durable.relay().request(reqwest::Method::POST, "/sources/shop").body(r#"{"id":"u-s3cret"}"#);
    assert!(event.send().await.unwrap().status().is_success());
    at_last(async || receiver.got().len() == 2).await;
    let restarted = receiver.of_kind("map_worker.restarted").remove(0);
    assert_eq!(restarted["data"], json!({"time": 1, "memory": 0, "crash": 0}));
    let letters = receiver.of_kind("dead_letter.first").remove(0);
    assert_eq!(letters["data"], json!({"refused": 0, "gaveUp": 0, "unmapped": 1, "kept": 1}));
    receiver.got().iter().for_each(|notification| notification.check(&HIDDEN));
}

#[tokio::test]
async fn an_outbox_that_is_half_full_is_told() {
    let receiver = Receiver::start();
    let settings = [
        ("RELAY_NOTIFY_URL", &*receiver.url()),
        ("RELAY_NOTIFY_SECRETS", &secret()),
        ("RELAY_OUTBOX_MAX_SIZE", "1MiB"),
    ];
    let durable = Durable::with(&settings).await;
    durable.segment().fail(json!({"status": 503})).await;
    for number in 0..20 {
        let heavy = json!({"userId": format!("u-s3cret-{number}"), "traits": {"history": "x".repeat(31_000)}});
        durable.post(&heavy).await;
    }
    at_last(async || !receiver.of_kind("outbox.half_full").is_empty()).await;
    let data = receiver.of_kind("outbox.half_full").remove(0)["data"].take();
    assert_eq!((&data["maxBytes"], &data["deadLetters"]), (&json!(1 << 20), &json!(0)));
    assert!(data["bytes"].as_u64() > Some(1 << 19) && data["waiting"].as_u64() >= Some(16), "{data}");
    receiver.got().iter().for_each(|notification| notification.check(&HIDDEN));
}
