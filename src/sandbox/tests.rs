//! The sandbox over real sockets. No test waits for time to pass.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Timeout of every wait, far above what any takes: a failing test ends too.
const TIMEOUT: Duration = Duration::from_secs(30);

const ADA: &str = r#"{"type":"identify","userId":"ada","traits":{"z":1.50,"a":"\u00e9"},"messageId":"m-1"}"#;

struct TestSandbox {
    base: String,
    client: Client,
    tasks: JoinSet<()>,
    stop: oneshot::Sender<()>,
}

impl TestSandbox {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(super::serve(listener, async {
            let _ = stopped.await;
        }));
        let client = Client::builder().timeout(TIMEOUT).build().unwrap();
        Self { base, client, tasks, stop }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let answer = self.client.post(format!("http://{}{path}", self.base)).body(body).send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap())
    }

    async fn batch(&self, items: &[&str]) -> (StatusCode, Value) {
        self.post("/v1/batch", batch(items)).await
    }

    async fn get(&self, path: &str) -> String {
        self.client.get(format!("http://{}{path}", self.base)).send().await.unwrap().text().await.unwrap()
    }

    async fn stats(&self) -> Value {
        serde_json::from_str(&self.get("/stats").await).unwrap()
    }

    /// Sends a request on a connection of its own, and does not read the answer.
    async fn send(&self, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.base).await.unwrap();
        let head = format!("POST /v1/batch HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream
    }
}

