//! `segment-relay import`: every line arrives once under one id, in the order of its user, also after `kill -9`.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Durable, Fault, Process, ScriptedSegment, Seen, Segment, at_last};

/// With [`PADDING`] at least ten requests, so that one request at a time leaves time to stop in the middle.
const MANY: usize = 5_000;

const PADDING: usize = 1_000;

struct Import {
    directory: TempDir,
    segment: Segment,
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Import {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), segment: Segment::start().await }
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn start(&self, file: &Path, more: &[&str]) -> Process {
        let arguments = [&["import", file.to_str().unwrap()], more].concat();
        let settings = [
            ("SEGMENT_WRITE_KEY", "wk"),
            ("SEGMENT_ENDPOINT", self.segment.url()),
            ("SEGMENT_MAX_CONCURRENCY", "1"),
            ("SEGMENT_TIMEOUT", "60s"),
        ];
        Process::start(&arguments, &settings)
    }

    async fn run(&self, file: &Path, more: &[&str]) -> Ended {
        ended(self.start(file, more)).await
    }

    async fn is_sending(&self, before: usize) {
        at_last(async || self.segment.stats().await["acceptedCalls"].as_u64() > Some(before as u64)).await;
    }

    async fn user_ids(&self) -> Vec<String> {
        self.segment.received().await.iter().map(|call| text(call, "userId")).collect()
    }
}

async fn ended(mut process: Process) -> Ended {
    let code = process.exit_code().await;
    Ended { code, out: process.stdout().join("\n"), err: process.stderr().join("\n") }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{}\n", line(&format!("u-{}", number / 3), number))).collect()
}

fn long_lines() -> String {
    let padding = "x".repeat(PADDING);
    let line =
        |number| json!({"userId": format!("u-{}", number / 3), "traits": {"number": number, "padding": padding}});
    (0..MANY).map(|number| format!("{}\n", line(number))).collect()
}

