//! `sources list`, `sources test`, and what `check` and `dev` do with the file of sources.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::products::shipped;
use crate::harness::sign::hmac_base64;
use crate::harness::{Answer, Process, Segment, WRITE_KEY, client, eventually};

/// A file of one source, whose e-mail must be a text.
const FILE: &str = r#"
[shop]
verify = "shopify"
secrets = ["env:SHOP_SECRET"]
map = '''
select(header("x-shopify-topic") == "customers/update") | (.customers // [.])[] | {userId: .no, traits: {email: .mail}}
'''

[[shop.example]]
headers = { x-shopify-topic = "customers/update" }
body = '{"no":"c-1","mail":"ada@mail.example"}'
expect = '[{"traits":{"email":"ada@mail.example"},"userId":"c-1"}]'
"#;

const TOPIC: &str = "X-Shopify-Topic: customers/update";

struct Ended {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Ended {
    let mut process = Process::start(arguments, settings);
    Ended { code: process.exit_code().await, stdout: process.stdout(), stderr: process.stderr() }
}

/// A directory with this file of sources, and this event.
fn directory(file: &str, event: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("sources.toml"), file).expect("a file");
    fs::write(directory.path().join("event.json"), event).expect("a file");
    directory
}

/// `sources test shop` of this event, with the topic of customers.
async fn try_event(directory: &TempDir) -> Ended {
    let (sources, event) = (directory.path().to_str().unwrap(), directory.path().join("event.json"));
    let arguments = ["sources", "test", "shop", event.to_str().unwrap(), "--sources", sources, "--header", TOPIC];
    run(&arguments, &[]).await
}

