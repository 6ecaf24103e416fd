//! `segment-relay check`: the rows of the table and of the JSON, and the exit code.

mod database;
mod outbox;
mod receivers;
mod tls;
mod way;

use serde_json::Value;

use crate::harness::{App, Process, Segment, WRITE_KEY};

/// The checks, in their order.
const NAMES: [&str; 24] = [
    "settings",
    "senders",
    "open-files",
    "listen",
    "operators",
    "sources",
    "examples",
    "outbox",
    "outbox-version",
    "outbox-sources",
    "outbox-space",
    "outbox-disk",
    "outbox-server",
    "outbox-rights",
    "outbox-standby",
    "dns",
    "tcp",
    "proxy",
    "tls",
    "certificate",
    "http",
    "clock",
    "notifications",
    "traces",
];

/// What `check --json` said.
#[derive(Debug)]
struct Report {
    code: Option<i32>,
    rows: Vec<Value>,
    stderr: Vec<String>,
}

impl Report {
    /// Runs the command. The relay would listen on a free port, and Segment is nowhere unless the settings say so.
    async fn of(settings: &[(&str, &str)]) -> Self {
        let mut process = Process::start(&["check", "--json"], &with_own(settings));
        let code = process.exit_code().await;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        assert_eq!(stdout.len(), 1, "{stdout:?} {stderr:?}");
        let report: Value = serde_json::from_str(&stdout[0]).expect("JSON");
        let rows = report["checks"].as_array().expect("a list").clone();
        assert_eq!(report["ok"], code == Some(0));
        assert_eq!(report.as_object().unwrap().len(), 2);
        for row in &rows {
            let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys.len(), 4, "{row}");
            assert!(row["name"].is_string() && row["found"].as_str().is_some_and(|found| !found.is_empty()), "{row}");
            let result = row["result"].as_str().unwrap();
            assert!(["ok", "warning", "failed", "skipped"].contains(&result), "{row}");
            assert!(row["advice"].is_string() || (row["advice"].is_null() && result != "failed"), "{row}");
        }
        let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        names.dedup();
        assert_eq!(names, NAMES, "every check is there, in the same order");
        Self { code, rows, stderr }
    }

    /// The first row of this check: its result and what was found.
    fn row(&self, name: &str) -> (&str, &str) {
        let row = self.rows.iter().find(|row| row["name"] == name).expect(name);
        (row["result"].as_str().unwrap(), row["found"].as_str().unwrap())
    }

    fn result(&self, name: &str) -> &str {
        self.row(name).0
    }

    /// The result of each of these checks.
    fn results<const N: usize>(&self, names: [&str; N]) -> [&str; N] {
        names.map(|name| self.result(name))
    }
}

fn with_own<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = [
        ("SEGMENT_WRITE_KEY", WRITE_KEY),
        ("SEGMENT_ENDPOINT", "http://127.0.0.1:9"),
        ("RELAY_LISTEN", "127.0.0.1:0"),
        ("RELAY_AUTH", "bearer"),
        ("RELAY_AUTH_SECRETS", "bearer-token-of-a-sender"),
    ];
    [&own[..], settings].concat()
}

async fn table(settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let mut process = Process::start(&["check"], &with_own(settings));
    (process.exit_code().await, process.stdout())
}

