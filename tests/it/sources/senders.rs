//! Senders' own libraries: what they sign is accepted, and what the relay accepts they accept, too. One byte makes the
//! difference to both.
//!
//! `tests/senders` holds the programs that call the libraries, `tests/tools/senders` installs them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::harness::sign::{Webhook, hmac_base64, hmac_hex, now, webhook_secret};
use crate::harness::{Answer, App};
use reqwest::Method;

/// The key of those who sign with a text.
const TEXT_SECRET: &str = "the-s3cret-of-a-sender";

/// A customer: without a filter that is what a source takes.
const BODY: &str = r#"{"userId":"c-1042","traits":{"email":"maren.okonjo@mail.example","name":"Maren"}}"#;

/// Where the sender believes that it sends to.
const URL: &str = "https://relay.example/sources/test?shop=1";

/// What a sender's library can do.
#[derive(Clone, Copy)]
enum Library {
    /// It signs.
    Signs,
    /// It only verifies: the test signs.
    Verifies(fn(secret: &str) -> Map<String, Value>),
}

/// Presets whose senders have a library for node.
const NODE: [(&str, Library); 12] = [
    ("stripe", Library::Signs),
    ("svix", Library::Signs),
    ("standard-webhooks", Library::Signs),
    ("github", Library::Signs),
    ("hubspot-v1", Library::Signs),
    ("hubspot-v2", Library::Signs),
    ("hubspot-v3", Library::Signs),
    ("workos", Library::Signs),
    ("clerk", Library::Verifies(clerk)),
    ("shopify", Library::Verifies(shopify)),
    ("paddle", Library::Verifies(paddle)),
    ("webflow", Library::Verifies(webflow)),
];

/// Presets whose senders have a library for python.
const PYTHON: [(&str, Library); 3] = [
    ("standard-webhooks", Library::Signs),
    ("slack", Library::Signs),
    (
        "square",
        Library::Verifies(|secret| {
            headers(&[("x-square-hmacsha256-signature", &hmac_base64(secret, format!("{URL}{BODY}")))])
        }),
    ),
];

fn clerk(secret: &str) -> Map<String, Value> {
    headers(&Webhook::sign(secret, "msg_2invented0003", BODY).svix_headers())
}