fn batch(items: &[&str]) -> String {
    format!(r#"{{"batch":[{}],"writeKey":"k","sentAt":"now"}}"#, items.join(","))
}

#[tokio::test]
async fn accepted_calls_are_listed_verbatim_in_order_of_arrival() {
    let sandbox = TestSandbox::start().await;
    let single = r#"{ "userId":"bob","writeKey":"k" }"#;
    assert_eq!(sandbox.post("/v1/identify", single).await, (StatusCode::OK, json!({"success": true})));
    assert_eq!(sandbox.batch(&[ADA, r#"{"type":"track"}"#, ADA]).await, (StatusCode::OK, json!({"success": true})));
    assert_eq!(sandbox.get("/events").await, format!("{single}\n{ADA}\n{ADA}\n"));
    let stats = sandbox.stats().await;
    assert_eq!((&stats["acceptedCalls"], &stats["duplicates"]), (&json!(3), &json!(1)));
    assert_eq!(stats["dropped"], json!({"noId": 1}));
}

#[tokio::test]
async fn a_gzipped_batch_is_taken_and_its_headers_and_envelope_are_logged() {
    let sandbox = TestSandbox::start().await;
    let plain = batch(&[ADA]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain.as_bytes()).unwrap();
    let request = sandbox.client.post(format!("http://{}/v1/batch", sandbox.base)).header("Content-Encoding", "gzip");
    let answer = request.header("X-Retry-Count", "1").body(encoder.finish().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let shown: Value = serde_json::from_str(&sandbox.get("/requests").await).unwrap();
    assert_eq!(shown["headers"]["x-retry-count"], "1");
    assert_eq!(shown["headers"]["content-encoding"], "gzip");
    assert_eq!(shown["bytes"], plain.len());
    assert_eq!(shown["envelope"], json!({"writeKey": "k", "sentAt": "now"}));
}

#[tokio::test]
async fn an_oversized_body_gets_its_refusal() {
    let sandbox = TestSandbox::start().await;
    let (status, answer) = sandbox.post("/v1/batch", " ".repeat(1_500_000)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["message"], "the body is over 512000 bytes");
    let expected = json!({"success": false, "message": "malformed JSON", "code": "invalid_request"});
    assert_eq!(sandbox.post("/v1/batch", "{").await, (StatusCode::BAD_REQUEST, expected));
    assert_eq!(sandbox.stats().await["refusedRequests"], 2);
}

#[tokio::test]
async fn a_status_fault_answers_as_set_until_its_count_is_used_up() {
    let sandbox = TestSandbox::start().await;
    let (status, _) = sandbox.post("/faults", r#"{"status":429,"retryAfter":7,"body":"slow down","count":1}"#).await;
    assert_eq!(status, StatusCode::OK);
    let request = sandbox.client.post(format!("http://{}/v1/batch", sandbox.base)).body(batch(&[ADA]));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "slow down");
    assert_eq!(sandbox.get("/faults").await, "{}");
    assert_eq!(sandbox.get("/events").await, "");
    assert_eq!(sandbox.batch(&[ADA]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_200_fault_keeps_no_calls_and_after_accepting_keeps_them() {
    let sandbox = TestSandbox::start().await;
    let refused = json!({"success": false});
    sandbox.post("/faults", r#"{"status":200,"body":"{\"success\":false}"}"#).await;
    assert_eq!(sandbox.batch(&[ADA]).await, (StatusCode::OK, refused));
    assert_eq!(sandbox.get("/events").await, "");
    sandbox.post("/faults", r#"{"status":500,"afterAccepting":true}"#).await;
    assert_eq!(sandbox.batch(&[ADA]).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(sandbox.get("/events").await, format!("{ADA}\n"));
    assert_eq!(sandbox.stats().await["faultedRequests"], 2);
}

#[tokio::test]
async fn a_poisoned_user_gets_the_whole_batch_refused_before_any_fault() {
    let sandbox = TestSandbox::start().await;
    sandbox.post("/faults", r#"{"poisonUserIds":["ada"],"status":503,"count":1}"#).await;
    let bob = r#"{"type":"identify","userId":"bob"}"#;
    assert_eq!(sandbox.batch(&[bob, ADA]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(sandbox.batch(&[bob]).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(sandbox.batch(&[bob]).await.0, StatusCode::OK);
    assert_eq!(sandbox.get("/events").await, format!("{bob}\n"));
}

#[tokio::test]
async fn invalid_faults_change_nothing_and_reset_removes_everything() {
    let sandbox = TestSandbox::start().await;
    sandbox.post("/faults", r#"{"latency":"1ms"}"#).await;
    let (status, answer) = sandbox.post("/faults", r#"{"stauts":500}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["message"].as_str().unwrap().contains("stauts"));
    assert_eq!(sandbox.get("/faults").await, r#"{"latency":"1ms"}"#);
    sandbox.batch(&[ADA]).await;
    sandbox.post("/reset", "").await;
    for path in ["/events", "/requests"] {
        assert_eq!(sandbox.get(path).await, "");
    }
    assert_eq!(sandbox.get("/faults").await, "{}");
    assert_eq!(sandbox.stats().await["requests"], 0);
}

#[tokio::test]
async fn a_reset_fault_closes_the_connection_without_an_answer() {
    let sandbox = TestSandbox::start().await;
    sandbox.post("/faults", r#"{"reset":true,"afterAccepting":true}"#).await;
    let mut stream = sandbox.send(&batch(&[ADA])).await;
    let error = timeout(TIMEOUT, stream.read(&mut [0; 64])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(sandbox.get("/events").await, format!("{ADA}\n"));
    assert!(sandbox.get("/requests").await.contains(r#""status":null"#));
}

#[tokio::test]
async fn a_hanging_request_ends_when_serve_stops() {
    let mut sandbox = TestSandbox::start().await;
    sandbox.post("/faults", r#"{"hang":true}"#).await;
    let mut stream = sandbox.send(&batch(&[ADA])).await;
    while sandbox.stats().await["faultedRequests"] != 1 {
        tokio::task::yield_now().await;
    }
    sandbox.stop.send(()).unwrap();
    timeout(TIMEOUT, sandbox.tasks.join_next()).await.unwrap().unwrap().unwrap();
    let left = timeout(TIMEOUT, stream.read(&mut [0; 64])).await.unwrap();
    assert!(matches!(left, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_hanging_connection_ends_when_its_peer_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = JoinSet::new();
    connection.spawn(super::serve_connection(stream, super::router(false)));
    // The answer to the first request shows that the fault is set. The second request gets no answer.
    let set = "POST /faults HTTP/1.1\r\nHost: s\r\nContent-Length: 13\r\n\r\n{\"hang\":true}";
    peer.write_all(set.as_bytes()).await.unwrap();
    assert!(peer.read(&mut [0; 1_024]).await.unwrap() > 0);
    peer.write_all(b"POST /v1/batch HTTP/1.1\r\nHost: s\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    drop(peer);
    timeout(TIMEOUT, connection.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let sandbox = TestSandbox::start().await;
    assert_eq!(sandbox.post("/v1/unknown", "{}").await.0, StatusCode::NOT_FOUND);
    assert_eq!(sandbox.post("/unknown", "{}").await.0, StatusCode::NOT_FOUND);
    assert_eq!(sandbox.post("/healthz", "{}").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(sandbox.get("/healthz").await, r#"{"status":"ok"}"#);
    assert!(sandbox.get("/").await.contains(&format!("curl http://{}/events", sandbox.base)));
}
