//! schemathesis, an independent test driver, against the running relay: it makes valid and invalid requests from
//! `/openapi.json`, and checks every answer against it.
//!
//! Its seed is fixed. The sandbox answers every request of the relay, so a 5xx of the relay is a fault.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::json;

use crate::harness::{App, Durable, Relay, TOKEN, at_last, customer};

/// Random requests for each operation, beside the systematic ones: what a few seconds allow.
const EXAMPLES: &str = "10";

/// The token of a caller.
const CALLER: &str = "t0ken-of-a-caller";

/// Tells schemathesis how customers become lines. What is no list of customers is sent as no customer either.
const HOOKS: &str = r#"import json
import schemathesis

@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    items = value if isinstance(value, list) else [None]
    return "".join(json.dumps(item) + "\n" for item in items).encode()
"#;

/// The program that `tests/tools/schemathesis` installs.
fn schemathesis() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of what is built");
    let program = target.join("tools/schemathesis/bin/schemathesis");
    assert!(program.exists(), "schemathesis is missing: run tests/tools/schemathesis");
    program
}

/// A run. Dropping this ends it.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it to its end, with these settings for schemathesis.
async fn every_answer_conforms(relay: &Relay, settings: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let printed = directory.path().join("printed");
    fs::write(directory.path().join("hooks.py"), HOOKS).expect("a file");
    let settings = format!("hooks = \"./hooks.py\"\n\n{settings}");
    fs::write(directory.path().join("schemathesis.toml"), settings).expect("a file");
    let output = File::create(&printed).expect("a file");
    let run = Command::new(schemathesis())
        .args(["run", &relay.url("/openapi.json"), "--seed", "4", "--max-examples", EXAMPLES, "--continue-on-failure"])
        // A slow machine is not a failure.
        .args(["--suppress-health-check", "all", "--request-timeout", "60", "--warnings", "off"])
        // It writes its findings to its working directory.
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
    // Without RELAY_ADMIN_TOKEN the operators' paths answer 404 to every method, which `openapi.rs` tests. The links of the
    // document are between those paths.
    let settings =
        "[[operations]]\ninclude-tag = \"Operators\"\nenabled = false\n\n[phases.stateful]\nenabled = false\n";
    every_answer_conforms(app.relay(), settings).await;
}

/// A second replay with a pace is 503 while one is in progress. A stream of events has no end to wait for.
///
/// A deletion of dead letters must say which are meant, which the document cannot say in a schema: 400 otherwise.
const EXCEPTIONS: &str = r#"[[operations]]
include-path = "/dead-letters"
include-method = "DELETE"

[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 422]

[[operations]]
include-path = "/status/events"
enabled = false

[[operations]]
include-path = "/dead-letters/replay"

[operations.checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
positive_data_acceptance.expected-statuses = ["2xx", 401, 404, 422, 503]
"#;

#[tokio::test]
async fn a_relay_with_an_outbox_operators_and_tokens_answers_as_it_says() {
    let durable = Durable::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", CALLER)]).await;
    // Dead letters for the requests that name one.
    durable.segment().fail(json!({"poisonUserIds": ["c-bad"]})).await;
    for _ in 0..5 {
        let bad = customer("c-bad").to_string();
        let authorization = format!("Bearer {CALLER}");
        let answer = durable.post_with(&[("prefer", "wait=9"), ("authorization", &authorization)], bad).await;
        answer.assert_failed(422, "segment_rejected");
    }
    // The same keys come again and again, and a repeated key with another payload is refused.
    let settings = format!(
        "[auth.openapi.bearer]\nbearer = \"{CALLER}\"\n\n[auth.openapi.operator]\nbearer = \"{TOKEN}\"\n\n\
         [checks]\npositive_data_acceptance.expected-statuses = [\"2xx\", 401, 404, 422]\n\n{EXCEPTIONS}"
    );
    every_answer_conforms(durable.relay(), &settings).await;
}
