//! SIGHUP reads the secrets that come from files again: all of them, or none.

use reqwest::Method;
use serde_json::{Value, json};

use super::Files;
use crate::harness::{Answer, Durable, Process, Relay, TOKEN, WRITE_KEY, ada, eventually};

const READ: &str = "the secrets were read again";
const NOT_READ: &str = "the secrets could not be read again; those of before stay in use";

/// A certificate authority of which nobody has the key.
const AUTHORITY: &str = include_str!("authority.pem");

const NEW_KEY: &str = "wk-that-comes-after-the-old-one";
const NEW_TOKEN: &str = "t0ken-of-the-next-operator";

fn lines(relay: &Relay, message: &str) -> Vec<Value> {
    relay.log().into_iter().filter(|line| line["message"] == message).collect()
}

/// Sends SIGHUP and waits for what becomes of it.
async fn read_again(relay: &Relay, message: &str) -> Value {
    let before = lines(relay, message).len();
    relay.process().signal("HUP");
    eventually(async || lines(relay, message).len() > before).await;
    lines(relay, message).remove(before)
}

/// A relay whose write key, sender's token and admin token come from files.
async fn with_files(files: &Files) -> Durable {
    let mut durable = Durable::prepared(&[("RELAY_AUTH", "bearer"), ("SEGMENT_WRITE_KEY", "")]).await;
    durable.unset("RELAY_ADMIN_TOKEN");
    durable.set("SEGMENT_WRITE_KEY_FILE", &files.write("key", format!("{WRITE_KEY}\n")));
    durable.set("RELAY_AUTH_SECRETS_FILE", &files.write("secrets", "sender-secret-of-yesterday\n"));
    durable.set("RELAY_ADMIN_TOKEN_FILE", &files.write("token", TOKEN));
    durable.start_relay().await;
    durable
}

async fn post(relay: &Relay, secret: &str, key: &str) -> Answer {
    let secret = format!("Bearer {secret}");
    relay.post_with(&[("authorization", &secret), ("idempotency-key", key)], ada().to_string()).await
}