#[tokio::test]
async fn a_right_configuration_is_a_table_without_failures_and_segment_gets_no_call() {
    let segment = Segment::start().await;
    let (code, lines) = table(&[("SEGMENT_ENDPOINT", segment.url())]).await;
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines[0].starts_with("CHECK") && lines.contains(&"Nothing failed, no warnings.".to_owned()), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(WRITE_KEY) && !line.contains("token-of")), "{lines:#?}");
    assert!(segment.received().await.is_empty());
    assert_eq!(segment.requests().await.len(), 1);
    let report = Report::of(&[("SEGMENT_ENDPOINT", segment.url())]).await;
    assert!(report.rows.iter().all(|row| row["result"] == "ok" || row["result"] == "skipped"), "{report:#?}");
    assert!(report.stderr.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn wrong_settings_are_rows_and_lines_and_what_can_be_checked_is() {
    let segment = Segment::start().await;
    let settings = [
        ("SEGMENT_ENDPOINT", segment.url()),
        ("SEGMENT_WRITE_KEY", "s3cret key"),
        ("SEGMENT_TIMOUT", "s3cret"),
        ("RELAY_AUTH", "handshake"),
        ("RELAY_OUTBOX_URL", "sqlite://s3cret"),
        ("RELAY_ADMIN_LISTEN", "here"),
    ];
    let report = Report::of(&settings).await;
    assert_eq!(report.code, Some(2));
    let found: Vec<_> = report.rows.iter().filter(|row| row["name"] == "settings").map(|row| &row["found"]).collect();
    assert_eq!(found, report.stderr.iter().collect::<Vec<_>>(), "the lines that serve prints");
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(report.results(["senders", "operators", "outbox", "http"]), ["skipped"; 4], "{report:#?}");
    assert_eq!(report.results(["listen", "dns", "tcp", "clock"]), ["ok"; 4], "{report:#?}");
    let all = format!("{report:?} {:?}", table(&settings).await);
    assert!(!all.contains("s3cret"), "{all}");
    // Nothing was posted.
    assert_eq!(segment.stats().await["requests"], 0);
    let misspelt = [("SEGMENT_ENDPOINT", ""), ("SEGMENT_ENDPIONT", segment.url())];
    let report = Report::of(&misspelt).await;
    assert_eq!((report.code, report.results(["dns", "http"])), (Some(2), ["skipped"; 2]), "{report:#?}");
}

#[tokio::test]
async fn what_senders_can_do_wrong_is_a_warning() {
    let segment = Segment::start().await;
    for (settings, word) in [
        (&[("RELAY_AUTH", "none"), ("RELAY_AUTH_SECRETS", "")], "RELAY_AUTH is none"),
        (&[("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", "s3cret")], "shorter than 16 bytes"),
    ] {
        let report = Report::of(&[&settings[..], &[("SEGMENT_ENDPOINT", segment.url())]].concat()).await;
        let (result, found) = report.row("senders");
        assert!(report.code == Some(0) && result == "warning" && found.contains(word), "{report:#?}");
        assert!(!format!("{report:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn an_address_is_free_or_a_relays_or_another_programs() {
    let segment = Segment::start().await;
    let endpoint = ("SEGMENT_ENDPOINT", segment.url());
    let app = App::start().await;
    let relays = app.relay().address().to_string();
    let report = Report::of(&[endpoint, ("RELAY_LISTEN", &relays)]).await;
    assert_eq!((report.code, report.result("listen")), (Some(0), "warning"), "{report:#?}");
    let others = segment.url().trim_start_matches("http://");
    let report = Report::of(&[endpoint, ("RELAY_ADMIN_LISTEN", others)]).await;
    assert_eq!((report.code, report.results(["listen", "operators"])), (Some(1), ["ok", "failed"]), "{report:#?}");
    // An address of documents, which no machine has.
    let report = Report::of(&[endpoint, ("RELAY_LISTEN", "192.0.2.1:8080")]).await;
    assert_eq!((report.code, report.result("listen")), (Some(1), "failed"), "{report:#?}");
}

#[tokio::test]
async fn a_low_limit_of_open_files_is_a_row() {
    for (files, result) in [(300, "failed"), (900, "warning")] {
        let settings = with_own(&[]);
        let mut process = Process::limited(&format!("ulimit -n {files}"), &["check"], &settings);
        assert_eq!(process.exit_code().await, Some(1));
        let stdout = process.stdout();
        let row = stdout.iter().find(|line| line.starts_with("open-files")).expect("a row");
        assert_eq!(row.split_whitespace().nth(1), Some(result), "{row}");
    }
}

#[tokio::test]
async fn a_filter_or_a_file_of_sources_that_is_wrong_is_a_row_and_has_the_exit_code_of_settings() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sources.toml");
    let path = path.to_str().unwrap();
    for (text, word) in [
        ("[shop]\nverify = \"none\"\nmap = 'nosuch'\nkey = [\"body:/id\"]\n", "nosuch"),
        ("[shop]\nverify = \"nobody\"\nsecrets = [\"env:NOT_SET\"]\n", "no such"),
    ] {
        std::fs::write(path, text).unwrap();
        let report = Report::of(&[("RELAY_SOURCES", path)]).await;
        assert_eq!((report.code, report.results(["sources", "examples"])), (Some(2), ["failed", "skipped"]));
        assert!(report.row("sources").1.contains(word) && report.stderr.concat().contains(word), "{report:#?}");
    }
}

#[tokio::test]
async fn an_outbox_whose_address_is_wrong_is_not_taken_for_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sources.toml");
    let source =
        "[shop]\nverify = \"bearer\"\nsecrets = [\"env:SHOP_SECRET\"]\nkey = [\"body:/id\"]\non_error = \"keep\"\n";
    std::fs::write(&path, source).unwrap();
    let settings = [("RELAY_SOURCES", path.to_str().unwrap()), ("SHOP_SECRET", "a-secret-of-a-shop-of-ours")];
    let report = Report::of(&[&settings[..], &[("RELAY_OUTBOX_URL", "sqlite:outbox.db")]].concat()).await;
    assert_eq!(
        (report.code, report.row("sources").0, report.result("outbox")),
        (Some(2), "ok", "skipped"),
        "{report:#?}"
    );
    let report = Report::of(&settings).await;
    assert_eq!((report.code, report.result("sources")), (Some(2), "failed"), "{report:#?}");
}

#[tokio::test]
async fn check_ends_with_its_exit_code_if_nobody_can_read_its_output() {
    let segment = Segment::start().await;
    let settings = with_own(&[("SEGMENT_ENDPOINT", segment.url())]);
    let mut check = Process::limited("exec >/dev/full", &["check"], &settings);
    assert_eq!(check.exit_code().await, Some(0), "{:?}", check.stderr());
    assert!(check.stderr().is_empty(), "{:?}", check.stderr());
}

#[test]
fn every_row_is_documented() {
    let document = include_str!("../../docs/check.md");
    for name in NAMES {
        assert!(document.contains(&format!("\n| `{name}` | ")), "{name} is not in the table of docs/check.md");
    }
}
