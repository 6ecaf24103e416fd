//! What a caller is answered before Segment has a say: paths, methods, media types, payloads, request ids.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, App, ada, client_builder, head};

#[tokio::test]
async fn a_customer_that_segment_accepts_is_200() {
    let app = App::start().await;
    let answer = app.post(&ada()).await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(answer.body, json!({"success": true, "messageId": answer.message_id()}));
    assert_eq!(app.segment().received().await[0]["messageId"], answer.message_id());
}

#[tokio::test]
async fn what_is_not_json_is_400_and_the_message_says_where() {
    let app = App::start().await;
    let deep =
        format!(r#"{{"userId":"c-1","traits":{}{}}}"#, r#"{"a":"#.repeat(128), "0".to_owned() + &"}".repeat(128));
    let cases: [(&str, Vec<u8>); 8] = [
        ("line 1", Vec::new()),
        ("line 2 column 4", b"{\"userId\": \"c-1\",\n   \"traits\" {}}".to_vec()),
        ("line 1", br#"{"userId": "c-1", "traits": {}"#.to_vec()),
        ("line 1", br#"{"userId": "c-1", "traits": {}} x"#.to_vec()),
        ("line 1", b"{\"userId\": \"c-\xff\", \"traits\": {}}".to_vec()),
        ("line 1", br#"{"userId": "c-1", "traits": {"a": "\ud800"}}"#.to_vec()),
        ("line 1", br#"{"userId": "c-1", "traits": {"a": 1, "\u0061": 2}}"#.to_vec()),
        ("line 1", deep.into_bytes()),
    ];
    for (place, body) in cases {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = app.post_with(&[], body).await;
        answer.assert_failed(400, "invalid_json");
        assert!(answer.message().contains(place.split(" column").next().unwrap()), "{shown}: {answer:?}");
        assert!(answer.message().contains("column"), "{shown}: {answer:?}");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn an_unknown_path_is_404() {
    let app = App::start().await;
    for path in ["/nothing", "/nothing/", "/customers/c-1", "/", "/status", "/dead-letters"] {
        app.get(path).await.assert_failed(404, "not_found");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_and_names_the_right_one() {
    let app = App::start().await;
    for (method, path, allowed) in [
        (Method::GET, "/customers", "POST"),
        (Method::GET, "/customers/", "POST"),
        (Method::PUT, "/customers", "POST"),
        (Method::POST, "/healthz", "GET"),
        (Method::DELETE, "/metrics", "GET"),
    ] {
        let answer = app.relay().request(method, path).send().await.unwrap();
        let answer = Answer::of(answer).await.unwrap();
        answer.assert_failed(405, "method_not_allowed");
        let allow = answer.header("allow").unwrap_or_default();
        assert!(allow.split(',').any(|method| method.trim() == allowed), "{path}: {allow}");
    }
}

#[tokio::test]
async fn what_is_not_said_to_be_plain_json_is_415() {
    let app = App::start().await;
    let body = ada().to_string();
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "text/json")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
        &[("content-type", "application/json"), ("content-encoding", "identity, gzip")],
        &[("content-type", "application/json"), ("content-encoding", "identity;q=1")],
    ] {
        app.post_with(headers, body.clone()).await.assert_failed(415, "unsupported_media_type");
    }
    let untyped = app.relay().request(Method::POST, "/customers").body(body.clone()).send().await.unwrap();
    Answer::of(untyped).await.unwrap().assert_failed(415, "unsupported_media_type");
    for taken in ["application/json; charset=utf-8", "application/cloudevents+json"] {
        assert!(app.post_with(&[("content-type", taken)], body.clone()).await.is_accepted(), "{taken}");
    }
}

#[tokio::test]
async fn content_types_that_differ_are_415_and_equal_ones_count_as_one() {
    let app = App::start().await;
    let body = ada().to_string();
    let post = async |further: &str| {
        let mut caller = app.relay().connect().await;
        // The head has one line of application/json.
        caller.send(head(&format!("{further}content-length: {}\r\n", body.len())) + &body).await;
        caller.answer().await
    };
    for other in ["text/plain", "application/json; charset=utf-8", "application/ld+json", ""] {
        let answer = post(&format!("content-type: {other}\r\n")).await;
        answer.assert_failed(415, "unsupported_media_type");
    }
    assert!(post("content-type: application/json\r\n").await.is_accepted());
}

#[tokio::test]
async fn a_content_encoding_that_changes_nothing_counts_as_none_and_any_other_hears_which_is_taken() {
    let app = App::start().await;
    let body = ada().to_string();
    for encoding in ["", "identity", "IDENTITY", "identity, identity", " , Identity,"] {
        let answer = app.post_with(&[("content-encoding", encoding)], body.clone()).await;
        assert!(answer.is_accepted(), "{encoding:?}: {answer:?}");
    }
    for encoding in ["gzip", "identity, gzip", "identity;q=1", "identity identity", "none"] {
        let answer = app.post_with(&[("content-encoding", encoding)], body.clone()).await;
        answer.assert_failed(415, "unsupported_media_type");
        assert_eq!(answer.header("accept-encoding"), Some("identity"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_payload_hears_of_every_rule_it_breaks_at_once() {
    let app = App::start().await;
    let answer = app
        .post(&json!({
            "userId": " ",
            "traits": {"email": 7, "age": "old", "address": "London", "birthday": "soon", "plan": {"free": true}},
            "timestamp": "yesterday",
            "messageId": "m".repeat(100),
            "anonymousId": 1,
            "context": [],
            "integrations": "All",
            "type": "track",
            "a/b~c": 1
        }))
        .await;
    answer.assert_failed(422, "invalid_payload");
    let details = answer.body["error"]["details"].as_array().expect("details");
    let mut fields: Vec<&str> = details.iter().filter_map(|rule| rule["field"].as_str()).collect();
    fields.sort_unstable();
    let expected = [
        "/anonymousId",
        "/a~1b~0c",
        "/context",
        "/integrations",
        "/messageId",
        "/timestamp",
        "/traits/address",
        "/traits/age",
        "/traits/birthday",
        "/traits/email",
        "/type",
        "/userId",
    ];
    assert_eq!(fields, expected);
    assert!(details.iter().all(|rule| rule["message"].as_str().is_some_and(|message| !message.is_empty())));

    let answer = app.post(&json!({})).await;
    assert_eq!(answer.body["error"]["details"].as_array().map(Vec::len), Some(2), "{answer:?}");
    let many: serde_json::Map<_, _> = (0..100).map(|number| (format!("x{number}"), json!(1))).collect();
    let answer = app.post(&many.into()).await;
    assert_eq!(answer.body["error"]["details"].as_array().map(Vec::len), Some(32), "{answer:?}");
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn ids_and_traits_that_segment_would_drop_are_refused() {
    let app = App::start().await;
    for user_id in ["", "  ", "0", "000-000", "-1", "null", "anonymous"] {
        let answer = app.post(&json!({"userId": user_id, "traits": {}})).await;
        answer.assert_failed(422, "invalid_payload");
        assert_eq!(answer.body["error"]["details"][0]["field"], "/userId", "{user_id:?}");
    }
    let traits = |count| -> serde_json::Map<_, _> { (0..count).map(|n| (format!("t{n}"), json!(n))).collect() };
    let answer = app.post(&json!({"userId": "c-1", "traits": traits(300)})).await;
    answer.assert_failed(422, "invalid_payload");
    assert_eq!(answer.body["error"]["details"][0]["field"], "/traits");
    assert!(app.post(&json!({"userId": "c-1", "traits": traits(299)})).await.is_accepted());
    assert!(app.post(&json!({"userId": "c-1", "traits": {}, "timestamp": null, "context": null})).await.is_accepted());
}

#[tokio::test]
async fn every_answer_carries_the_callers_request_id_or_a_new_one() {
    let app = App::start().await;
    let body = ada().to_string();
    for fit in ["a", "Abc-1.2_3", &"x".repeat(128)] {
        let answer = app.post_with(&[("x-request-id", fit)], body.clone()).await;
        assert_eq!(answer.header("x-request-id"), Some(fit));
        let refused = app.post_with(&[("x-request-id", fit)], "{}").await;
        assert_eq!(refused.header("x-request-id"), Some(fit));
    }
    for unfit in ["", "a b", "ada@example.com", &"x".repeat(129)] {
        let answer = app.post_with(&[("x-request-id", unfit)], body.clone()).await;
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert!(id != unfit && !id.is_empty(), "{unfit:?}");
        let another = app.post_with(&[("x-request-id", unfit)], body.clone()).await;
        assert_ne!(another.header("x-request-id"), Some(&*id));
    }
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        assert!(app.get(path).await.header("x-request-id").is_some_and(|id| !id.is_empty()), "{path}");
    }
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let app = App::start().await;
    assert!(app.post(&ada()).await.is_accepted());
    app.post_with(&[], "{").await.assert_failed(400, "invalid_json");
    assert_eq!(app.get("/healthz").await.body, json!({"status": "ok"}));
    assert_eq!(app.get("/readyz").await.status, 200);
    let metrics = app.get("/metrics").await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert_eq!(metrics.metric(r#"segment_relay_requests_total{code="",result="accepted"}"#), Some(1.0));
    assert_eq!(metrics.metric(r#"segment_relay_requests_total{code="invalid_json",result="refused"}"#), Some(1.0));
    let text = metrics.body.as_str().expect("text");
    assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("segment_relay_")), "{text}");
}

#[tokio::test]
async fn http_2_without_tls_is_served_on_the_same_port() {
    let app = App::start().await;
    let client = client_builder().http2_prior_knowledge().build().unwrap();
    let response = client.post(app.relay().url("/customers")).json(&ada()).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert!(Answer::of(response).await.unwrap().is_accepted());
    let refused = client.post(app.relay().url("/customers")).json(&json!({})).send().await.unwrap();
    Answer::of(refused).await.unwrap().assert_failed(422, "invalid_payload");
    assert!(app.post(&ada()).await.is_accepted());
}
