//! What bounds the log: nobody fills it, nobody's lines hide another's, and a line is short whatever a caller sends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{App, Durable, Raw, Relay, WRITE_KEY, client, eventually, head};

/// What `src/telemetry/limit.rs` allows for one kind of line within a second.
const MAX_LINES: usize = 20;

/// Requests in one write.
const PIPELINED: usize = 500;

/// Longer than any line that the relay writes for a request.
const LONG_LINE: usize = 1_000;

const REFUSED: &str = "a customer was refused";
const LEFT_OUT: &str = "lines were left out";

/// Sends this request so often on one connection, and reads the answers.
async fn flood(relay: &Relay, request: &str, count: usize) {
    let mut caller = relay.connect().await;
    for _ in 0..count / PIPELINED {
        caller.send(request.repeat(PIPELINED)).await;
        for _ in 0..PIPELINED {
            assert!(caller.answer().await.status >= 400);
        }
    }
}

fn bad_request() -> String {
    head("content-length: 2\r\n") + "{}"
}

fn lines(relay: &Relay, message: &str) -> Vec<Value> {
    relay.log().into_iter().filter(|line| line["message"] == message).collect()
}

/// The lines that were left out of those with this message and code, as far as the log tells.
fn left_out(relay: &Relay, of: &str, code: &str) -> u64 {
    let told = lines(relay, LEFT_OUT).into_iter().filter(|line| line["of"] == of && line["code"] == code);
    told.map(|line| line["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_flood_of_failed_requests_is_a_few_lines_a_second_and_the_number_of_the_others() {
    let app = App::start().await;
    flood(app.relay(), &bad_request(), 5_000).await;
    // Nobody logs anything any more, and the number comes all the same.
    eventually(async || {
        let written = lines(app.relay(), REFUSED).len() as u64;
        written + left_out(app.relay(), REFUSED, "invalid_payload") == 5_000
    })
    .await;
    let mut by_second: BTreeMap<String, usize> = BTreeMap::new();
    for line in app.relay().log() {
        let second = line["timestamp"].as_str().unwrap()[.."2026-01-01T00:00:00".len()].to_owned();
        *by_second.entry(second).or_default() += 1;
    }
    // The end of one period, the begin of the next one, a number after each, and what a relay says when it starts.
    assert!(by_second.values().all(|lines| *lines <= 2 * MAX_LINES + 5), "{by_second:?}");
    let line = &lines(app.relay(), LEFT_OUT)[0];
    assert_eq!((&line["level"], &line["of"]), (&json!("INFO"), &json!(REFUSED)), "{line}");
    let told = left_out(app.relay(), REFUSED, "invalid_payload") as f64;
    assert_eq!(app.relay().metric(r#"segment_relay_log_lines_dropped_total{reason="limit"}"#).await, told);
    // It counts up, and is not counted twice.
    assert_eq!(app.relay().metric(r#"segment_relay_log_lines_dropped_total{reason="limit"}"#).await, told);
}

#[tokio::test]
async fn strangers_who_show_no_secret_hide_no_line_of_a_sender_and_none_about_segment() {
    let app = App::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", "5ecret-of-the-sender")]).await;
    flood(app.relay(), &bad_request(), 500).await;
    let post = async |id: &str, customer: Value| {
        let headers = [("authorization", "Bearer 5ecret-of-the-sender"), ("x-request-id", id)];
        app.post_with(&headers, customer.to_string()).await
    };
    post("a-sender", json!({})).await.assert_failed(422, "invalid_payload");
    app.segment().fail(json!({"status": 401})).await;
    for number in 0..3 {
        let customer = json!({"userId": format!("c-{number}"), "traits": {}});
        post("credentials", customer).await.assert_failed(502, "segment_unauthorized");
    }
    eventually(async || {
        let log = app.relay().log();
        ["a-sender", "credentials"].iter().all(|id| log.iter().any(|line| line["request_id"] == *id))
            && log.iter().any(|line| line["message"] == "requests to Segment are paused")
    })
    .await;
    eventually(async || left_out(app.relay(), REFUSED, "unauthorized") > 0).await;
}

#[tokio::test]
async fn what_operators_did_is_never_left_out() {
    let durable = Durable::start().await;
    for _ in 0..3 * MAX_LINES {
        assert_eq!(durable.operate(Method::POST, "/dead-letters/replay").await.status, 202);
    }
    for message in ["an operator's request", "dead letters will be sent again"] {
        eventually(async || lines(durable.relay(), message).len() == 3 * MAX_LINES).await;
    }
}

#[tokio::test]
async fn no_warning_about_settings_is_left_out() {
    // Each is short, and in quotes.
    let secrets = vec!["\"s\""; 16].join(",");
    let app = App::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", &secrets)]).await;
    let warnings = app.relay().log().into_iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(warnings, 2 * 16, "{:?}", app.relay().log());
}

#[tokio::test]
async fn a_filter_that_asks_for_debug_lines_gets_every_line() {
    let app = App::with(&[("RELAY_LOG", "info,segment_relay::publisher=debug")]).await;
    flood(app.relay(), &bad_request(), 500).await;
    eventually(async || lines(app.relay(), REFUSED).len() == 500).await;
}

#[tokio::test]
async fn a_filter_for_one_module_gets_the_number_of_the_lines_that_were_left_out_of_it() {
    let app = App::with(&[("RELAY_LOG", "off,segment_relay::app=info,segment_relay::api=info")]).await;
    flood(app.relay(), &bad_request(), 500).await;
    eventually(async || left_out(app.relay(), REFUSED, "invalid_payload") > 0).await;
}

#[tokio::test]
async fn the_number_of_the_lines_that_were_left_out_is_written_before_the_process_ends() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "0s")]).await;
    flood(app.relay(), &bad_request(), 500).await;
    app.relay().process().signal("TERM");
    app.relay_mut().process_mut().exit_code().await;
    let written = lines(app.relay(), REFUSED).len() as u64;
    assert_eq!(written + left_out(app.relay(), REFUSED, "invalid_payload"), 500);
}

#[tokio::test]
async fn no_caller_can_make_a_line_long() {
    let durable = Durable::start().await;
    let long = "A".repeat(5_000);
    for (path, token) in
        [("/customers", ""), ("/status", "wrong"), ("/status", crate::harness::TOKEN), ("/nothing", "")]
    {
        for method in ["POST", &long] {
            let mut caller = Raw::connect(durable.relay().address()).await;
            let request = format!(
                "{method} {path}?{long} HTTP/1.1\r\nhost: relay\r\nx-request-id: {long}\r\ncontent-type: {long}\r\n\
                 authorization: Bearer {token}\r\nidempotency-key: {long}\r\ncontent-length: 0\r\n\r\n"
            );
            caller.send(request).await;
            assert!(caller.answer().await.status >= 400);
        }
    }
    eventually(async || !lines(durable.relay(), "an operator's request was refused").is_empty()).await;
    eventually(async || lines(durable.relay(), "an operator's request").len() == 2).await;
    eventually(async || !lines(durable.relay(), REFUSED).is_empty()).await;
    for line in durable.relay().process().stdout() {
        assert!(line.len() < LONG_LINE, "{} bytes: {}", line.len(), &line[..LONG_LINE]);
    }
}

/// A relay whose output nobody reads once it serves.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have ended by itself, which is just as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn lines_that_are_lost_because_nobody_reads_the_output_are_counted() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segment-relay"));
    command.arg("serve").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Without the limit a line is written for each request.
    let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("RELAY_LOG", "debug")];
    let mut relay = Unread(command.envs(settings).spawn().unwrap());
    let mut output = BufReader::new(relay.0.stdout.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it serves");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "segment-relay serves" {
            break line["address"].as_str().unwrap().to_owned();
        }
    };
    let mut caller = Raw::connect(address.parse().unwrap()).await;
    let client = client();
    // More than the lines that wait for the reader, and what the system keeps for it.
    for _ in 0..40 {
        caller.send(bad_request().repeat(PIPELINED)).await;
        for _ in 0..PIPELINED {
            caller.answer().await.assert_failed(422, "invalid_payload");
        }
        let metrics = client.get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
        let series = r#"segment_relay_log_lines_dropped_total{reason="backlog"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(series)).expect(series);
        if count.parse::<f64>().unwrap() > 0.0 {
            return;
        }
    }
    panic!("no line was lost");
}
