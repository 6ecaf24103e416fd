//! `/sources/{name}` of the built binary: events with real filters, kept events and their replay, SIGHUP, and strangers meanwhile.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{Answer, App, Durable, PATIENCE, Process, Relay, WRITE_KEY, customer, eventually};

/// Makes a customer of each user in an event.
const USERS: &str = ".users[] | {userId: .id, traits: {plan: .plan}}";

/// A source for everyone, with this filter and these further lines.
fn shop(filter: &str, further: &str) -> String {
    format!("[shop]\nverify = \"none\"\nmap = '{filter}'\nkey = [\"body:/event\"]\n{further}\n")
}

/// A file of sources, which tests change.
struct File(TempDir);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(self.0.path().join("sources.toml"), text).unwrap();
    }

    fn path(&self) -> String {
        self.0.path().join("sources.toml").display().to_string()
    }

    /// A relay with an outbox and these sources.
    async fn relay(&self) -> Durable {
        Durable::with(&[("RELAY_SOURCES", &self.path())]).await
    }
}

async fn post(relay: &Relay, path: &str, body: impl ToString) -> Answer {
    Answer::of(relay.request(Method::POST, path).body(body.to_string()).send().await.unwrap()).await.unwrap()
}

fn event(id: &str, users: &[&str]) -> Value {
    let users: Vec<_> = users.iter().map(|user| json!({"id": user, "plan": "pro"})).collect();
    json!({"event": id, "users": users})
}

/// The users whom Segment got, sorted.
async fn users(durable: &Durable) -> Vec<String> {
    let received = durable.segment().received().await;
    let mut users: Vec<_> = received.iter().map(|call| call["userId"].as_str().unwrap().to_owned()).collect();
    users.sort();
    users
}

/// Sends SIGHUP, and waits until the log says that it was heard.
async fn hang_up(durable: &Durable) {
    let heard = |relay: &Relay| relay.log().iter().filter(|line| is_about_reading(line)).count();
    let before = heard(durable.relay());
    durable.relay().process().signal("HUP");
    eventually(async || heard(durable.relay()) > before).await;
}

fn is_about_reading(line: &Value) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains("read again"))
}

async fn events(durable: &Durable, outcome: &str) -> f64 {
    let series = format!("segment_relay_source_events_total{{outcome=\"{outcome}\",source=\"shop\"}}");
    durable.relay().metric(&series).await
}

#[tokio::test]
async fn an_event_becomes_none_one_or_many_stored_customers_and_a_repeat_makes_no_second_call() {
    let file = File::new(&shop(USERS, ""));
    let durable = file.relay().await;
    let first = post(durable.relay(), "/sources/shop", event("e-1", &["c-1", "c-2"])).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.body["results"].as_array().unwrap().len(), 2);
    let repeat = post(durable.relay(), "/sources/shop", event("e-1", &["c-1", "c-2"])).await;
    assert_eq!((repeat.status, &repeat.body), (202, &first.body));
    assert!(repeat.is_replayed());
    let none = post(durable.relay(), "/sources/shop/", event("e-2", &[])).await;
    assert_eq!((none.status, none.body), (200, json!({"success": true, "customers": 0})));
    assert_eq!(post(durable.relay(), "/sources/nobody", event("e-3", &["c-3"])).await.status, 404);
    eventually(async || users(&durable).await == ["c-1", "c-2"]).await;
    assert_eq!((events(&durable, "mapped").await, events(&durable, "none").await), (2.0, 1.0));
    let status = durable.operate(Method::GET, "/status").await.body;
    let source = &status["sources"][0];
    assert_eq!((&source["name"], &source["events"]["mapped"]), (&json!("shop"), &json!(2)));
    assert_eq!(status["outbox"]["unconfiguredSources"], json!([]));
}

