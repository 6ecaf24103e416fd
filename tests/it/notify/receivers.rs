//! Receivers that are down, slow or wrong, a proxy on the way, and new secrets: nothing of it harms the relay.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use super::{Receiver, SECRET_PATH, secret};
use crate::harness::sign::webhook_secret;
use crate::harness::{Durable, Peer, Reply, ada, answer, at_last, customer, eventually};

/// A relay that tells this URL, with a dead letter.
async fn with_dead_letter(settings: &[(&str, &str)]) -> Durable {
    let durable = Durable::with(settings).await;
    make_dead_letter(&durable).await;
    durable
}

async fn make_dead_letter(durable: &Durable) {
    durable.segment().fail(json!({"poisonUserIds": ["u-s3cret"]})).await;
    assert!(durable.post(&customer("u-s3cret")).await.is_stored());
    eventually(async || durable.relay().metric("segment_relay_dead_letters").await >= 1.0).await;
}

/// That calls are delivered as if nothing was.
async fn check_delivery(durable: &Durable) {
    let stored = durable.post(&ada()).await;
    assert!(stored.is_stored(), "{stored:?}");
    eventually(async || durable.segment().received().await.iter().any(|call| call["messageId"] == stored.message_id()))
        .await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_asked_again_under_the_same_id_and_no_redirect_is_followed() {
    let elsewhere = Peer::start(|_head| answer("200 OK", &[], ""));
    let redirect = answer("307 Temporary Redirect", &[&format!("location: {}", elsewhere.url())], "");
    let failure = answer("500 Internal Server Error", &[], "u-s3cret-words");
    let receiver = Receiver::replying([Reply::Answer(failure), Reply::Answer(redirect)]);
    let settings = [("RELAY_NOTIFY_URL", &*receiver.url()), ("RELAY_NOTIFY_SECRETS", &secret())];
    let durable = with_dead_letter(&settings).await;
    check_delivery(&durable).await;
    at_last(async || receiver.got().len() == 3).await;
    let got = receiver.got();
    for attempt in &got {
        attempt.check(&["u-s3cret"]);
        assert_eq!(attempt.header("webhook-id"), got[0].header("webhook-id"));
        assert_eq!(attempt.body, got[0].body);
    }
    assert_ne!(got[0].header("webhook-timestamp"), got[2].header("webhook-timestamp"), "each attempt is signed anew");
    let of_result = |result| format!("segment_relay_notifications_total{{result=\"{result}\"}}");
    eventually(async || durable.relay().metric(&of_result("sent")).await == 1.0).await;
    assert_eq!(durable.relay().metric(&of_result("failed")).await, 0.0);
    assert!(elsewhere.heads().is_empty());
    let log = durable.relay().log();
    let failures: Vec<_> = log.iter().filter(|line| line["level"] == "WARN" && line["kind"].is_string()).collect();
    assert_eq!(failures.iter().map(|line| &line["reason"]).collect::<Vec<_>>(), ["status 500", "status 307"]);
    let printed = durable.relay().process().stdout().concat();
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[tokio::test]
async fn a_receiver_that_is_down_harms_nothing_and_is_named_without_its_path() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}{SECRET_PATH}");
    let mut durable = with_dead_letter(&[("RELAY_NOTIFY_URL", &url), ("RELAY_NOTIFY_SECRETS", &secret())]).await;
    let line =
        async || durable.relay().log().into_iter().find(|line| line["level"] == "WARN" && line["kind"].is_string());
    eventually(async || line().await.is_some()).await;
    let line = line().await.expect("just found");
    assert_eq!(line["receiver"], format!("http://{free}"));
    assert!(line["reason"].as_str().expect("a text").contains("refused"), "{line}");
    check_delivery(&durable).await;
    let printed = durable.relay().process().stdout().concat();
    assert!(!printed.contains("s3cret"), "{printed}");
    assert_eq!(durable.stop().await, Some(0));
}

#[tokio::test]
async fn a_receiver_that_never_answers_keeps_no_call_and_no_stop_waiting() {
    let receiver = Receiver::replying([Reply::Hang, Reply::Hang]);
    let settings = [("RELAY_NOTIFY_URL", &*receiver.url()), ("RELAY_NOTIFY_SECRETS", &secret())];
    let mut durable = with_dead_letter(&settings).await;
    eventually(async || receiver.got().len() == 1).await;
    check_delivery(&durable).await;
    // The grace of 25 s is longer than this waits.
    assert_eq!(durable.stop().await, Some(0));
}

#[tokio::test]
async fn an_answer_without_end_is_as_good_as_any() {
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n".to_owned() + &"x".repeat(1 << 20);
    let receiver = Receiver::replying([Reply::Answer(endless)]);
    let settings = [("RELAY_NOTIFY_URL", &*receiver.url()), ("RELAY_NOTIFY_SECRETS", &secret())];
    let durable = with_dead_letter(&settings).await;
    let sent = r#"segment_relay_notifications_total{result="sent"}"#;
    at_last(async || durable.relay().metric(sent).await == 1.0).await;
    eventually(async || receiver.peer.connections() == 0).await;
    assert_eq!(receiver.got().len(), 1);
}

#[tokio::test]
async fn notifications_go_through_the_proxy_that_was_asked_for_and_never_past_it() {
    let receiver = Receiver::start();
    let proxy = Peer::start(|_head| answer("502 Bad Gateway", &[], ""));
    let settings = [
        ("RELAY_NOTIFY_URL", &*receiver.url()),
        ("RELAY_NOTIFY_SECRETS", &secret()),
        ("HTTP_PROXY", &proxy.url().replace("http://", "http://relay:s3cret@")),
        ("NO_PROXY", "localhost"),
    ];
    let mut durable = Durable::prepared(&settings).await;
    // The sandbox is excepted by its name, and the receiver is not by its address.
    let endpoint = durable.segment().url().replace("127.0.0.1", "localhost");
    durable.set("SEGMENT_ENDPOINT", &endpoint);
    durable.start_relay().await;
    make_dead_letter(&durable).await;
    at_last(async || !proxy.heads().is_empty()).await;
    let head = proxy.heads().remove(0);
    assert!(head.starts_with(&format!("POST {} HTTP/1.1\r\n", receiver.url())), "{head}");
    assert!(head.to_lowercase().contains("\r\nproxy-authorization: basic "), "{head}");
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn a_hangup_reads_the_secrets_of_a_file_again() {
    let (receiver, files) = (Receiver::start(), tempfile::tempdir().unwrap());
    let file = files.path().join("secrets");
    let older = webhook_secret(b"the-key-of-yesterday-evening");
    fs::write(&file, &older).unwrap();
    let settings = [("RELAY_NOTIFY_URL", &*receiver.url()), ("RELAY_NOTIFY_SECRETS_FILE", &file.display().to_string())];
    let durable = Durable::with(&settings).await;
    fs::write(&file, secret()).unwrap();
    durable.relay().process().signal("HUP");
    let read = |line: &serde_json::Value| line["names"] == "RELAY_NOTIFY_SECRETS";
    eventually(async || durable.relay().log().iter().any(read)).await;
    make_dead_letter(&durable).await;
    at_last(async || receiver.got().len() == 1).await;
    let got = receiver.got().remove(0);
    assert!(got.is_signed_with(&secret()) && !got.is_signed_with(&older));
}
