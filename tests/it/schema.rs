//! schemathesis, a test driver of its own, against the running relay: it makes requests from `/openapi.json`, right ones and
//! wrong ones, and holds every answer against it.
//!
//! The numbers it draws are the same each time. Segment is well, so no failure of the relay's is in order.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::json;

use crate::harness::{App, Durable, Relay, TOKEN, at_last, customer};

/// Requests an operation that are made up at random, beside those that are thought out: what a few seconds allow.
const EXAMPLES: &str = "10";

/// The token of a caller.
const CALLER: &str = "t0ken-of-a-caller";

/// Where `tests/tools/schemathesis` puts it.
fn schemathesis() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of what is built");
    let program = target.join("tools/schemathesis/bin/schemathesis");
    assert!(program.exists(), "schemathesis is missing: run tests/tools/schemathesis");
    program
}

/// A run, ended when this is dropped.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself, which is just as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it to its end, with these settings of its own.
async fn every_answer_conforms(relay: &Relay, settings: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let printed = directory.path().join("printed");
    fs::write(directory.path().join("schemathesis.toml"), settings).expect("a file");
    let output = File::create(&printed).expect("a file");
    let run = Command::new(schemathesis())
        .args(["run", &relay.url("/openapi.json"), "--seed", "4", "--max-examples", EXAMPLES, "--continue-on-failure"])
        // A slow machine is no failure.
        .args(["--suppress-health-check", "all", "--request-timeout", "60", "--warnings", "off"])
        // It keeps what it finds in its working directory.
        .current_dir(directory.path())
        .stderr(output.try_clone().expect("a file"))
        .stdout(output)
        .spawn();
    let mut run = Run(run.expect("schemathesis starts"));
    let mut ended = None;
    at_last(|| {
        ended = run.0.try_wait().expect("a child");
        let is_over = ended.is_some();
        async move { is_over }
    })
    .await;
    let printed = fs::read_to_string(printed).expect("text");
    assert!(ended.is_some_and(|status| status.success()), "{printed}");
    assert!(printed.contains("No issues found"), "{printed}");
}

#[tokio::test]
async fn a_relay_without_an_outbox_answers_as_it_says() {
    let app = App::start().await;
    every_answer_conforms(app.relay(), "").await;
}

#[tokio::test]
async fn a_relay_with_an_outbox_operators_and_tokens_answers_as_it_says() {
    let durable = Durable::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", CALLER)]).await;
    // Dead letters, for those requests that are about one.
    durable.segment().fail(json!({"poisonUserIds": ["c-bad"]})).await;
    for _ in 0..5 {
        let bad = customer("c-bad").to_string();
        let authorization = format!("Bearer {CALLER}");
        let answer = durable.post_with(&[("prefer", "wait=9"), ("authorization", &authorization)], bad).await;
        answer.assert_failed(422, "segment_rejected");
    }
    // A good payload under a key that was there is refused, and the same keys come again and again.
    let settings = format!(
        "[auth.openapi.bearer]\nbearer = \"{CALLER}\"\n\n[auth.openapi.operator]\nbearer = \"{TOKEN}\"\n\n\
         [checks]\npositive_data_acceptance.expected-statuses = [\"2xx\", 401, 404, 422]\n"
    );
    every_answer_conforms(durable.relay(), &settings).await;
}