#[tokio::test]
async fn customers_of_an_event_are_printed_one_a_line_without_a_write_key_and_secrets() {
    let event = r#"{"customers":[{"no":"c-1","mail":"a@mail.example"},{"no":"c-2","mail":null}]}"#;
    let Ended { code, stdout, stderr } = try_event(&directory(FILE, event)).await;
    let customers =
        [r#"{"userId":"c-1","traits":{"email":"a@mail.example"}}"#, r#"{"userId":"c-2","traits":{"email":null}}"#];
    assert_eq!((code, stdout), (Some(0), customers.map(str::to_owned).to_vec()), "{stderr:?}");
}

#[tokio::test]
async fn every_broken_rule_has_its_place() {
    let event = r#"{"customers":[{"no":"c-1","mail":7},{"no":2,"mail":"b@mail.example"}]}"#;
    let Ended { code, stdout, stderr } = try_event(&directory(FILE, event)).await;
    assert_eq!((code, stdout.len()), (Some(1), 2), "{stdout:?} {stderr:?}");
    for place in ["/0/traits/email", "/1/userId"] {
        assert!(stderr.iter().any(|line| line.contains(place)), "{place}: {stderr:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_no_json_and_one_that_the_filter_fails_on_are_told_apart() {
    let Ended { code, stderr, .. } = try_event(&directory(FILE, "{")).await;
    assert!(code == Some(1) && stderr[0].contains("not JSON"), "{stderr:?}");
    let Ended { code, stderr, .. } = try_event(&directory(FILE, r#"{"customers":7}"#)).await;
    assert!(code == Some(1) && stderr[0].contains("cannot use 7"), "{stderr:?}");
}

#[tokio::test]
async fn another_topic_makes_no_customer() {
    let directory = directory(FILE, "{}");
    let event = directory.path().join("event.json");
    let settings = [("RELAY_SOURCES", directory.path().join("sources.toml"))];
    let settings = settings.each_ref().map(|(name, path)| (*name, path.to_str().unwrap()));
    let Ended { code, stdout, stderr } = run(&["sources", "test", "shop", event.to_str().unwrap()], &settings).await;
    assert_eq!((code, stdout.len()), (Some(0), 0), "{stderr:?}");
    assert!(stderr[0].starts_with("no customer"), "{stderr:?}");
}

#[tokio::test]
async fn a_filter_that_does_not_compile_is_told_with_line_and_column() {
    let Ended { code, stderr, .. } = try_event(&directory(&FILE.replace(".mail}", ".mail | downcas}"), "{}")).await;
    assert_eq!(code, Some(1));
    let place = stderr.iter().find(|line| line.contains("downcas")).expect("the filter");
    assert!(place.starts_with("sources.toml: shop.map: ") && place.contains("line 1, column 121"), "{stderr:?}");
}

#[tokio::test]
async fn a_source_that_is_not_there_is_told_with_those_that_are() {
    let directory = directory(FILE, "{}");
    let arguments = ["sources", "test", "stripe", "--sources", directory.path().to_str().unwrap()];
    let Ended { code, stderr, .. } = run(&arguments, &[]).await;
    assert!(code == Some(1) && stderr[0].contains("stripe") && stderr[0].ends_with("shop"), "{stderr:?}");
}

#[tokio::test]
async fn the_list_shows_sources_presets_and_what_is_missing() {
    let directory = directory(FILE, "{}");
    let Ended { code, stdout, stderr } =
        run(&["sources", "list", "--sources", directory.path().to_str().unwrap()], &[]).await;
    assert_eq!(code, Some(0), "{stderr:?}");
    let has = |words: &[&str]| stdout.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["shop ", "shopify", "header:x-shopify-topic header:x-shopify-event-id", "8d"]), "{stdout:#?}");
    assert!(has(&["missing:", "env:SHOP_SECRET"]) && has(&["stripe ", "body:/id"]), "{stdout:#?}");
}

#[tokio::test]
async fn check_runs_every_example_and_shows_what_differs() {
    let segment = Segment::start().await;
    let directory = directory(&FILE.replace("ada@mail.example\"},", "eve@mail.example\"},"), "{}");
    let path = directory.path().join("sources.toml");
    let settings = [
        ("SEGMENT_WRITE_KEY", WRITE_KEY),
        ("SEGMENT_ENDPOINT", segment.url()),
        ("RELAY_LISTEN", "127.0.0.1:0"),
        ("RELAY_SOURCES", path.to_str().unwrap()),
        ("SHOP_SECRET", "a-s3cret-of-the-shop"),
    ];
    let Ended { code, stdout, stderr } = run(&["check", "--json"], &settings).await;
    assert_eq!(code, Some(1), "{stderr:?}");
    let report: Value = serde_json::from_str(&stdout.concat()).expect("JSON");
    let rows = report["checks"].as_array().expect("rows");
    let printed =
        rows.iter().find(|row| row["name"] == "examples").and_then(|row| row["found"].as_str()).expect("a text");
    let shown = "shop, example 1: customer 0 differs\n  expected  {\"traits\":{\"email\":\"eve@mail.example\"},\"userId\":\"c-1\"}\n  got       {\"traits\":{\"email\":\"ada@mail.example\"},\"userId\":\"c-1\"}";
    assert_eq!(printed, shown);

    fs::write(&path, FILE).expect("a file");
    let Ended { code, stdout, stderr } = run(&["check"], &settings).await;
    assert_eq!(code, Some(0), "{stdout:?} {stderr:?}");
    assert!(stdout.iter().any(|line| line.contains("shop") && line.contains("1 example")), "{stdout:?}");
}

#[tokio::test]
async fn every_shipped_example_comes_out_as_the_file_says() {
    let segment = Segment::start().await;
    let (path, data) = (shipped(), tempfile::tempdir().expect("a directory"));
    let sources: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let variable = |table: &toml::Value| table["secrets"][0].as_str().unwrap().trim_start_matches("env:").to_owned();
    let variables: Vec<String> = sources.values().map(variable).collect();
    let outbox = format!("sqlite://{}", data.path().join("outbox.db").display());
    let mut settings = vec![
        ("SEGMENT_WRITE_KEY", WRITE_KEY),
        ("SEGMENT_ENDPOINT", segment.url()),
        ("RELAY_OUTBOX_URL", &outbox),
        ("RELAY_LISTEN", "127.0.0.1:0"),
        ("RELAY_SOURCES", path.to_str().unwrap()),
    ];
    // It has the form of a password, a token and a key.
    settings.extend(variables.iter().map(|name| (name.as_str(), "whsec_:YSBrZXkgb2YgdHdlbnR5LWZvdXIgYnl0")));
    let clerk = settings.iter().position(|(name, _)| *name == "CLERK_WEBHOOK_SECRET").unwrap();
    settings[clerk].1 = "whsec_YSBrZXkgb2YgdHdlbnR5LWZvdXIgYnl0";
    let Ended { code, stdout, stderr } = run(&["check"], &settings).await;
    assert_eq!(code, Some(0), "{stdout:#?} {stderr:#?}");
}

#[tokio::test]
async fn dev_serves_a_directory_of_sources_with_stand_ins_and_reads_it_again() {
    let directory = directory(FILE, "{}");
    let data = tempfile::tempdir().expect("a directory");
    let path = |directory: &TempDir| directory.path().to_str().unwrap().to_owned();
    let arguments = ["dev", "--sandbox-listen", "127.0.0.1:0", "--data", &path(&data), "--sources", &path(&directory)];
    let mut dev = Process::start(&arguments, &[("RELAY_LISTEN", "127.0.0.1:0")]);
    let word =
        |line: &str, start: &str| line.split_whitespace().find(|word| word.starts_with(start)).map(str::to_owned);
    let relay = dev.line(|line| line.starts_with("relay ").then(|| word(line, "http://"))?).await;
    let secret = dev
        .line(|line| line.contains("env:SHOP_SECRET").then(|| line.split_whitespace().last().map(str::to_owned))?)
        .await;

    let body = r#"{"no":"c-1","mail":"ada@mail.example"}"#;
    let send = async |source: &str| {
        let request = client().request(Method::POST, format!("{relay}/sources/{source}")).body(body);
        let request = request.header("x-shopify-hmac-sha256", hmac_base64(&secret, body));
        let request = request.header("x-shopify-topic", "customers/update");
        Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
    };
    let answer = send("shop").await;
    assert_eq!((answer.status, &answer.body["results"][0]["status"]), (202, &json!("stored")), "{answer:?}");

    assert_eq!(send("store").await.status, 404);
    fs::write(directory.path().join("sources.toml"), FILE.replace("[shop]", "[store]").replace("shop.ex", "store.ex"))
        .expect("a file");
    dev.signal("HUP");
    eventually(async || send("store").await.status == 202).await;
    assert_eq!(send("shop").await.status, 404);
    dev.signal("TERM");
    assert_eq!(dev.exit_code().await, Some(0));
}