fn line(user: &str, number: usize) -> String {
    json!({"userId": user, "traits": {"number": number}}).to_string()
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_line_is_sent_and_refused_ones_are_listed_with_every_reason() {
    let import = Import::new().await;
    let content = format!(
        "\u{feff}{}\r\n\n{}\nnot json\n{}",
        line("a", 1),
        r#"{"userId":"","traits":{"age":"x"},"other":1}"#,
        line("b", 2)
    );
    let file = import.file("c.ndjson", content);
    let ended = import.run(&file, &[]).await;
    assert_eq!(ended.code, Some(1), "{} {}", ended.out, ended.err);
    assert!(ended.out.contains("4 lines: 2 accepted, 0 stored, 2 refused"), "{}", ended.out);
    assert_eq!(import.user_ids().await, ["a", "b"]);
    let refused = json_lines(&import.directory.path().join("c.ndjson.refused.ndjson"));
    assert_eq!(refused[0]["line"], 3);
    let fields: Vec<_> = refused[0]["problems"].as_array().unwrap().iter().map(|rule| text(rule, "field")).collect();
    assert_eq!(fields, ["/userId", "/traits/age", "/other"]);
    assert_eq!(refused[1]["line"], 4);
    assert!(refused[1]["reason"].as_str().unwrap().contains("at column 1"), "{refused:?}");
}

#[tokio::test]
async fn a_dry_run_names_what_would_be_refused_and_sends_and_writes_nothing() {
    let import = Import::new().await;
    let file = import.file("c.ndjson", format!("{}\n{{}}\n", line("a", 1)));
    let ended = import.run(&file, &["--dry-run"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains(r#"{"line":2,"problems":[{"field":"/userId""#), "{}", ended.out);
    assert!(import.user_ids().await.is_empty());
    assert_eq!(fs::read_dir(import.directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_finished_import_and_a_changed_file_send_nothing_and_another_job_starts_anew() {
    let import = Import::new().await;
    let file = import.file("c.ndjson", lines(0..10));
    assert_eq!(import.run(&file, &[]).await.code, Some(0));
    let again = import.run(&file, &[]).await;
    assert!(again.out.contains("finished before (10 lines"), "{} {}", again.out, again.err);
    assert_eq!(import.user_ids().await.len(), 10);
    fs::write(&file, lines(0..11)).unwrap();
    let changed = import.run(&file, &[]).await;
    assert!(changed.code == Some(1) && changed.err.contains("has changed"), "{}", changed.err);
    assert_eq!(import.run(&file, &["--job", "second"]).await.code, Some(0));
    let received = import.segment.received().await;
    assert_eq!(received.len(), 21);
    let ids: HashSet<_> = received.iter().map(|call| text(call, "messageId")).collect();
    assert_eq!(ids.len(), 21, "each line of each job has its own id");
}

#[tokio::test]
async fn several_files_are_sent_one_after_another_and_each_has_its_own_journal() {
    let import = Import::new().await;
    let (first, second) = (import.file("1.ndjson", lines(0..10)), import.file("2.ndjson", lines(10..20)));
    let more = [second.to_str().unwrap()];
    assert_eq!(import.run(&first, &[more[0], "--journal", "j"]).await.code, Some(2));
    assert_eq!(import.run(&first, &more).await.code, Some(0));
    assert_whole(&import.segment.received_lines().await, 20);
    assert!(["1.ndjson.import", "2.ndjson.import"].iter().all(|name| import.directory.path().join(name).exists()));
}

#[tokio::test]
async fn the_lines_of_a_user_who_fails_alone_arrive_later_and_in_order() {
    let segment = ScriptedSegment::start();
    segment.fail(r#""u-1""#, Fault::Status(503));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.ndjson");
    let line = |n| format!("{}\n", json!({"userId": format!("u-{}", n % 10), "traits": {"n": n}}));
    fs::write(&file, (0..50).map(line).collect::<String>()).unwrap();
    let url = segment.url();
    let settings = [("SEGMENT_WRITE_KEY", "wk"), ("SEGMENT_ENDPOINT", &url)];
    let process = Process::start(&["import", file.to_str().unwrap()], &settings);
    // The publisher gives the line back after two such requests. The further ones are the import's.
    let is_alone = |request: &&Seen| request.calls == 1 && request.users.contains("u-1");
    at_last(async || segment.requests().iter().filter(is_alone).count() >= 4).await;
    assert_eq!(segment.arrivals().len(), 45, "the others do not wait");
    segment.heal();
    let ended = ended(process).await;
    assert_eq!(ended.code, Some(0), "{} {}", ended.out, ended.err);
    let arrivals = segment.arrivals();
    let numbers: Vec<_> = arrivals.iter().filter(|call| call.user == "u-1").map(|call| call.number).collect();
    assert_eq!(numbers, [1, 11, 21, 31, 41]);
}

#[tokio::test]
async fn two_imports_of_one_file_at_once_are_refused() {
    let import = Import::new().await;
    import.segment.fail(json!({"status": 503})).await;
    let file = import.file("c.ndjson", lines(0..10));
    let first = import.start(&file, &[]);
    let journal = import.directory.path().join("c.ndjson.import");
    at_last(async || fs::metadata(&journal).is_ok_and(|file| file.len() > 0)).await;
    let second = import.run(&file, &[]).await;
    assert!(second.code == Some(1) && second.err.contains("another import"), "{}", second.err);
    import.segment.heal().await;
    assert_eq!(ended(first).await.code, Some(0));
}

#[tokio::test]
async fn a_line_that_segment_refuses_is_listed_and_the_others_arrive() {
    let import = Import::new().await;
    import.segment.fail(json!({"poisonUserIds": ["u-1"]})).await;
    let file = import.file("c.ndjson", lines(0..30));
    let ended = import.run(&file, &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.out.contains("27 accepted, 0 stored, 3 refused, 0 gave up"), "{}", ended.out);
    let refused = json_lines(&import.directory.path().join("c.ndjson.refused.ndjson"));
    let numbers: HashSet<_> = refused.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, HashSet::from([4, 5, 6]));
    assert!(refused.iter().all(|line| line["status"] == 400), "{refused:?}");
    assert_eq!(import.user_ids().await.len(), 27);
}

#[tokio::test]
async fn ctrl_c_finishes_what_is_in_flight_and_the_same_command_goes_on_behind_it() {
    let import = Import::new().await;
    import.segment.fail(json!({"latency": "200ms"})).await;
    let file = import.file("c.ndjson", long_lines());
    let first = import.start(&file, &[]);
    import.is_sending(0).await;
    first.signal("INT");
    let stopped = ended(first).await;
    assert_eq!(stopped.code, Some(130), "{} {}", stopped.out, stopped.err);
    import.segment.heal().await;
    assert_eq!(import.run(&file, &[]).await.code, Some(0));
    let received = import.segment.received_lines().await;
    assert_eq!(received.len(), MANY, "nothing is sent again");
    assert_whole(&received, MANY);
}

#[tokio::test]
async fn a_second_ctrl_c_ends_an_import_at_once() {
    let import = Import::new().await;
    import.segment.fail(json!({"hang": true})).await;
    let file = import.file("c.ndjson", lines(0..3));
    let mut process = import.start(&file, &[]);
    at_last(async || import.segment.stats().await["requests"].as_u64() > Some(0)).await;
    at_last(|| {
        let is_running = process.is_running();
        if is_running {
            process.signal("INT");
        }
        async move { !is_running }
    })
    .await;
    assert_eq!(process.exit_code().await, Some(130));
}

#[tokio::test]
async fn an_import_that_is_killed_twice_goes_on_behind_its_journal_with_the_same_bytes_and_in_order() {
    let import = Import::new().await;
    let file = import.file("c.ndjson", long_lines());
    let journal = import.directory.path().join("c.ndjson.import");
    let records = || fs::read_to_string(&journal).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let (mut arrived, mut done) = (0, 0);
    for _ in 0..2 {
        import.segment.fail(json!({"latency": "200ms"})).await;
        let before = records().len().max(1);
        let mut process = import.start(&file, &[]);
        import.is_sending(arrived).await;
        // What is in flight arrives, and its answer does not.
        import.segment.fail(json!({"hang": true, "afterAccepting": true})).await;
        at_last(async || records().len() > before).await;
        process.signal("KILL");
        assert_eq!(process.exit_code().await, None);
        let received = import.segment.received().await;
        assert!(received[arrived..].iter().all(|call| call["traits"]["number"].as_u64() >= Some(done)));
        arrived = received.len();
        let last: Value = serde_json::from_str(records().last().unwrap()).unwrap();
        done = last["done"].as_u64().unwrap();
        assert!(0 < done && done < MANY as u64, "{last}");
    }
    import.segment.heal().await;
    let last = import.run(&file, &[]).await;
    assert_eq!(last.code, Some(0), "{} {}", last.out, last.err);
    let received = import.segment.received().await;
    assert!(received[arrived..].iter().all(|call| call["traits"]["number"].as_u64() >= Some(done)));
    assert_whole(&import.segment.received_lines().await, MANY);
}

/// Each line with one id and the same bytes each time, and the first arrivals of each user's lines in their order.
#[track_caller]
fn assert_whole(received: &[String], lines: usize) {
    let mut of_lines = BTreeMap::new();
    let mut of_users: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for wire in received {
        let call: Value = serde_json::from_str(wire).unwrap();
        let number = call["traits"]["number"].as_u64().unwrap();
        if let Some((before, _)) = of_lines.get(&number) {
            assert_eq!(*before, wire, "line {number} was sent with other bytes");
        } else {
            of_lines.insert(number, (wire, text(&call, "messageId")));
            of_users.entry(text(&call, "userId")).or_default().push(number);
        }
    }
    assert_eq!(of_lines.len(), lines);
    assert_eq!(of_lines.values().map(|(_, id)| id).collect::<HashSet<_>>().len(), lines);
    assert!(of_users.values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test]
async fn a_running_relay_takes_signed_batches_and_a_wrong_secret_stops_the_import() {
    let secret = "a-long-secret-of-a-sender";
    // A relay that serves ignores the secret of imports.
    let settings = [("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", secret), ("RELAY_IMPORT_SECRET", secret)];
    let durable = Durable::with(&settings).await;
    let import = Import::new().await;
    let file = import.file("c.ndjson", format!("{}{{}}\n", lines(0..3_000)));
    let url = durable.relay().url("");
    let arguments = ["import", file.to_str().unwrap(), "--url", &url];
    let start = |more: &[(&str, &str)]| ended(Process::start(&arguments, more));
    let encoding = ("RELAY_AUTH_HMAC_ENCODING", "base32");
    let wrong = start(&[settings[0], settings[2], encoding]).await;
    assert!(wrong.code == Some(2) && wrong.err.contains("RELAY_AUTH_HMAC_ENCODING"), "{:?} {}", wrong.code, wrong.err);
    let wrong = start(&[("RELAY_IMPORT_SECRET", "another-secret-of-a-sender")]).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("401"), "{:?} {}", wrong.code, wrong.err);
    let right = start(&settings).await;
    assert_eq!(right.code, Some(1), "{}", right.err);
    assert!(right.out.contains("3001 lines: 0 accepted, 3000 stored, 1 refused"), "{}", right.out);
    at_last(async || durable.segment().stats().await["acceptedCalls"] == 3_000).await;
    assert_whole(&durable.segment().received_lines().await, 3_000);
}
