//! Tests of the write keys of sources, up to the bytes that Segment gets: a Segment that takes every key but one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use data_encoding::BASE64;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::LiveClients;
use crate::config::{Secret, WriteKeys, from_variables};
use crate::customer::SegmentIdentifyPayload;
use crate::metrics::Metrics;
use crate::segment::{ErrorCode, GroupTerms, Receipt, SegmentClients, SegmentError};
use crate::supervisor::Supervisor;

/// The user ids that each key brought.
type Got = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

struct Fixture {
    clients: LiveClients,
    got: Got,
    _supervisor: Supervisor,
}

fn keys(sources: &[(&str, &str)]) -> WriteKeys {
    let with = |keys: WriteKeys, (name, key): &(&str, &str)| keys.with_source((*name).into(), Some(Secret::new(key)));
    sources.iter().fold(WriteKeys::new(Secret::new("default")), with)
}

/// Takes a request, unless its key is `refused`.
fn take(got: &Got, headers: &HeaderMap, body: &[u8]) -> StatusCode {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let key = body["writeKey"].as_str().unwrap();
    assert_eq!(headers["authorization"], format!("Basic {}", BASE64.encode(format!("{key}:").as_bytes())));
    if key == "refused" {
        return StatusCode::UNAUTHORIZED;
    }
    let users = body["batch"].as_array().unwrap().iter().map(|call| call["userId"].as_str().unwrap().to_owned());
    got.lock().entry(key.to_owned()).or_default().extend(users);
    StatusCode::OK
}

async fn start(write_keys: &WriteKeys) -> Fixture {
    let supervisor = Supervisor::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let got = Got::default();
    let segment = {
        let got = got.clone();
        Router::new().fallback(async move |headers: HeaderMap, body: Bytes| take(&got, &headers, &body))
    };
    supervisor.spawn("segment", async { axum::serve(listener, segment).await.unwrap() });
    let variables = [("SEGMENT_WRITE_KEY", "default"), ("SEGMENT_ENDPOINT", &*endpoint)];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = from_variables(variables).unwrap().segment;
    let clients = LiveClients::start(settings, write_keys, Arc::new(Metrics::new().unwrap()), &supervisor).unwrap();
    Fixture { clients, got, _supervisor: supervisor }
}

impl Fixture {
    /// Sends a customer who comes by this source.
    async fn send(&self, source: Option<&str>, user_id: &str) -> Result<Receipt, SegmentError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let source = source.map(Arc::from);
        let terms = GroupTerms { deadline, key: None, wait: None, source, is_all_or_nothing: true };
        let mut group = self.clients.open_group(terms);
        let body = format!(r#"{{"userId":"{user_id}","traits":{{}}}}"#);
        group.identify(0, &SegmentIdentifyPayload::parse(body.as_bytes()).unwrap())?;
        group.flush().await.pop().unwrap()
    }

    fn got(&self) -> Vec<(String, Vec<String>)> {
        self.got.lock().clone().into_iter().collect()
    }
}

fn of(key: &str, users: &[&str]) -> (String, Vec<String>) {
    (key.to_owned(), users.iter().map(|user| (*user).to_owned()).collect())
}

#[tokio::test]
async fn each_source_s_calls_have_its_write_key_in_header_and_body() {
    let relay = start(&keys(&[("shop", "shop-key"), ("crm", "crm-key"), ("pay", "crm-key")])).await;
    let sources = [None, Some("shop"), Some("crm"), Some("pay")];
    for (number, source) in sources.into_iter().enumerate() {
        relay.send(source, &format!("c-{number}")).await.unwrap();
    }
    assert_eq!(relay.got(), [of("crm-key", &["c-2", "c-3"]), of("default", &["c-0"]), of("shop-key", &["c-1"])]);
}

#[tokio::test]
async fn other_keys_hold_from_the_next_request_on_and_a_source_without_one_sends_nothing() {
    let relay = start(&keys(&[("shop", "before")])).await;
    relay.send(Some("shop"), "c-1").await.unwrap();
    assert_eq!(relay.send(Some("crm"), "c-2").await.unwrap_err().code, ErrorCode::Overloaded);
    relay.clients.replace_write_keys(&keys(&[("crm", "crm-key"), ("shop", "behind")]));
    relay.send(Some("shop"), "c-1").await.unwrap();
    relay.send(Some("crm"), "c-2").await.unwrap();
    assert_eq!(relay.got(), [of("before", &["c-1"]), of("behind", &["c-1"]), of("crm-key", &["c-2"])]);
}

#[tokio::test]
async fn a_refused_key_is_its_sources_trouble_alone_and_is_asked_until_it_is_mended() {
    let relay = start(&keys(&[("shop", "refused"), ("crm", "crm-key")])).await;
    for number in 0..10 {
        let error = relay.send(Some("shop"), &format!("s-{number}")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unauthorized);
        relay.send(Some("crm"), &format!("c-{number}")).await.unwrap();
    }
    assert_eq!(relay.clients.refused_sources(), ["shop"]);
    assert!(relay.clients.gate_shut_since().is_none());
    relay.clients.replace_write_keys(&keys(&[("shop", "mended"), ("crm", "crm-key")]));
    relay.send(Some("shop"), "s-10").await.unwrap();
    assert!(relay.clients.refused_sources().is_empty());
    assert_eq!(relay.got()[1], of("mended", &["s-10"]));
}
