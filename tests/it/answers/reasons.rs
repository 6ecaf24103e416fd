//! The line that says that requests to Segment fail also says why.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::{NOWHERE, by_proxy};
use crate::harness::{Durable, Peer, answer, customer, eventually};

/// A certificate of this machine's that nobody trusts, and its key.
const CERTIFICATE: &str = "MIIBUDCCAQKgAwIBAgIUMWtv4JpuBx0ZfuDZNVKAvrznn2kwBQYDK2VwMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDAg\
    Fw0yNjExMjcwMDE2MDRaGA8yMTI2MTEwMzAwMTYwNFowFDESMBAGA1UEAwwJbG9jYWxob3N0MCowBQYDK2VwAyEA92xXWwSjAuDeNrkdNsjLb3m6C1Yw\
    wfjDbIzYa8zbMFGjZDBiMB0GA1UdDgQWBBTxrocbISUaW5B8A0Wver3Z+GIFdDAfBgNVHSMEGDAWgBTxrocbISUaW5B8A0Wver3Z+GIFdDAPBgNVHRMB\
    Af8EBTADAQH/MA8GA1UdEQQIMAaHBH8AAAEwBQYDK2VwA0EAWH39/uZquSZ1v95443TPq3vgeGL622a5kNHCoTN3JIyLUT2/ibY2h4DoNAX6A581pWNe\
    j8nY14Ur6oYM6WguBQ==";
const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIOhEfHnET/rXKZIidpVWp6p9DwVBgI2g/B1Jtc8+gnuq";

/// Settings of the relay, and the reason and the status in its line.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Value);

/// The `https` URL of a server that does this with each connection.
fn speaks(speak: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || speak(stream));
        }
    });
    url
}

/// A TLS handshake with the certificate.
fn handshake(stream: TcpStream) {
    let certificate = BASE64_STANDARD.decode(CERTIFICATE).unwrap().into();
    let key = PrivatePkcs8KeyDer::from(BASE64_STANDARD.decode(KEY).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key.into()).unwrap();
    let connection = ServerConnection::new(Arc::new(config)).unwrap();
    let _ = StreamOwned::new(connection, stream).read(&mut [0; 1_024]);
}

/// The warnings of a relay that failed to send for a while.
async fn warnings(settings: &[(&str, &str)], message: &str) -> Vec<Value> {
    let mut durable = Durable::prepared(settings).await;
    durable.set("SEGMENT_TIMEOUT", "300ms");
    for (name, value) in settings {
        durable.set(name, value);
    }
    durable.start_relay().await;
    assert!(durable.post(&customer("c-1")).await.is_stored());
    let lines =
        || -> Vec<Value> { durable.relay().log().into_iter().filter(|line| line["message"] == message).collect() };
    eventually(async || !lines().is_empty()).await;
    lines()
}

#[tokio::test]
async fn the_line_of_an_outage_says_why() {
    // Bound and not listening: whoever connects is refused.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = format!("http://{}", closed.local_addr().unwrap());
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = format!("http://{}", deaf.local_addr().unwrap());
    let hangs_up = Peer::start(|_| String::new());
    let babbles = Peer::start(|_| "SSH-2.0-babble\r\n\r\n".to_owned());
    let down = Peer::start(|_| answer("503 Service Unavailable", &[], "words"));
    let (hangs_up, babbles, down_url) = (hangs_up.url(), babbles.url(), down.url());
    let no_tls = speaks(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let impostor = speaks(handshake);
    let proxy = Peer::start(|_| answer("502 Bad Gateway", &[], ""));
    let proxy = proxy.url();
    let cases: [Case; 9] = [
        (&[("SEGMENT_ENDPOINT", &closed)], "connection_refused", json!(null)),
        (&[("SEGMENT_ENDPOINT", NOWHERE)], "dns", json!(null)),
        (&[("SEGMENT_ENDPOINT", &deaf)], "timeout", json!(null)),
        (&[("SEGMENT_ENDPOINT", &hangs_up)], "connection_reset", json!(null)),
        (&[("SEGMENT_ENDPOINT", &babbles)], "not_http", json!(null)),
        (&[("SEGMENT_ENDPOINT", &down_url)], "status", json!(503)),
        (&[("SEGMENT_ENDPOINT", &no_tls)], "tls", json!(null)),
        (&[("SEGMENT_ENDPOINT", &impostor)], "certificate", json!(null)),
        (&by_proxy(NOWHERE, &proxy), "proxy", json!(502)),
    ];
    for (settings, reason, status) in cases {
        let lines = warnings(settings, "requests to Segment fail; they are retried").await;
        assert_eq!((&lines[0]["reason"], &lines[0]["status"]), (&json!(reason), &status), "{lines:?}");
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}

#[tokio::test]
async fn the_line_of_the_shut_gate_says_why() {
    for status in [401, 404, 429] {
        let line = format!("{status} Whatever");
        let segment = Peer::start(move |_| answer(&line, &[], "words"));
        let lines = warnings(&[("SEGMENT_ENDPOINT", &segment.url())], "requests to Segment are paused").await;
        assert_eq!((&lines[0]["reason"], &lines[0]["status"]), (&json!("status"), &json!(status)), "{lines:?}");
    }
}

#[tokio::test]
async fn each_reason_of_an_outage_has_a_line() {
    let durable = Durable::start().await;
    let said = async |status: u16| {
        eventually(async || durable.relay().log().iter().any(|line| line["status"] == status)).await;
    };
    durable.segment().fail(json!({"status": 503})).await;
    assert!(durable.post(&customer("c-1")).await.is_stored());
    said(503).await;
    durable.segment().fail(json!({"status": 500})).await;
    said(500).await;
    durable.segment().heal().await;
}
