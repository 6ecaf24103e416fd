//! Write keys of sources, as Segment sees them: a request has one, a refused one is nobody else's trouble, and the calls of a
//! source that is not configured go under none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Durable, Peer, Reply, WRITE_KEY, answer, customer, eventually};

/// Sources with these names, each for everyone and with a write key that is its name 16 times over.
fn file(directory: &Path, names: &[&str]) -> String {
    let mut text = String::from("# sources\n");
    for name in names {
        fs::write(directory.join(format!("{name}.key")), key(name)).unwrap();
        text += &format!("[{name}]\nverify = \"none\"\nwrite_key = \"file:{name}.key\"\n");
    }
    let path = directory.join("sources.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn key(source: &str) -> String {
    source.repeat(32 / source.len())
}

/// What came to Segment: each call's write key and user.
type Arrived = Arc<Mutex<BTreeSet<(String, String)>>>;

/// A stand-in for Segment that refuses the write key in `refused`.
fn segment(refused: &Arc<Mutex<Option<String>>>) -> (Peer, Arrived) {
    let arrived = Arrived::default();
    let (kept, refused) = (arrived.clone(), refused.clone());
    let peer = Peer::replying(move |head, body| {
        let request: Value = serde_json::from_slice(body).unwrap();
        let key = request["writeKey"].as_str().unwrap();
        // The user of basic authentication is the same key.
        let basic = format!("basic {}", data_encoding::BASE64.encode(format!("{key}:").as_bytes()));
        assert!(head.to_ascii_lowercase().contains(&basic.to_ascii_lowercase()), "{head}");
        if refused.lock().unwrap().as_deref() == Some(key) {
            return Reply::Answer(answer("401 Unauthorized", &[], "{}"));
        }
        let users = request["batch"].as_array().unwrap().iter().map(|call| call["userId"].as_str().unwrap());
        kept.lock().unwrap().extend(users.map(|user| (key.to_owned(), user.to_owned())));
        Reply::Answer(answer("200 OK", &[], r#"{"success":true}"#))
    });
    (peer, arrived)
}

async fn post(durable: &Durable, source: &str, user: &str) {
    let body = json!({"userId": user, "traits": {}}).to_string();
    let request = durable.relay().request(Method::POST, &format!("/sources/{source}")).body(body);
    assert_eq!(request.send().await.unwrap().status(), 202);
}

async fn refused_sources(durable: &Durable) -> Value {
    durable.operate(Method::GET, "/status").await.body["segment"]["refusedSources"].clone()
}

fn users(arrived: &Arrived, key: &str) -> BTreeSet<String> {
    arrived.lock().unwrap().iter().filter(|(own, _)| own == key).map(|(_, user)| user.clone()).collect()
}

fn numbered(name: &str) -> BTreeSet<String> {
    (0..20).map(|number| format!("{name}-{number}")).collect()
}

#[tokio::test]
async fn a_refused_write_key_is_the_trouble_of_its_source_alone() {
    let (refused, directory) = (Arc::new(Mutex::new(Some(key("shop")))), tempfile::tempdir().unwrap());
    let (peer, arrived) = segment(&refused);
    let sources = file(directory.path(), &["shop", "bill"]);
    let mut durable = Durable::sending_to(&peer.url(), &[("RELAY_SOURCES", &sources)]);
    durable.start_relay().await;
    for number in 0..20 {
        post(&durable, "shop", &format!("shop-{number}")).await;
        post(&durable, "bill", &format!("bill-{number}")).await;
        assert_eq!(durable.post(&customer(&format!("own-{number}"))).await.status, 202);
    }
    eventually(async || users(&arrived, &key("bill")) == numbered("bill")).await;
    eventually(async || users(&arrived, WRITE_KEY) == numbered("own")).await;
    assert!(users(&arrived, &key("shop")).is_empty());
    assert_eq!(refused_sources(&durable).await, json!(["shop"]));
    assert_eq!(durable.relay().metric("segment_relay_write_keys_refused").await, 1.0);
    *refused.lock().unwrap() = None;
    eventually(async || users(&arrived, &key("shop")) == numbered("shop")).await;
    assert_eq!(arrived.lock().unwrap().len(), 60, "each went under its own key alone");
    assert!(durable.dead_letters().await.is_empty());
    assert_eq!(refused_sources(&durable).await, json!([]));
    assert_eq!(durable.relay().metric("segment_relay_write_keys_refused").await, 0.0);
}

#[tokio::test]
async fn the_log_says_when_a_write_key_is_refused_and_when_it_was_replaced() {
    let (refused, directory) = (Arc::new(Mutex::new(Some(key("shop")))), tempfile::tempdir().unwrap());
    let (peer, arrived) = segment(&refused);
    let sources = file(directory.path(), &["shop"]);
    let mut durable = Durable::sending_to(&peer.url(), &[("RELAY_SOURCES", &sources)]);
    durable.start_relay().await;
    let says = |durable: &Durable, words: &str| {
        let says = |line: &Value| line["sources"] == "shop" && line["message"].as_str().unwrap().contains(words);
        durable.relay().log().iter().any(says)
    };
    for number in 0..5 {
        post(&durable, "shop", &format!("shop-{number}")).await;
    }
    eventually(async || says(&durable, "refuses the write key")).await;
    assert!(!says(&durable, "replaced"));
    fs::write(directory.path().join("shop.key"), key("mend")).unwrap();
    durable.relay().process().signal("HUP");
    eventually(async || says(&durable, "the write keys were replaced")).await;
    assert_eq!(refused_sources(&durable).await, json!([]));
    eventually(async || users(&arrived, &key("mend")).len() == 5).await;
}

#[tokio::test]
async fn the_calls_of_a_source_that_is_not_configured_wait_and_go_when_it_is_configured_again() {
    let (refused, directory) = (Arc::new(Mutex::new(Some(key("shop")))), tempfile::tempdir().unwrap());
    let (peer, arrived) = segment(&refused);
    let sources = file(directory.path(), &["shop"]);
    let mut durable = Durable::sending_to(&peer.url(), &[("RELAY_SOURCES", &sources)]);
    durable.start_relay().await;
    for number in 0..20 {
        post(&durable, "shop", &format!("shop-{number}")).await;
    }
    durable.kill().await;
    file(directory.path(), &[]);
    *refused.lock().unwrap() = None;
    durable.start_relay().await;
    assert_eq!(durable.post(&customer("own-0")).await.status, 202);
    eventually(async || users(&arrived, WRITE_KEY) == BTreeSet::from(["own-0".to_owned()])).await;
    eventually(async || {
        let status = durable.operate(Method::GET, "/status").await.body;
        status["outbox"]["parked"]["users"] == 20
    })
    .await;
    assert_eq!(arrived.lock().unwrap().len(), 1, "under no other key");
    durable.kill().await;
    file(directory.path(), &["shop"]);
    durable.start_relay().await;
    eventually(async || users(&arrived, &key("shop")) == numbered("shop")).await;
    assert_eq!(arrived.lock().unwrap().len(), 21);
}
