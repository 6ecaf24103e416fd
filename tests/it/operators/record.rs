//! Every operators' request is logged and counted: what, by whom, and how it went.

use std::time::Instant;

use reqwest::Method;
use serde_json::Value;

use crate::harness::{Durable, TOKEN, eventually};

const USED: &str = "an operator's request";
const REFUSED: &str = "an operator's request was refused";
const LEFT_OUT: &str = "lines were left out";

fn lines(durable: &Durable, message: &str) -> Vec<Value> {
    durable.relay().log().into_iter().filter(|line| line["message"] == message).collect()
}

async fn counted(durable: &Durable, result: &str) -> f64 {
    durable.relay().metric(&format!("segment_relay_admin_requests_total{{result=\"{result}\"}}")).await
}

#[tokio::test]
async fn every_use_is_logged_and_counted_with_its_route_and_peer_and_without_ids_or_queries() {
    let durable = Durable::start().await;
    for (method, path) in [
        (Method::GET, "/status"),
        (Method::GET, "/dead-letters?limit=7&before=987654"),
        (Method::DELETE, "/dead-letters/987654"),
        (Method::DELETE, "/dead-letters/zoe%40example.com"),
        (Method::POST, "/dead-letters/zoe@example.com/replay"),
        (Method::DELETE, "/dead-letters/zoe%FF"),
        (Method::DELETE, "/dead-letters/%ff"),
        (Method::DELETE, "/dead-letters/dead-letters"),
        (Method::POST, "/dead-letters/replay/replay"),
        (Method::POST, "/dead-letters/%72eplay/replay/"),
        (Method::POST, "/dead-letters/replay"),
        (Method::PUT, "/status"),
    ] {
        durable.operate(method, path).await;
    }
    // No operators' requests.
    for path in ["/metrics", "/docs", "/healthz", "/openapi.json", "/nothing"] {
        durable.operate(Method::GET, path).await;
    }
    eventually(async || lines(&durable, USED).len() >= 12).await;
    let shown: Vec<(Value, Value, Value)> = lines(&durable, USED)
        .into_iter()
        .map(|line| (line["method"].clone(), line["route"].clone(), line["status"].clone()))
        .collect();
    let expected: Vec<(Value, Value, Value)> = [
        ("GET", "/status", 200),
        ("GET", "/dead-letters", 200),
        ("DELETE", "/dead-letters/{id}", 404),
        ("DELETE", "/dead-letters/{id}", 404),
        ("POST", "/dead-letters/{id}/replay", 404),
        ("DELETE", "/dead-letters/{id}", 404),
        ("DELETE", "/dead-letters/{id}", 404),
        ("DELETE", "/dead-letters/{id}", 404),
        ("POST", "/dead-letters/{id}/replay", 404),
        ("POST", "/dead-letters/{id}/replay", 404),
        ("POST", "/dead-letters/replay", 202),
        ("PUT", "/status", 405),
    ]
    .map(|(method, route, status)| (method.into(), route.into(), status.into()))
    .to_vec();
    assert_eq!(shown, expected);
    for line in lines(&durable, USED) {
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["request_id"].is_string(), "{line}");
        // `zoe` is not hexadecimal: the request's id is random hexadecimal digits.
        assert!(["987654", "limit", "zoe", "%"].iter().all(|word| !line.to_string().contains(word)), "{line}");
    }
    assert_eq!((counted(&durable, "succeeded").await, counted(&durable, "failed").await), (3.0, 9.0));
    assert_eq!(counted(&durable, "unauthorized").await, 0.0);
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_counted_and_does_not_fill_the_log() {
    let durable = Durable::start().await;
    let begin = Instant::now();
    for number in 0..400 {
        let path = ["/status", "/dead-letters/1", "/dead-letters?before=2"][number % 3];
        let request = durable.relay().request(Method::DELETE, path).bearer_auth("wr0ng-token-of-a-stranger");
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    assert_eq!(counted(&durable, "unauthorized").await, 400.0);
    // None is lost: those without a line of their own are in the next one's number.
    let told = |durable: &Durable| {
        let left_out = lines(durable, LEFT_OUT).into_iter().filter(|line| line["of"] == REFUSED);
        let left_out: u64 = left_out.map(|line| line["count"].as_u64().unwrap()).sum();
        left_out + lines(durable, REFUSED).len() as u64
    };
    eventually(async || told(&durable) == 400).await;
    // Twenty lines a second, and those of a second that was begun before and one that ends after.
    let most = 20 * (begin.elapsed().as_secs() as usize + 2);
    assert!(lines(&durable, REFUSED).len() <= most);
    let first = &lines(&durable, REFUSED)[0];
    assert_eq!((&first["method"], &first["route"]), (&"DELETE".into(), &"/status".into()));
    assert_eq!(first["status"], 401, "{first}");
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{first}");
    assert!(!durable.relay().process().stdout().concat().contains("wr0ng"));
}

#[tokio::test]
async fn a_use_that_is_refused_for_its_host_is_a_failed_one_and_does_not_fill_the_log() {
    let durable = Durable::start().await;
    let mut caller = durable.relay().connect().await;
    for path in ["/backup", "/dead-letters?before=2", "/parked/987654/give-up", "/parked/retry"] {
        for _ in 0..25 {
            let line = format!("POST {path} HTTP/1.1\r\nhost: a\r\nhost: b\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
            caller.send(line).await;
            caller.answer().await.assert_failed(400, "bad_request");
        }
    }
    // No operators' requests.
    for path in ["/metrics", "/status/987654", "/parked/7/retry/8", "/dead-letters//replay"] {
        caller.send(format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        caller.answer().await.assert_failed(400, "bad_request");
    }
    assert_eq!(counted(&durable, "failed").await, 100.0);
    let more =
        |durable: &Durable| lines(durable, LEFT_OUT).iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>();
    eventually(async || more(&durable) + lines(&durable, REFUSED).len() as u64 == 100).await;
    let first = &lines(&durable, REFUSED)[0];
    assert_eq!((&first["method"], &first["route"], &first["status"]), (&"POST".into(), &"/backup".into(), &400.into()));
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{first}");
    assert!(!durable.relay().process().stdout().concat().contains("987654"));
}