#[tokio::test]
async fn what_a_filter_fails_on_is_kept_and_goes_its_way_after_the_filter_was_mended() {
    let file = File::new(&shop(".users[] | {userId: .id, traits: .traits}", ""));
    let durable = file.relay().await;
    let kept = post(durable.relay(), "/sources/shop", event("e-1", &["c-1"])).await;
    assert_eq!((kept.status, kept.body), (202, json!({"success": true, "customers": 0, "kept": true})));
    post(durable.relay(), "/sources/shop", event("e-1", &["c-1"])).await;
    post(durable.relay(), "/sources/shop", "no json").await;
    let letters = durable.dead_letters().await;
    assert_eq!(letters.len(), 2, "a repeat is not kept again: {letters:?}");
    let (no_json, letter) = (&letters[0], &letters[1]);
    assert_eq!((&letter["why"], &letter["source"]), (&json!("unmapped"), &json!("shop")));
    assert_eq!(letter["event"], event("e-1", &["c-1"]).to_string());
    assert!(letter["reason"].as_str().unwrap().starts_with("/0/traits must be an object"), "{letter}");
    let replay = format!("/dead-letters/{}/replay", letter["id"]);
    let early = durable.operate(Method::POST, &replay).await;
    early.assert_failed(422, "filter_failed");
    assert!(early.message().contains("/0/traits must be an object"));
    file.write(&shop(USERS, ""));
    hang_up(&durable).await;
    let all = durable.operate(Method::POST, "/dead-letters/replay?why=unmapped").await;
    assert_eq!((all.status, all.body), (202, json!({"replayed": 1})));
    eventually(async || users(&durable).await == ["c-1"]).await;
    let left = durable.dead_letters().await;
    assert_eq!((left.len(), &left[0]["id"]), (1, &no_json["id"]));
    let repeat = post(durable.relay(), "/sources/shop", event("e-1", &["c-1"])).await;
    assert!(repeat.status == 202 && repeat.is_replayed(), "the sender's repeat is the same call: {repeat:?}");
    for line in durable.relay().log() {
        assert!(!line.to_string().contains("c-1") && !line.to_string().contains("must be an object"), "{line}");
    }
}

