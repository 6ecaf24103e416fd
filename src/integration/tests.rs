//! The service with a client that keeps state, and with a client from the environment, each in a process of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::environment::send_customer_to_segment;
use super::{ResultReport, SegmentIntegrationResult, send_customer_to_segment_with_client};
use crate::customer::SegmentIdentifyPayload;
use crate::sandbox;
use crate::segment::{ErrorCode, Receipt, SegmentClient, SegmentError};

const ADA: &str = r#"{"userId":"c-1042","traits":{"email":"ada@example.com","plan":"pro"}}"#;

/// A client and Segment in memory: a call waits until it is flushed.
#[derive(Default)]
struct FakeClient {
    /// The error of `identify`, if it fails.
    identify_error: Option<SegmentError>,
    /// The error of `flush`, if it fails.
    flush_error: Option<SegmentError>,
    waiting: Vec<(String, String)>,
    accepted: Vec<(String, String)>,
    flushes: usize,
}

impl FakeClient {
    fn is_untouched(&self) -> bool {
        self.waiting.is_empty() && self.accepted.is_empty() && self.flushes == 0
    }
}

#[async_trait]
impl SegmentClient for FakeClient {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        match self.identify_error.clone() {
            Some(error) => Err(error),
            None => {
                self.waiting.push((payload.user_id.clone().into_owned(), payload.traits.as_json().to_owned()));
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        self.flushes += 1;
        let flushed = std::mem::take(&mut self.waiting);
        match self.flush_error.clone() {
            Some(error) => Err(error),
            None => {
                self.accepted.extend(flushed);
                Ok(Receipt::accepted(format!("m-{}", self.accepted.len())))
            }
        }
    }

    async fn close_and_flush(mut self: Box<Self>) -> Result<(), SegmentError> {
        self.flush().await.map(|_receipt| ())
    }
}

fn payload(body: &str) -> SegmentIdentifyPayload<'_> {
    SegmentIdentifyPayload::parse(body.as_bytes()).unwrap()
}

async fn send(client: &mut FakeClient, body: &str) -> SegmentIntegrationResult {
    send_customer_to_segment_with_client(client, &payload(body)).await
}

fn report(result: &SegmentIntegrationResult) -> Value {
    serde_json::to_value(ResultReport(result)).unwrap()
}

