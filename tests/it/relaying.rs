//! What arrives at Segment, to the byte.

use serde_json::{Value, json};

use crate::harness::{Answer, App, ada};

#[tokio::test]
async fn traits_arrive_byte_for_byte_but_for_white_space_between_tokens() {
    let app = App::start().await;
    let traits = r#"{ "zeta":1234567890123456789,"alpha" : null, "name":"", "price":1.10,"big":1E+400, "é":"\u00e9\n\ud83d\ude00 ☃","neg":-0.0,"list":[ 1, {"b":1,"a":2} ],"address":{"city":"Zürich","x":[]} }"#;
    let answer = app.post_with(&[], format!(r#"{{"traits":{traits},"userId":"c-\u00e9\"1"}}"#)).await;
    assert!(answer.is_accepted(), "{answer:?}");
    let line = &app.segment().received_lines().await[0];
    let compact = r#"{"zeta":1234567890123456789,"alpha":null,"name":"","price":1.10,"big":1E+400,"é":"\u00e9\n\ud83d\ude00 ☃","neg":-0.0,"list":[1,{"b":1,"a":2}],"address":{"city":"Zürich","x":[]}}"#;
    assert!(line.contains(&format!(r#""traits":{compact},"#)), "{line}");
    // Not even a number that few parsers hold is touched.
    assert!(line.contains(r#""userId":"c-é\"1","#), "{line}");
}

#[tokio::test]
async fn a_call_has_the_official_shape() {
    let app = App::start().await;
    let answer = app.post_with(&[], r#"{"userId":"c-1","traits":{"plan":"pro"}}"#).await;
    let line = app.segment().received_lines().await.remove(0);
    let call: Value = serde_json::from_str(&line).unwrap();
    let timestamp = call["timestamp"].as_str().unwrap();
    let library = &call["context"]["library"];
    assert_eq!(library["name"], "segment-relay");
    let expected = format!(
        r#"{{"timestamp":"{timestamp}","integrations":{{}},"type":"identify","userId":"c-1","traits":{{"plan":"pro"}},"context":{{"library":{{"name":"segment-relay","version":{}}}}},"messageId":"{}"}}"#,
        library["version"],
        answer.message_id()
    );
    assert_eq!(line, expected);
    assert_eq!((timestamp.len(), timestamp.as_bytes()[19], timestamp.as_bytes()[23]), (24, b'.', b'Z'), "{timestamp}");
    let age = jiff::Timestamp::now().duration_since(timestamp.parse().unwrap());
    assert!((0..60).contains(&age.as_secs()), "{timestamp}");
}

#[tokio::test]
async fn what_segment_would_drop_in_silence_never_arrives() {
    let app = App::start().await;
    for body in [
        json!({"userId": "0", "traits": {}}),
        json!({"userId": "c-1", "traits": []}),
        json!({"userId": "c-1", "traits": {}, "messageId": "m".repeat(100)}),
        json!({"userId": "c-1", "traits": {}, "anonymousId": 7}),
        json!({"userId": "c-1", "traits": {}, "timestamp": "2026-01-31"}),
        json!({"userId": "c-1", "traits": {}, "timestamp": "2026-01-31T09:30:00.123456789Z", "anonymousId": "a-1"}),
        json!({"userId": "c-1", "traits": {}, "messageId": "é".repeat(99)}),
        json!({"userId": "c-1", "traits": {}, "anonymousId": ""}),
        json!({"userId": "c-1", "traits": {}, "anonymousId": "0"}),
        ada(),
    ] {
        app.post(&body).await;
    }
    let stats = app.segment().stats().await;
    assert_eq!(stats["dropped"], json!({}), "{stats}");
    assert!(stats["acceptedCalls"].as_u64() >= Some(3), "{stats}");
}

#[tokio::test]
async fn a_given_timestamp_is_sent_as_utc_and_cut_to_milliseconds() {
    let app = App::start().await;
    let cases = [
        ("2024-02-29T23:59:59.123999+02:00", "2024-02-29T21:59:59.123Z"),
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000Z"),
        ("2026-01-31t00:15:00.5-01:30", "2026-01-31T01:45:00.500Z"),
        ("1970-01-01T00:00:00z", "1970-01-01T00:00:00.000Z"),
    ];
    for (given, _) in cases {
        let answer = app.post(&json!({"userId": "c-1", "traits": {}, "timestamp": given})).await;
        assert!(answer.is_accepted(), "{given}: {answer:?}");
    }
    let received = app.segment().received().await;
    let sent: Vec<&str> = received.iter().filter_map(|call| call["timestamp"].as_str()).collect();
    assert_eq!(sent, cases.map(|(_, sent)| sent));
}

#[tokio::test]
async fn what_is_optional_is_passed_on() {
    let app = App::start().await;
    let context = r#"{"ip":"1.2.3.4", "library":{"name":"own","version":"7"},"n":1.10}"#;
    let body = format!(
        r#"{{"userId":"c-1","traits":{{}},"type":"identify","anonymousId":"a-1","context":{context},"integrations":{{"All": false,"X":{{}}}}}}"#
    );
    assert!(app.post_with(&[], body).await.is_accepted());
    assert!(app.post(&json!({"userId": "c-1", "traits": {}, "context": {"ip": "1.2.3.4"}})).await.is_accepted());
    let lines = app.segment().received_lines().await;
    for part in [
        r#""context":{"ip":"1.2.3.4","library":{"name":"own","version":"7"},"n":1.10}"#,
        r#""integrations":{"All":false,"X":{}}"#,
        r#""anonymousId":"a-1""#,
    ] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
    let second: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(second["context"]["ip"], "1.2.3.4");
    assert_eq!(second["context"]["library"]["name"], "segment-relay");
}

#[tokio::test]
async fn a_given_message_id_is_kept_whatever_the_headers_say() {
    let app = App::start().await;
    let body = json!({"userId": "c-1", "traits": {}, "messageId": "mine ☃"}).to_string();
    let answer = app.post_with(&[("webhook-id", "w"), ("idempotency-key", "k")], body).await;
    assert_eq!(answer.message_id(), "mine ☃");
    assert_eq!(app.segment().received().await[0]["messageId"], "mine ☃");
}

#[tokio::test]
async fn a_key_makes_a_stable_message_id_that_two_customers_do_not_share() {
    let app = App::start().await;
    let post = async |headers: &[(&str, &str)], user_id: &str| -> Answer {
        app.post_with(headers, json!({"userId": user_id, "traits": {}}).to_string()).await
    };
    let first = post(&[("webhook-id", "msg_1")], "c-1").await;
    let again = post(&[("webhook-id", "msg_1")], "c-1").await;
    assert_eq!(first.message_id(), again.message_id());
    assert!(first.message_id().starts_with("relay-") && first.message_id().len() <= 99, "{first:?}");
    assert!(!first.message_id().contains("msg_1") && !first.message_id().contains("c-1"));
    let both = post(&[("idempotency-key", "k"), ("webhook-id", "msg_1")], "c-1").await;
    assert_eq!(both.message_id(), first.message_id());
    let others = [
        post(&[("webhook-id", "msg_1")], "c-2").await,
        post(&[("webhook-id", "msg_2")], "c-1").await,
        post(&[("idempotency-key", "msg_1")], "c-1").await,
        post(&[], "c-1").await,
        post(&[], "c-1").await,
    ];
    let mut ids: Vec<&str> = others.iter().chain([&first]).map(Answer::message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "{ids:?}");
    let received = app.segment().received().await;
    assert!(received.iter().take(3).all(|call| call["messageId"] == first.message_id()), "{received:?}");
    let another = App::with(&[("SEGMENT_WRITE_KEY", "another-key")]).await;
    let body = json!({"userId": "c-1", "traits": {}}).to_string();
    let there = another.post_with(&[("webhook-id", "msg_1")], body).await;
    assert_ne!(there.message_id(), first.message_id());
}
