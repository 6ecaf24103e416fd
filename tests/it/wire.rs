//! What goes over the wire, field by field, against what Segment's own SDK sends for the same customer.
//!
//! The SDK is the one pinned in `tests/sdk/package.json`, run by node. Where node or npm cannot run, this fails:
//! `tests/tools/node` sets them up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::harness::{App, WRITE_KEY, ada};

/// Headers that may differ. Every other one has to be there on both sides, with the same value.
const MAY_DIFFER: [(&str, &str); 7] = [
    ("user-agent", "says who speaks"),
    ("content-length", "the names in context.library and the messageId have other lengths"),
    ("accept", "node's fetch adds it; answers are the same without"),
    ("accept-encoding", "node's fetch adds it; answers have under a hundred bytes"),
    ("accept-language", "node's fetch adds it; answers have no language"),
    ("connection", "keep-alive is what HTTP/1.1 means without it"),
    ("sec-fetch-mode", "node's fetch adds it, as browsers do"),
];

/// Segment's limit for a messageId, in characters.
const MAX_MESSAGE_ID: usize = 99;

#[tokio::test]
async fn a_customer_looks_as_if_the_official_sdk_had_sent_it() {
    let mut customer = ada();
    customer["traits"]["title"] = Value::Null;
    customer["traits"]["phone"] = "".into();
    customer["traits"]["points"] = 1042.into();
    customer["traits"]["vip"] = true.into();
    customer["traits"]["city"] = "Zürich \u{1f3d4} \"quoted\"\n".into();
    compare(&customer).await;
}

#[tokio::test]
async fn a_customer_with_every_optional_field_does_too() {
    let mut customer = ada();
    customer["timestamp"] = "2024-02-29T23:59:59.123Z".into();
    customer["messageId"] = "m-1".into();
    customer["anonymousId"] = "a-1".into();
    customer["context"] = json!({"ip": "192.0.2.7", "active": false});
    customer["integrations"] = json!({"All": true, "Mixpanel": false});
    compare(&customer).await;
}

/// Sends the customer through the SDK and through the relay, and compares what arrived.
async fn compare(customer: &Value) {
    let sdk = installed_sdk();
    let app = App::start().await;
    run(Command::new("node")
        .current_dir(sdk)
        .args(["identify.mjs", app.segment().url(), WRITE_KEY])
        .arg(customer.to_string()));
    let answer = app.post(customer).await;
    assert!(answer.is_accepted(), "{answer:?}");

    let (requests, lines) = (app.segment().requests().await, app.segment().received_lines().await);
    let ([by_sdk, by_relay], [sdk_line, relay_line]) = (&requests[..], &lines[..]) else {
        panic!("one request with one call from each: {requests:?} {lines:?}");
    };
    let by_sdk = sent(by_sdk, sdk_line);
    for (part, by_relay) in sent(by_relay, relay_line).as_object().unwrap() {
        assert_eq!(*by_relay, by_sdk[part], "{part}; left: the relay, right: the SDK");
    }
}

/// What was sent, with all that differs from call to call replaced by its format.
fn sent(request: &Value, line: &str) -> Value {
    let mut call: Map<String, Value> = serde_json::from_str(line).unwrap();
    // The SDK's report about its own runtime, for Segment's statistics about SDKs.
    call.remove("_metadata");
    // Before any of them is replaced: JSON objects have no order, but looking alike is what this is about.
    let keys = keys_in_order(&call, line);
    for (name, format) in [("timestamp", time as fn(&Value) -> Value), ("messageId", message_id)] {
        call[name] = format(&call[name]);
    }
    // Names whoever made the call: the relay names itself.
    let library = &mut call["context"]["library"];
    library["name"] = text(&library["name"]);
    library["version"] = version(&library["version"]);
    let mut envelope = request["envelope"].clone();
    envelope["sentAt"] = time(&envelope["sentAt"]);
    json!({
        "path": request["path"],
        "status": request["status"],
        "calls": request["calls"],
        "headers": headers(&request["headers"]),
        "envelope": envelope,
        "keys": keys,
        "call": call,
    })
}

fn headers(all: &Value) -> Map<String, Value> {
    let mut headers = all.as_object().unwrap().clone();
    headers.retain(|name, _| MAY_DIFFER.iter().all(|(differs, _why)| name != differs));
    assert!(headers["authorization"].as_str().unwrap().starts_with("Basic "), "{headers:?}");
    headers
}

/// No trait of our customers has the name of a field.
fn keys_in_order(call: &Map<String, Value>, line: &str) -> Vec<String> {
    let mut keys: Vec<_> = call.keys().cloned().collect();
    keys.sort_by_key(|key| line.find(&format!("\"{key}\":")));
    keys
}

fn time(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    let is_exact = text.parse::<Timestamp>().is_ok_and(|time| format!("{time:.3}") == text);
    if is_exact { "UTC with milliseconds and Z".into() } else { value.clone() }
}

fn message_id(value: &Value) -> Value {
    let length = value.as_str().unwrap_or_default().chars().count();
    if (1..=MAX_MESSAGE_ID).contains(&length) { "1 to 99 characters".into() } else { value.clone() }
}

fn text(value: &Value) -> Value {
    if value.as_str().is_some_and(|text| !text.is_empty()) { "text".into() } else { value.clone() }
}

fn version(value: &Value) -> Value {
    let parts: Vec<_> = value.as_str().unwrap_or_default().split('.').map(str::parse::<u32>).collect();
    if parts.len() == 3 && parts.iter().all(Result::is_ok) { "x.y.z".into() } else { value.clone() }
}

/// Where the SDK and `identify.mjs` are; installed once for each version.
pub fn installed_sdk() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
        let package: Value = serde_json::from_slice(&fs::read(source.join("package.json")).unwrap()).unwrap();
        let version = package["dependencies"]["@segment/analytics-node"].as_str().unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let installed = target.join(format!("sdk-{version}"));
        // Other processes may do the same now: each makes its own aside and moves it to its place when it is complete.
        let aside = target.join(format!("sdk-of-{}", std::process::id()));
        fs::create_dir_all(&aside).unwrap();
        if !installed.exists() {
            fs::copy(source.join("package.json"), aside.join("package.json")).unwrap();
            let install = ["install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
            run(Command::new("npm").current_dir(&aside).args(install));
            // It fails if another one is there already, which is as good.
            let _ = fs::rename(&aside, &installed);
            fs::create_dir_all(&aside).unwrap();
        }
        fs::copy(source.join("identify.mjs"), aside.join("identify.mjs")).unwrap();
        fs::rename(aside.join("identify.mjs"), installed.join("identify.mjs")).unwrap();
        fs::remove_dir_all(&aside).unwrap();
        installed
    })
}

fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    let ended = command
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot run ({error}); tests/tools/node sets up node and npm"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success(),
        "{program} failed ({}); tests/tools/node sets it up. It said: {said}",
        ended.status
    );
}