fn shopify(secret: &str) -> Map<String, Value> {
    headers(&[
        ("x-shopify-hmac-sha256", &hmac_base64(secret, BODY)),
        // Its library asks for these, too.
        ("x-shopify-topic", "customers/update"),
        ("x-shopify-shop-domain", "invented.myshopify.com"),
        ("x-shopify-api-version", "2026-10"),
        ("x-shopify-webhook-id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
    ])
}

fn paddle(secret: &str) -> Map<String, Value> {
    // Its library refuses what is older than 5 s, which may pass here, and takes what is from the future.
    let timestamp = now() + 60;
    let signature = hmac_hex(secret, format!("{timestamp}:{BODY}"));
    headers(&[("paddle-signature", &format!("ts={timestamp};h1={signature}"))])
}

fn webflow(secret: &str) -> Map<String, Value> {
    let timestamp = format!("{}137", now());
    let signature = hmac_hex(secret, format!("{timestamp}:{BODY}"));
    headers(&[("x-webflow-timestamp", &timestamp), ("x-webflow-signature", &signature)])
}

fn headers(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

/// The secret of a preset's source.
fn secret(preset: &str) -> String {
    match preset {
        "svix" | "clerk" | "standard-webhooks" => webhook_secret(b"a key of twenty-four byt"),
        _ => TEXT_SECRET.to_owned(),
    }
}

/// The same text with another character at this place.
fn with_another(text: &str, place: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[place] = if bytes[place] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).expect("ASCII")
}

#[tokio::test]
async fn the_relay_and_the_libraries_for_node_agree_about_every_byte() {
    agree("node", "senders.mjs", &NODE).await;
}

#[tokio::test]
async fn the_relay_and_the_libraries_for_python_agree_about_every_byte() {
    agree("python/bin/python", "senders.py", &PYTHON).await;
}

async fn agree(program: &str, script: &str, presets: &[(&str, Library)]) {
    let app = app_with(presets).await;
    let changed_body = with_another(BODY, BODY.find("maren").expect("a name"));
    let mut jobs = Vec::new();
    for (preset, library) in presets {
        let job = json!({"do": "sign", "sender": preset, "secret": secret(preset), "url": URL, "body": BODY});
        let Library::Verifies(sign) = library else {
            jobs.push(job);
            continue;
        };
        for body in [BODY, &changed_body] {
            let mut job = job.clone();
            job["do"] = "verify".into();
            job["body"] = body.into();
            job["headers"] = sign(&secret(preset)).into();
            jobs.push(job);
        }
    }
    let results = run(program, script, &jobs);
    for (job, result) in jobs.iter().zip(&results) {
        let preset = job["sender"].as_str().expect("a preset");
        let is_verified = job["do"] == "verify";
        if is_verified {
            assert_eq!(
                *result,
                job["body"] == BODY,
                "{preset}: its library, of a body that is signed, and of another one"
            );
        }
        let signed = if is_verified { &job["headers"] } else { result }.as_object().expect("headers");
        let answer = post(&app, preset, signed, BODY).await;
        assert_eq!((answer.status, &answer.body["success"]), (200, &true.into()), "{preset}: {answer:?}");
        let answer = post(&app, preset, signed, &changed_body).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{preset}, another body: {answer:?}");
        let (name, value) = signed.iter().find(|(_, value)| is_signature(value)).expect("a signature");
        let value = value.as_str().expect("text");
        // The last character of base64 may hold bits that do not count.
        let changed = with_another(value, value.len() - 8);
        let mut signed = signed.clone();
        signed.insert(name.clone(), changed.into());
        let answer = post(&app, preset, &signed, BODY).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{preset}, another {name}: {answer:?}");
    }
}

/// A header that is as long as a signature.
fn is_signature(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() > 40)
}

/// A relay with a source of each preset, under its name.
async fn app_with(presets: &[(&str, Library)]) -> App {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sources.toml");
    let mut sources = String::new();
    for (preset, _) in presets {
        let variable = if secret(preset) == TEXT_SECRET { "TEXT_SECRET" } else { "WEBHOOK_SECRET" };
        let url = match *preset {
            "hubspot-v2" | "hubspot-v3" | "square" => format!("url = '{URL}'\n"),
            _ => String::new(),
        };
        sources += &format!("[{preset}]\nverify = '{preset}'\nsecrets = ['env:{variable}']\n{url}");
    }
    fs::write(&file, sources).expect("a file");
    let settings = [
        ("RELAY_SOURCES", file.to_str().expect("a path")),
        ("TEXT_SECRET", TEXT_SECRET),
        ("WEBHOOK_SECRET", &secret("svix")),
    ];
    App::with(&settings).await
}

async fn post(app: &App, source: &str, headers: &Map<String, Value>, body: &str) -> Answer {
    let mut request = app.relay().request(Method::POST, &format!("/sources/{source}")).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(name, value.as_str().expect("text"));
    }
    Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
}

/// The results of these jobs.
fn run(program: &str, script: &str, jobs: &[Value]) -> Vec<Value> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of what is built");
    let home = target.join("tools/senders");
    assert!(home.join("installed").exists(), "the senders' libraries are missing: run tests/tools/senders");
    let program = if program.contains('/') { home.join(program) } else { program.into() };
    // node looks for libraries from where a program is.
    let place = home.join(script);
    fs::copy(scripts.join(script), &place).expect("a copy");
    let mut command = Command::new(program);
    let mut child = command.arg(place).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program");
    let input = serde_json::to_vec(jobs).expect("JSON");
    child.stdin.take().expect("stdin").write_all(&input).expect("a program that reads");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("an array of results")
}
