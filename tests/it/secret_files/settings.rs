//! The four settings that may come from a file.

use std::os::unix::fs::symlink;

use serde_json::Value;

use super::Files;
use crate::harness::{Process, Relay, Segment, TOKEN, WRITE_KEY, ada, eventually};

const NAMES: [&str; 4] =
    ["SEGMENT_WRITE_KEY_FILE", "RELAY_AUTH_SECRETS_FILE", "RELAY_ADMIN_TOKEN_FILE", "RELAY_OUTBOX_URL_FILE"];

/// Nothing listens there.
const NOWHERE: (&str, &str) = ("SEGMENT_ENDPOINT", "http://127.0.0.1:9");

async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut process = Process::start(arguments, settings);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}

/// What each of the four holds where it is right.
fn right(files: &Files, name: &str) -> String {
    match name {
        "SEGMENT_WRITE_KEY_FILE" => WRITE_KEY.to_owned(),
        "RELAY_AUTH_SECRETS_FILE" => "bearer-token-of-a-sender".to_owned(),
        "RELAY_ADMIN_TOKEN_FILE" => TOKEN.to_owned(),
        _ => format!("sqlite://{}", files.path("outbox.db").display()),
    }
}

#[tokio::test]
async fn each_secret_may_come_from_a_file_whose_last_newline_does_not_count() {
    let (segment, files) = (Segment::start().await, Files::new());
    // Kubernetes makes a directory of links to links.
    std::fs::create_dir(files.path("..data")).unwrap();
    let mut settings = vec![("RELAY_AUTH", "bearer".to_owned()), ("SEGMENT_ENDPOINT", segment.url().to_owned())];
    for (name, newline) in NAMES.into_iter().zip(["", "\n", "\r\n", "\n"]) {
        let target = format!("..data/{name}");
        files.write(&target, format!("{}{newline}", right(&files, name)));
        symlink(&target, files.path(name)).unwrap();
        settings.push((name, files.path(name).display().to_string()));
    }
    // No setting from the harness beside its file.
    settings.push(("SEGMENT_WRITE_KEY", String::new()));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
    let relay = Relay::start(&settings).await;
    assert_eq!(relay.post(&ada()).await.status, 401);
    let token = ("authorization", "Bearer bearer-token-of-a-sender");
    assert!(relay.post_with(&[token], ada().to_string()).await.is_stored());
    eventually(async || !segment.received().await.is_empty()).await;
    assert_eq!(segment.requests().await[0]["envelope"]["writeKey"], WRITE_KEY);

    let address = relay.address().to_string();
    let token = files.path("RELAY_ADMIN_TOKEN_FILE").display().to_string();
    let operator = [("RELAY_LISTEN", &*address), ("RELAY_ADMIN_TOKEN_FILE", &token)];
    let (code, stdout, stderr) = run(&["dead-letters", "list"], &operator).await;
    assert_eq!(code, Some(0), "{stdout:?} {stderr:?}");
    assert_eq!(run(&["healthcheck"], &[&settings[..], &[("RELAY_LISTEN", &address)]].concat()).await.0, Some(0));
    let (code, _, stderr) = run(&["check"], &[&settings[..], &[("RELAY_LISTEN", "127.0.0.1:0")]].concat()).await;
    assert_eq!(code, Some(0), "{stderr:?}");
}

#[tokio::test]
async fn a_file_that_is_wrong_stops_the_start_and_its_content_is_not_shown() {
    let files = Files::new();
    let directory = files.path("directory").display().to_string();
    std::fs::create_dir(&directory).unwrap();
    let pipe = files.path("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let wrong = [
        ("missing", files.path("s3cret-missing").display().to_string()),
        ("empty", files.write("empty", "")),
        ("only a newline", files.write("newline", "\n")),
        ("not UTF-8", files.write("bytes", b"s3cret\xff-of-someone-else")),
        ("too large", files.write("large", "s3cret".repeat(100_000))),
        ("two lines", files.write("lines", "s3cret-s3cret-s3cret\ns3cret-s3cret-s3cret\n")),
        ("a directory", directory),
        ("a pipe", pipe),
    ];
    for name in NAMES {
        for (what, path) in &wrong {
            let mut settings = vec![("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
            settings.retain(|(set, _)| !name.starts_with(set));
            settings.push((name, path));
            if name == "RELAY_AUTH_SECRETS_FILE" {
                settings.push(("RELAY_AUTH", "hmac"));
            }
            let (code, stdout, stderr) = run(&["serve"], &settings).await;
            assert_eq!(code, Some(2), "{name} {what}: {stdout:?} {stderr:?}");
            assert!(stderr.len() == 1 && stderr[0].starts_with(&format!("{name}: ")), "{what}: {stderr:?}");
            assert!(!stderr[0].contains("s3cret"), "{what}: {stderr:?}");
        }
    }
}

#[tokio::test]
async fn a_secret_with_a_value_and_a_file_stops_the_start_and_a_misspelt_name_gets_a_suggestion() {
    let files = Files::new();
    for name in NAMES {
        let (plain, path) = (name.trim_end_matches("_FILE"), files.write(name, right(&files, name)));
        let value = right(&files, name);
        let mut settings =
            vec![("SEGMENT_WRITE_KEY", WRITE_KEY), (plain, &*value), (name, &path), ("RELAY_AUTH", "bearer"), NOWHERE];
        settings.push(("RELAY_AUTH_SECRETS", "bearer-token-of-a-sender"));
        let (code, _, stderr) = run(&["check"], &settings).await;
        assert_eq!(code, Some(2), "{stderr:?}");
        assert!(stderr.len() == 1 && stderr[0].starts_with(&format!("{name}: ")), "{stderr:?}");
        assert!(stderr[0].contains(plain) && !stderr[0].contains(&value), "{stderr:?}");
    }
    let key = ("SEGMENT_WRITE_KEY", WRITE_KEY);
    for (misspelt, meant) in [
        ("SEGMENT_WRITEKEY_FILE", "SEGMENT_WRITE_KEY_FILE"),
        ("RELAY_ADMIN_TOKENS_FILE", "RELAY_ADMIN_TOKEN_FILE"),
        ("RELAY_AUTH_SECRET_FILE", "RELAY_AUTH_SECRETS_FILE"),
    ] {
        let (code, _, stderr) = run(&["check"], &[key, NOWHERE, (misspelt, "/nowhere")]).await;
        assert_eq!(code, Some(2));
        assert!(stderr[0].ends_with(&format!("is it {meant}?")), "{stderr:?}");
    }
    // The other settings come from no file.
    let (code, _, stderr) = run(&["check"], &[key, NOWHERE, ("SEGMENT_ENDPOINT_FILE", "/nowhere")]).await;
    assert_eq!(code, Some(2));
    assert!(stderr[0].starts_with("SEGMENT_ENDPOINT_FILE: no such setting"), "{stderr:?}");
}

#[tokio::test]
async fn secrets_that_have_no_effect_are_refused_from_a_file_too() {
    let files = Files::new();
    let secrets = files.write("secrets", "bearer-token-of-a-sender");
    let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_AUTH_SECRETS_FILE", &*secrets)];
    let (code, _, stderr) = run(&["serve"], &settings).await;
    assert_eq!(code, Some(2));
    let expected: Value = "RELAY_AUTH_SECRETS_FILE: not used while RELAY_AUTH is none".into();
    assert_eq!(stderr, [expected.as_str().unwrap()]);
}
