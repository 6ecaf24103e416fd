//! What every route has in common: request ids, headers, panics, trailing slashes; and that axum itself can serve it all.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::make::Shared;

use super::{ADA, Mood, Relay, post};

/// The id of an answer to a request with this id.
async fn answered_id(id: &[u8]) -> String {
    let request = Request::get("/healthz").header("x-request-id", HeaderValue::from_bytes(id).unwrap());
    let answer = Relay::new(1).send(request.body(Body::empty()).unwrap()).await;
    answer.header("x-request-id").unwrap().to_owned()
}

#[tokio::test]
async fn a_callers_request_id_is_kept() {
    assert_eq!(answered_id(b"Abc-1.2_3").await, "Abc-1.2_3");
    assert_eq!(answered_id(&[b'a'; 128]).await.len(), 128);
}

#[tokio::test]
async fn a_request_id_that_is_unfit_for_a_log_is_replaced() {
    for id in [&b""[..], &[b'a'; 129], b"a b", b"a\xe9", b"a/b", b"\"x\""] {
        assert_eq!(answered_id(id).await.len(), 36, "{id:?}");
    }
}

#[tokio::test]
async fn without_a_request_id_each_request_gets_its_own() {
    let relay = Relay::new(1);
    let (first, second) = (relay.get("/healthz").await, relay.get("/nowhere").await);
    assert_ne!(first.header("x-request-id").unwrap(), second.header("x-request-id").unwrap());
}

#[tokio::test]
async fn a_panic_of_a_handler_is_a_500_that_is_counted_and_the_next_request_is_served() {
    let relay = Relay::new(1);
    relay.segment_is(Mood::Panics);
    let mut request = post(Full::from(ADA));
    request.headers_mut().insert("x-request-id", "r-7".parse().unwrap());
    let answer = relay.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "internal_error"));
    assert_eq!((answer.header("x-request-id"), answer.header("cache-control")), (Some("r-7"), Some("no-store")));
    let metrics = relay.get("/metrics").await.text;
    for line in ["panics_total 1", "request_duration_seconds_count{result=\"failed\"} 1", "requests_in_flight_max 1"] {
        assert!(metrics.contains(&format!("segment_relay_{line}\n")), "{line}\n{metrics}");
    }
    assert_eq!(relay.counted("internal_error").await, Some(1));
    relay.segment_is(Mood::Accepts);
    assert_eq!(relay.post(ADA).await.status, 200, "the place in flight is free again");
    assert!(!relay.supervisor.has_failed());
}

#[tokio::test]
async fn a_trailing_slash_of_a_path_does_not_count() {
    let relay = Relay::new(1);
    for path in ["/healthz/", "/docs/", "/openapi.json/"] {
        assert_eq!(relay.get(path).await.status, 200, "{path}");
    }
    let request = Request::post("/customers/?x=1").header("content-type", "application/json").body(Body::from(ADA));
    assert_eq!(relay.send(request.unwrap()).await.status, 200);
    assert_eq!(relay.get("/nowhere/").await.code(), "not_found");
    for path in ["/", "//", "//metrics", "/metrics//", "/docs//", "//customers/"] {
        assert_eq!(relay.get(path).await.code(), "not_found", "{path}");
    }
}

#[tokio::test]
async fn every_answer_says_that_it_is_not_to_be_sniffed_and_whether_it_may_be_kept() {
    let relay = Relay::new(1);
    for (path, caching) in [("/healthz", "no-store"), ("/nowhere", "no-store"), ("/docs", "max-age=3600")] {
        let answer = relay.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some(caching), "{path}");
    }
    assert_eq!(relay.post("{").await.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn axum_serves_the_application_as_it_is() {
    let relay = Relay::new(1);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = async { axum::serve(listener, Shared::new(relay.service.clone())).await };
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = ADA.len();
        let head =
            format!("POST /customers HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{ADA}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::select! {
        ended = served => panic!("the server ended: {ended:?}"),
        answer = asked => assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}"),
    }
}
