//! The headers that every answer has, whatever its status and its method.

use reqwest::Method;

use crate::harness::{Answer, App, Durable, TOKEN, ada, head};

#[track_caller]
fn assert_headers(answer: &Answer, caching: &str) {
    let values = |name| answer.headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(values("x-content-type-options"), ["nosniff"], "{answer:?}");
    assert_eq!(values("cache-control"), [caching], "{answer:?}");
    assert_eq!(values("x-request-id").len(), 1, "{answer:?}");
}

#[tokio::test]
async fn every_answer_to_any_method_says_that_it_is_neither_sniffed_nor_kept() {
    let durable = Durable::start().await;
    assert_headers(&durable.post(&ada()).await, "no-store");
    for path in
        ["/customers", "/healthz", "/readyz", "/metrics", "/status", "/dead-letters", "/", "/nothing", "/openapi.json"]
    {
        for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "BREW"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for is_operator in [false, true] {
                let request = durable.relay().request(method.clone(), path);
                let request = if is_operator { request.bearer_auth(TOKEN) } else { request };
                assert_headers(&Answer::of(request.send().await.unwrap()).await.unwrap(), "no-store");
            }
        }
    }
    for (path, caching) in [("/docs", "max-age=3600"), ("/docs/nothing", "no-store")] {
        assert_headers(&durable.get(path).await, caching);
    }
}

#[tokio::test]
async fn failures_of_the_body_of_segment_and_of_a_stopping_relay_have_these_headers_too() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "1s"), ("RELAY_SHUTDOWN_DELAY", "60s")]).await;
    let mut slow = app.relay().connect().await;
    slow.send(head("content-length: 100\r\n") + "{").await;
    let answer = slow.answer().await;
    assert_eq!(answer.status, 408);
    assert_headers(&answer, "no-store");
    for (media_type, body, status) in [
        ("application/json", "{".to_owned(), 400),
        ("application/json", " ".repeat(70_000), 413),
        ("text/plain", "{}".to_owned(), 415),
        ("application/json", "{}".to_owned(), 422),
    ] {
        let answer = app.post_with(&[("content-type", media_type)], body).await;
        assert_eq!(answer.status, status);
        assert_headers(&answer, "no-store");
    }
    app.segment().fail(serde_json::json!({"hang": true})).await;
    let answer = app.post(&ada()).await;
    assert_eq!(answer.status, 504);
    assert_headers(&answer, "no-store");
    app.relay().process().signal("TERM");
    crate::harness::eventually(async || app.get("/readyz").await.status == 503).await;
    assert_headers(&app.get("/readyz").await, "no-store");
}
