//! What a customer may hold, asked of the running relay: ids, dates, white space and sizes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, App, Durable, TOKEN, customer};

fn with(field: &str, value: &str) -> Value {
    let mut customer = customer("c-1");
    customer[field] = value.into();
    customer
}

#[track_caller]
fn assert_refused(answer: &Answer, field: &str) {
    answer.assert_failed(422, "invalid_payload");
    assert_eq!(answer.body["error"]["details"][0]["field"], field, "{answer:?}");
}

#[tokio::test]
async fn an_id_that_names_nobody_is_refused_and_nothing_is_sent() {
    let app = App::start().await;
    let invisible = ["\u{feff}", "\u{200b}", "\u{2060}", "\u{3164}", "\u{ad}", "\0", " \u{feff}\u{200b}\0"];
    let placeholders = [" null ", "NULL", "undefined", "None", "NaN", "True", "[object Object]", "\u{200b}null", " 0 "];
    for id in invisible.into_iter().chain(placeholders) {
        for field in ["userId", "anonymousId"] {
            assert_refused(&app.post(&with(field, id)).await, &format!("/{field}"));
        }
    }
    for id in invisible.into_iter().chain([" ", "\u{a0}"]) {
        assert_refused(&app.post(&with("messageId", id)).await, "/messageId");
    }
    assert!(app.post(&customer("c-2")).await.is_accepted());
    assert_eq!(app.segment().received().await.len(), 1);
}

#[tokio::test]
async fn a_blank_key_is_no_key() {
    let durable = Durable::start().await;
    for name in ["webhook-id", "idempotency-key"] {
        for blank in ["", " ", "\u{a0}", "\u{feff}\u{200b}"] {
            for plan in ["free", "pro"] {
                let body = json!({"userId": "c-1", "traits": {"plan": plan}}).to_string();
                let answer = durable.post_with(&[(name, blank)], body).await;
                assert!(answer.is_stored() && !answer.is_replayed(), "{name} {blank:?}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_date_is_what_iso_8601_calls_one() {
    let app = App::start().await;
    let post = async |date: &str| app.post(&json!({"userId": "c-1", "traits": {"createdAt": date}})).await;
    for date in ["2026-01-31T09:30:00.1111111111Z", "2026-01-31T24:00:00", "2026-W05-6", "2026-031"] {
        assert!(post(date).await.is_accepted(), "{date}");
    }
    for date in ["2026-01-31 09:30:00", "2026-01-31T09:30:00+25:59", "2026-01-31T24:00:01", "2025-W53-1", "2025-366"] {
        assert_refused(&post(date).await, "/traits/createdAt");
    }
}

#[tokio::test]
async fn a_customer_of_24_kib_is_taken_however_it_is_indented_and_sent_without_white_space() {
    let app = App::start().await;
    let rows: Vec<Value> =
        (0..400).map(|n| json!({"id": n, "name": format!("item \" {n}"), "tags": ["a b", "c"]})).collect();
    let customer = json!({"userId": "c-1", "messageId": "m-1", "timestamp": "2026-01-31T09:30:00.000Z",
        "context": {"ip": "192.0.2.1"}, "integrations": {"All": true}, "traits": {"rows": rows}});
    let (compact, pretty) = (customer.to_string(), serde_json::to_string_pretty(&customer).expect("JSON"));
    assert!(compact.len() < 24_576 && pretty.len() > 48_000, "{} {}", compact.len(), pretty.len());
    for body in [compact, pretty] {
        let answer = app.post_with(&[], body).await;
        assert!(answer.is_accepted(), "{answer:?}");
    }
    let lines = app.segment().received_lines().await;
    assert_eq!(lines[0], lines[1]);
}

#[tokio::test]
async fn white_space_is_not_stored_either_and_a_repeat_is_still_judged_by_the_body() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 400, "count": 1})).await;
    let body =
        "{\n  \"userId\": \"c-1\",\n  \"messageId\": \"m-1\",\n  \"traits\": {\n    \"a\": [ 1, \"b c\" ]\n  }\n}";
    let answer = durable.post_with(&[("prefer", "wait=10")], body).await;
    answer.assert_failed(422, "segment_rejected");
    // The text itself, because reading it as JSON would lose the white space.
    let request = durable.relay().request(Method::GET, "/dead-letters").bearer_auth(TOKEN);
    let page = request.send().await.expect("an answer").text().await.expect("text");
    assert!(page.contains(r#""traits":{"a":[1,"b c"]}"#), "{page}");
    let other = r#"{"userId":"c-1","messageId":"m-1","traits":{"a":[1,"b c"]}}"#;
    durable.post_with(&[], other).await.assert_failed(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_413_says_which_limit_was_exceeded_and_that_escapes_count() {
    let app = App::start().await;
    let of = |text: String| format!(r#"{{"userId":"c-1","traits":{{"a":"{text}"}}}}"#);
    let call = app.post_with(&[], of(r"\u00e9".repeat(6_000))).await;
    call.assert_failed(413, "message_too_large");
    for part in ["the call has 36", "32768", r"\u00e9 has 6"] {
        assert!(call.message().contains(part), "{call:?}");
    }
    let body = app.post_with(&[], of(" ".repeat(70_000))).await;
    body.assert_failed(413, "message_too_large");
    assert!(body.message().contains("body") && body.message().contains("65536"), "{body:?}");
    assert!(app.segment().received().await.is_empty());
}
