//! The two programs of docs/from-the-sdk.md, run as a reader would run them, and what the page says that they print.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::{App, Segment, WRITE_KEY};
use crate::wire::installed_sdk;

/// A token for senders.
const SENDER: &str = "t0ken-of-a-sender";

/// The page's program whose first line begins so.
fn program(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-the-sdk.md");
    let page = fs::read_to_string(page).expect("a page");
    let blocks = page.split("```js\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    let found: Vec<_> = blocks.filter(|block| block.starts_with(&format!("// {name}.mjs"))).collect();
    let [program] = &found[..] else { panic!("one program {name}: {found:?}") };
    program.clone()
}

/// Runs a program with node in this directory, with these variables. What it printed.
async fn printed(program: &str, directory: &Path, variables: &[(&str, &str)]) -> String {
    let file = tempfile::Builder::new().suffix(".mjs").tempfile_in(directory).expect("a file");
    fs::write(file.path(), program).expect("a file");
    let node = tokio::process::Command::new("node").arg(file.path()).envs(variables.iter().copied()).output().await;
    let output = node.expect("node: run tests/tools/node");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn after_the_move_the_answer_says_what_happened() {
    let settings = [("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", SENDER), ("RELAY_REQUEST_TIMEOUT", "2s")];
    let app = App::with(&settings).await;
    let (directory, program) = (tempfile::tempdir().expect("a directory"), program("after"));
    let url = app.relay().url("");
    let variables = [("RELAY_URL", &*url), ("RELAY_TOKEN", SENDER)];
    let run = async || printed(&program, directory.path(), &variables).await;
    assert!(run().await.starts_with("200 relay-"));
    app.segment().fail(json!({"status": 400})).await;
    assert_eq!(run().await, "422 segment_rejected\n");
    app.segment().fail(json!({"status": 503})).await;
    let printed = run().await;
    assert!(printed.starts_with("502 segment_unavailable\nagain in "), "{printed}");
}

#[tokio::test]
async fn before_the_move_a_refused_customer_counts_as_sent() {
    let segment = Segment::start().await;
    segment.fail(json!({"status": 400})).await;
    let variables = [("SEGMENT_HOST", segment.url().trim_end_matches('/')), ("SEGMENT_WRITE_KEY", WRITE_KEY)];
    assert_eq!(printed(&program("before"), installed_sdk(), &variables).await, "sent\n");
    assert!(segment.received().await.is_empty());
}