#[tokio::test]
async fn an_event_whose_filter_makes_nothing_today_is_no_dead_letter_after_a_replay() {
    let file = File::new(&shop("error", ""));
    let durable = file.relay().await;
    for number in 0..3 {
        post(durable.relay(), "/sources/shop", event(&format!("e-{number}"), &["c-1"])).await;
    }
    file.write(&shop("empty", ""));
    hang_up(&durable).await;
    let replayed = durable.operate(Method::POST, "/dead-letters/replay?perSecond=100").await;
    assert_eq!((replayed.status, replayed.body), (202, json!({"replayed": 3})));
    eventually(async || durable.dead_letters().await.is_empty()).await;
    assert_eq!(users(&durable).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_event_of_a_source_that_is_gone_stays_and_its_calls_wait() {
    let file = File::new(&shop("if .event == \"bad\" then error else .users[] | {userId: .id, traits: {}} end", ""));
    let durable = file.relay().await;
    durable.segment().fail(json!({"status": 503})).await;
    post(durable.relay(), "/sources/shop", event("bad", &["c-1"])).await;
    post(durable.relay(), "/sources/shop", event("good", &["c-2"])).await;
    file.write("# There is none.\n");
    hang_up(&durable).await;
    durable.segment().heal().await;
    assert_eq!(post(durable.relay(), "/sources/shop", event("more", &["c-3"])).await.status, 404);
    let replay = format!("/dead-letters/{}/replay", durable.dead_letters().await[0]["id"]);
    let answer = durable.operate(Method::POST, &replay).await;
    answer.assert_failed(422, "filter_failed");
    assert!(answer.message().contains("not configured"), "{}", answer.message());
    let status = durable.operate(Method::GET, "/status").await.body;
    let unconfigured = &status["outbox"]["unconfiguredSources"];
    assert_eq!((&unconfigured[0]["name"], &unconfigured[0]["calls"]), (&json!("shop"), &json!(1)));
    let outbox = format!("sqlite://{}", durable.file().display());
    let settings = [
        ("SEGMENT_WRITE_KEY", WRITE_KEY),
        ("SEGMENT_ENDPOINT", durable.segment().url()),
        ("RELAY_OUTBOX_URL", &*outbox),
        ("RELAY_SOURCES", &*file.path()),
        ("RELAY_LISTEN", "127.0.0.1:0"),
    ];
    let mut check = Process::start(&["check"], &settings);
    assert_eq!(check.exit_code().await, Some(0), "{:?}", check.stderr());
    let named = "outbox-sources  warning  the source shop is not configured; its waiting calls: 1, dead letters among the newest 1,000: 1";
    assert!(check.stdout().iter().any(|line| line == named), "{:?}", check.stdout());
    // A stranger's call passes, and the one of the source goes when it is configured again.
    durable.post(&customer("c-4")).await;
    eventually(async || users(&durable).await == ["c-4"]).await;
    file.write(&shop(USERS, ""));
    hang_up(&durable).await;
    assert_eq!(durable.operate(Method::POST, "/dead-letters/replay").await.body, json!({"replayed": 1}));
    eventually(async || users(&durable).await == ["c-1", "c-2", "c-4"]).await;
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_at_sighup_and_stops_the_start() {
    let file = File::new(&shop(USERS, ""));
    let durable = file.relay().await;
    for wrong in [shop("nosuch", ""), shop(USERS, "colour = \"red\""), "[[".to_owned()] {
        file.write(&wrong);
        hang_up(&durable).await;
        let log = durable.relay().log();
        let line = log.iter().rev().find(|line| is_about_reading(line)).unwrap();
        assert_eq!(line["level"], "ERROR", "{line}");
        let answer = post(durable.relay(), "/sources/shop", event("e-1", &["c-1"])).await;
        assert_eq!(answer.status, 202, "{wrong}");
        let mut process = Process::start(
            &["serve"],
            &[("SEGMENT_WRITE_KEY", "dev"), ("RELAY_SOURCES", &file.path()), ("RELAY_LISTEN", "127.0.0.1:0")],
        );
        assert_eq!(process.exit_code().await, Some(2), "{wrong}");
        assert!(process.stderr().iter().any(|line| line.contains("sources.toml")), "{:?}", process.stderr());
    }
}

#[tokio::test]
async fn where_events_are_refused_the_sender_hears_it() {
    let file = File::new(&shop(USERS, "on_error = \"refuse\"\nmax_body = \"1KiB\""));
    let durable = file.relay().await;
    let relay = durable.relay();
    post(relay, "/sources/shop", "{").await.assert_failed(400, "invalid_json");
    post(relay, "/sources/shop", r#"{"users":7}"#).await.assert_failed(422, "filter_failed");
    let invalid = post(relay, "/sources/shop", r#"{"users":[{"id":"c-1"},{"id":7}]}"#).await;
    invalid.assert_failed(422, "invalid_payload");
    assert_eq!(invalid.body["error"]["details"][0]["field"], "/1/userId");
    post(relay, "/sources/shop", "x".repeat(1025)).await.assert_failed(413, "message_too_large");
    let first = post(relay, "/sources/shop", event("e-1", &["c-1"])).await;
    assert_eq!(first.status, 202);
    post(relay, "/sources/shop", event("e-1", &["c-1", "c-2"])).await;
    let other = json!({"event": "e-1", "users": [{"id": "c-1", "plan": "free"}]});
    post(relay, "/sources/shop", other).await.assert_failed(422, "idempotency_key_reused");
    assert!(durable.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_stranger_is_served_while_a_filter_loops() {
    let loops = "[loops]\nverify = \"none\"\nmap = 'def f: f; f'\n";
    let file = File::new(&format!("{loops}{}", shop(USERS, "")));
    let durable = file.relay().await;
    let relay = durable.relay();
    let mut looping: JoinSet<_> =
        (0..20).map(|_| relay.request(Method::POST, "/sources/loops").body("{}").send()).collect();
    for number in 0..20 {
        let answer = post(relay, "/sources/shop", event(&format!("e-{number}"), &["c-1"])).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(durable.post(&customer("c-2")).await.status, 202);
    }
    let first = tokio::time::timeout(PATIENCE, looping.join_next()).await.unwrap().unwrap();
    assert_eq!(first.unwrap().unwrap().status(), 202, "it is kept");
    assert_eq!(durable.dead_letters().await[0]["reason"], "the filter took longer than 1 s");
}

#[tokio::test]
async fn sources_are_at_the_senders_address_alone() {
    let file = File::new(&shop(USERS, ""));
    let sources = file.path();
    let app = App::with(&[("RELAY_SOURCES", &*sources), ("RELAY_ADMIN_LISTEN", "127.0.0.1:0")]).await;
    assert_eq!(post(app.relay(), "/sources/shop", event("e-1", &["c-1"])).await.status, 200, "accepted by Segment");
    let log = app.relay().log();
    let operators = log.iter().find(|line| line["message"] == "operators are served").unwrap();
    let url = format!("http://{}/sources/shop", operators["address"].as_str().unwrap());
    assert_eq!(reqwest::Client::new().post(url).body("{}").send().await.unwrap().status(), 404);
}
