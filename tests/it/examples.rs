//! The programs in `examples/`, run as a reader would run them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{Segment, WRITE_KEY};

/// Runs an example with exactly these variables.
fn run(name: &str, variables: &[(&str, &str)]) -> Output {
    let example = Path::new(env!("CARGO_BIN_EXE_segment-relay")).with_file_name("examples").join(name);
    assert!(example.is_file(), "a plain `cargo test` builds examples/{name}.rs; `cargo build --examples` does too");
    Command::new(example).env_clear().envs(variables.iter().copied()).output().unwrap()
}

fn lines(output: &Output) -> Vec<&str> {
    std::str::from_utf8(&output.stdout).unwrap().lines().collect()
}

fn report(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn an_injected_client_gets_the_customer_and_never_an_id_of_nobody() {
    let output = run("own_client", &[]);
    assert!(output.status.success(), "{output:?}");
    let [identify, sent, refused] = lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!(identify, r#"identify c-1042 {"email":"ada@example.com","plan":"pro"}"#);
    assert_eq!(report(sent), json!({"success": true}));
    assert_eq!(report(refused)["error"]["code"], "invalid_payload");
}

#[tokio::test]
async fn a_client_from_the_environment_sends_the_customer_to_segment() {
    let segment = Segment::start().await;
    let output = run("from_environment", &[("SEGMENT_WRITE_KEY", WRITE_KEY), ("SEGMENT_ENDPOINT", segment.url())]);
    assert!(output.status.success(), "{output:?}");
    let [sent] = lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!(report(sent), json!({"success": true}));
    let [call] = &segment.received().await[..] else { panic!("one call") };
    assert_eq!((&call["userId"], &call["traits"]["plan"]), (&json!("c-1042"), &json!("pro")));
}

#[test]
fn without_a_write_key_the_example_reports_an_error() {
    let output = run("from_environment", &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let [failed] = lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!(report(failed)["error"]["code"], "not_configured");
}