async fn status(relay: &Relay, token: &str) -> u16 {
    relay.request(Method::GET, "/status").bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_hangup_reads_all_secrets_again_and_stored_calls_go_out_under_the_new_write_key() {
    let files = Files::new();
    let durable = with_files(&files).await;
    let (relay, segment) = (durable.relay(), durable.segment());
    segment.fail(json!({"status": 503})).await;
    let first = post(relay, "sender-secret-of-yesterday", "k-1").await;
    assert!(first.is_stored(), "{first:?}");
    assert!(post(relay, "sender-secret-of-yesterday", "k-1").await.is_replayed());
    eventually(async || !segment.requests().await.is_empty()).await;

    files.write("key", format!("{NEW_KEY}\r\n"));
    files.write("secrets", "sender-secret-of-today");
    files.write("token", format!("{NEW_TOKEN}\n"));
    let line = read_again(relay, READ).await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["names"], "SEGMENT_WRITE_KEY, RELAY_AUTH_SECRETS, RELAY_ADMIN_TOKEN");

    segment.reset().await;
    eventually(async || segment.received().await.len() == 1).await;
    assert_eq!(segment.received().await[0]["messageId"], first.message_id());
    let request = segment.requests().await.remove(0);
    assert_eq!(request["envelope"]["writeKey"], NEW_KEY);
    let authorization = request["headers"]["authorization"].as_str().unwrap();
    let basic = data_encoding::BASE64.encode(format!("{NEW_KEY}:").as_bytes());
    assert_eq!(authorization, format!("Basic {basic}"));

    // Keys of headers are forgotten: the message ids are made with the new write key.
    let again = post(relay, "sender-secret-of-today", "k-1").await;
    assert!(again.is_stored() && !again.is_replayed() && again.message_id() != first.message_id(), "{again:?}");
    assert_eq!(post(relay, "sender-secret-of-yesterday", "k-2").await.status, 401);
    assert_eq!((status(relay, TOKEN).await, status(relay, NEW_TOKEN).await), (401, 200));
    let printed = relay.process().stdout().concat();
    for secret in [WRITE_KEY, NEW_KEY, TOKEN, NEW_TOKEN, "sender-secret"] {
        assert!(!printed.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn if_one_secret_is_wrong_none_is_taken_and_a_line_names_the_variable() {
    let files = Files::new();
    let durable = with_files(&files).await;
    let relay = durable.relay();
    files.write("key", NEW_KEY);
    files.write("secrets", "sender-secret-of-today");
    for wrong in ["", "with a blank in the midst", "\u{0}"] {
        files.write("token", wrong);
        let line = read_again(relay, NOT_READ).await;
        assert_eq!(line["level"], "ERROR");
        assert!(line["problems"].as_str().unwrap().starts_with("RELAY_ADMIN_TOKEN_FILE: "), "{line}");
        assert_eq!(status(relay, TOKEN).await, 200);
        assert_eq!(post(relay, "sender-secret-of-today", "k-1").await.status, 401);
        assert!(post(relay, "sender-secret-of-yesterday", "k-1").await.is_stored());
    }
    eventually(async || !durable.segment().received().await.is_empty()).await;
    assert_eq!(durable.segment().requests().await[0]["envelope"]["writeKey"], WRITE_KEY);
    // The outbox's address is not among them, whatever became of its file.
    std::fs::remove_file(files.path("token")).unwrap();
    read_again(relay, NOT_READ).await;
    files.write("token", NEW_TOKEN);
    read_again(relay, READ).await;
    assert_eq!(status(relay, NEW_TOKEN).await, 200);
}

#[tokio::test]
async fn a_hangup_does_not_read_the_outboxs_address_again() {
    let files = Files::new();
    let mut durable = Durable::prepared(&[]).await;
    let outbox = format!("sqlite://{}", durable.file().display());
    durable.unset("RELAY_OUTBOX_URL");
    durable.unset("RELAY_ADMIN_TOKEN");
    durable.set("RELAY_OUTBOX_URL_FILE", &files.write("outbox", outbox));
    durable.set("RELAY_ADMIN_TOKEN_FILE", &files.write("token", TOKEN));
    durable.start_relay().await;
    std::fs::remove_file(files.path("outbox")).unwrap();
    files.write("token", NEW_TOKEN);
    let line = read_again(durable.relay(), READ).await;
    assert_eq!(line["names"], "RELAY_ADMIN_TOKEN");
    assert_eq!(status(durable.relay(), NEW_TOKEN).await, 200);
    assert!(durable.post(&ada()).await.is_stored());
}

#[tokio::test]
async fn a_hangup_without_files_or_while_the_relay_stops_changes_nothing() {
    let mut durable = Durable::with(&[("RELAY_SHUTDOWN_DELAY", "2s")]).await;
    read_again(durable.relay(), "no secret comes from a file, so none was read again").await;
    assert!(durable.post(&ada()).await.is_stored());
    durable.relay().process().signal("TERM");
    eventually(async || !lines(durable.relay(), "stopping").is_empty()).await;
    for _ in 0..5 {
        durable.relay().process().signal("HUP");
    }
    assert_eq!(durable.ended().await, Some(0));
}

#[tokio::test]
async fn a_hangup_in_the_first_moments_does_not_kill() {
    for _ in 0..10 {
        let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
        let mut process = Process::start(&["serve"], &settings);
        let status = format!("/proc/{}/status", process.id());
        // Bit 0 of the caught signals is SIGHUP.
        let is_caught = || {
            let status = std::fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & 1 == 1
        };
        eventually(async || is_caught()).await;
        process.signal("HUP");
        process.line(|line| line.contains("segment-relay serves").then_some(())).await;
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn a_hangup_stops_dev_and_the_sandbox_without_an_error() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    for (arguments, ready) in [
        (&["dev", "--sandbox-listen", "127.0.0.1:0", "--data", data][..], "segment-relay serves"),
        (&["sandbox", "--listen", "127.0.0.1:0"], "sandbox listening"),
    ] {
        let settings = [("RELAY_LISTEN", "127.0.0.1:0"), ("RELAY_SHUTDOWN_DELAY", "0s")];
        let mut process = Process::start(arguments, &settings[..if arguments[0] == "dev" { 2 } else { 0 }]);
        process.line(|line| line.contains(ready).then_some(())).await;
        process.signal("HUP");
        assert_eq!(process.exit_code().await, Some(0), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_hangup_does_not_read_the_certificates_again() {
    let files = Files::new();
    let file = files.write("ca.pem", AUTHORITY);
    std::fs::create_dir(files.path("certificates")).unwrap();
    files.write("certificates/ca.pem", AUTHORITY);
    let directory = files.path("certificates").display().to_string();
    let token = files.write("token", TOKEN);
    let mut settings = vec![("SEGMENT_ENDPOINT", "https://localhost:1"), ("RELAY_ADMIN_TOKEN_FILE", &*token)];
    settings.extend([("SSL_CERT_FILE", &*file), ("SSL_CERT_DIR", &*directory)]);
    let relay = Relay::start(&settings).await;
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    files.write("token", NEW_TOKEN);
    let line = read_again(&relay, READ).await;
    assert_eq!(line["names"], "RELAY_ADMIN_TOKEN");
    assert_eq!(status(&relay, NEW_TOKEN).await, 200);
}