#[tokio::test]
async fn a_customer_is_identified_then_flushed_and_gets_a_receipt() {
    let mut client = FakeClient::default();
    assert_eq!(send(&mut client, ADA).await, Ok(Receipt::accepted("m-1".to_owned())));
    assert_eq!(client.accepted, [("c-1042".to_owned(), r#"{"email":"ada@example.com","plan":"pro"}"#.to_owned())]);
    assert_eq!((client.waiting.len(), client.flushes), (0, 1));
}

#[tokio::test]
async fn the_injected_client_gets_every_customer_in_order() {
    let mut client = FakeClient::default();
    for plan in ["free", "pro"] {
        send(&mut client, &format!(r#"{{"userId":"c-1","traits":{{"plan":"{plan}"}}}}"#)).await.unwrap();
    }
    let traits: Vec<_> = client.accepted.iter().map(|(_, traits)| traits.as_str()).collect();
    assert_eq!(traits, [r#"{"plan":"free"}"#, r#"{"plan":"pro"}"#]);
}

#[tokio::test]
async fn after_a_failed_identify_nothing_is_flushed_and_the_clients_error_is_returned() {
    let too_large = SegmentError::new(ErrorCode::MessageTooLarge, "the call is 40000 bytes");
    let mut client = FakeClient { identify_error: Some(too_large.clone()), ..FakeClient::default() };
    assert_eq!(send(&mut client, ADA).await, Err(too_large));
    assert!(client.is_untouched());
}

#[tokio::test]
async fn the_error_of_a_failed_flush_is_returned_unchanged() {
    let refusal =
        SegmentError::new(ErrorCode::RateLimited, "slow down, \"friend\"").retry_after(Duration::from_secs(7));
    let mut client = FakeClient { flush_error: Some(refusal.clone()), ..FakeClient::default() };
    assert_eq!(send(&mut client, ADA).await, Err(refusal));
    assert!(client.accepted.is_empty());
    client.flush_error = None;
    assert!(send(&mut client, ADA).await.is_ok(), "a failure does not affect the next customer");
}

#[tokio::test]
async fn the_client_is_never_called_for_a_user_id_that_must_not_be_sent() {
    for user_id in ["", " ", "\t\n", "\u{a0}", "0", "00-00", "---", "-1", "null", "anonymous"] {
        let mut client = FakeClient::default();
        let mut customer = payload(ADA);
        customer.user_id = user_id.into();
        let error = send_customer_to_segment_with_client(&mut client, &customer).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidPayload, "{user_id:?}");
        assert!(error.message.starts_with("userId "), "{}", error.message);
        assert!(client.is_untouched(), "{user_id:?}");
    }
}

#[tokio::test]
async fn the_client_is_never_called_for_another_id_that_segment_would_drop_silently() {
    let too_long = "x".repeat(100);
    for (message_id, anonymous_id) in [(Some(""), None), (Some(&*too_long), None), (None, Some("")), (None, Some("0"))]
    {
        let mut client = FakeClient::default();
        let mut customer = payload(ADA);
        customer.message_id = message_id.map(Into::into);
        customer.anonymous_id = anonymous_id.map(Into::into);
        let error = send_customer_to_segment_with_client(&mut client, &customer).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidPayload, "{message_id:?} {anonymous_id:?}");
        assert!(client.is_untouched());
    }
}

#[test]
fn the_report_of_a_success_has_no_other_field() {
    let accepted = Ok(Receipt::accepted("m-1".to_owned()));
    assert_eq!(serde_json::to_string(&ResultReport(&accepted)).unwrap(), r#"{"success":true}"#);
}

#[test]
fn the_report_of_a_failure_has_the_message_and_the_code() {
    let refused = Err(SegmentError::new(ErrorCode::Rejected, "Segment: malformed JSON").retry_after(Duration::ZERO));
    let expected =
        json!({"success": false, "error": {"message": "Segment: malformed JSON", "code": "segment_rejected"}});
    assert_eq!(report(&refused), expected);
}

/// Runs the test `name` of this file again, in a process of its own with exactly these variables, because a process with
/// threads cannot change its environment soundly. Returns the output. In the new process [`is_own_process`] is true.
fn in_own_process(name: &str, variables: &[(&str, &str)]) -> String {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env_clear().env(OWN_PROCESS, "1").envs(variables.iter().copied());
    // The file for coverage, if it is measured.
    again.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    let ended = again.args(["--exact", &format!("integration::tests::{name}"), "--nocapture"]).output().unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert!(printed.contains("1 passed"), "no test has this name: {printed}");
    printed
}

const OWN_PROCESS: &str = "OWN_PROCESS";

fn is_own_process() -> bool {
    std::env::var_os(OWN_PROCESS).is_some()
}

#[tokio::test]
async fn without_a_write_key_that_can_be_one_the_result_is_an_error_that_names_the_setting() {
    if !is_own_process() {
        let name = "without_a_write_key_that_can_be_one_the_result_is_an_error_that_names_the_setting";
        in_own_process(name, &[]);
        in_own_process(name, &[("SEGMENT_WRITE_KEY", "\"wk-test\"")]);
        return;
    }
    let result = send_customer_to_segment(&payload(ADA)).await;
    let report = report(&result);
    assert_eq!(report["success"], false);
    assert_eq!(report["error"]["code"], "not_configured");
    assert!(report["error"]["message"].as_str().unwrap().contains("SEGMENT_WRITE_KEY"), "{report}");
}

#[tokio::test]
async fn with_a_write_key_the_customer_is_sent_to_the_endpoint_of_the_environment() {
    if is_own_process() {
        let receipt = send_customer_to_segment(&payload(ADA)).await.unwrap();
        println!("receipt: {}", receipt.message_id);
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let test = async {
        let own_process = move || {
            let endpoint = format!("http://{address}");
            let variables = [("SEGMENT_WRITE_KEY", "wk-test"), ("SEGMENT_ENDPOINT", &endpoint)];
            let name = "with_a_write_key_the_customer_is_sent_to_the_endpoint_of_the_environment";
            (in_own_process(name, &variables), get(address, "/events"))
        };
        tokio::task::spawn_blocking(own_process).await.unwrap()
    };
    let (printed, events) = tokio::select! {
        seen = test => seen,
        () = sandbox::serve(listener, std::future::pending()) => panic!("the sandbox ended"),
    };
    let event: Value = serde_json::from_str(events.trim()).unwrap();
    assert_eq!((&event["userId"], &event["traits"]["plan"]), (&json!("c-1042"), &json!("pro")));
    let message_id = event["messageId"].as_str().unwrap();
    assert!(printed.contains(&format!("receipt: {message_id}")), "{printed}");
}

/// The body of the answer to a GET over HTTP/1.0.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
