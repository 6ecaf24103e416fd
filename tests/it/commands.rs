//! The command line: wrong settings, and the commands other than `serve`.

use serde_json::Value;

use crate::harness::{App, Process, Relay, WRITE_KEY, ada, client, eventually};

async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut process = Process::start(arguments, settings);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}

fn closed_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn each_wrong_setting_is_reported_on_a_line_and_no_secret_is_shown() {
    let settings = [
        ("SEGMENT_WRITE_KEY", "s3cret key"),
        ("SEGMENT_ENDPOINT", "https://user:s3cret@example.com"),
        ("SEGMENT_TIMEOUT", "soon"),
        ("SEGMENT_GZIP", "maybe"),
        ("SEGMENT_MAX_CONCURRENCY", "0"),
        ("RELAY_MAX_IN_FLIGT", "10"),
        ("RELAY_REQUEST_TIMEOUT", "0s"),
        ("RELAY_LISTEN", "here"),
        ("RELAY_LOG_FORMAT", "xml"),
        ("RELAY_AUTH", "handshake"),
    ];
    let (code, stdout, stderr) = run(&["serve"], &settings).await;
    assert_eq!(code, Some(2), "{stderr:?}");
    for (name, _) in settings {
        assert_eq!(
            stderr.iter().filter(|line| line.starts_with(&format!("{name}: "))).count(),
            1,
            "{name}: {stderr:?}"
        );
    }
    assert_eq!(stderr.len(), settings.len(), "{stderr:?}");
    assert!(stderr.iter().any(|line| line.contains("RELAY_MAX_IN_FLIGHT")), "{stderr:?}");
    assert!(stdout.iter().chain(&stderr).all(|line| !line.contains("s3cret")), "{stdout:?} {stderr:?}");
}

#[tokio::test]
async fn a_missing_write_key_is_reported_and_an_unknown_setting_is_refused() {
    let (code, _, stderr) = run(&[], &[]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.len() == 1 && stderr[0].starts_with("SEGMENT_WRITE_KEY: "), "{stderr:?}");
    let (code, _, stderr) = run(&["serve"], &[("SEGMENT_WRITE_KEY", "")]).await;
    assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:?}");
    let unknown = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_OUTBOX", "postgres://u:s3cret@db/x")];
    let (code, _, stderr) = run(&["serve"], &unknown).await;
    assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:?}");
    assert!(stderr[0].starts_with("RELAY_OUTBOX: ") && !stderr[0].contains("s3cret"), "{stderr:?}");
}

#[tokio::test]
async fn variables_made_by_kubernetes_are_ignored() {
    let kubernetes = [
        ("RELAY_PORT", "tcp://10.0.0.1:80"),
        ("RELAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("RELAY_SERVICE_HOST", "10.0.0.1"),
        ("RELAY_SERVICE_PORT_HTTP", "80"),
    ];
    let relay = Relay::start(&kubernetes).await;
    assert_eq!(relay.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_address_in_use_is_reported_and_ends_the_program() {
    let app = App::start().await;
    let address = app.relay().address().to_string();
    let (code, _, stderr) = run(&["serve"], &[("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", &address)]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.len() == 1 && stderr[0].contains(&address), "{stderr:?}");
}

#[tokio::test]
async fn healthcheck_reports_whether_the_local_service_is_healthy() {
    let app = App::start().await;
    let address = app.relay().address().to_string();
    assert_eq!(run(&["healthcheck"], &[("RELAY_LISTEN", &address)]).await.0, Some(0));
    let port = app.relay().address().port().to_string();
    assert_eq!(run(&["healthcheck"], &[("PORT", &port)]).await.0, Some(0));
    assert_eq!(run(&["healthcheck", "--url", &app.relay().url("/readyz")], &[]).await.0, Some(0));
    let (code, _, stderr) = run(&["healthcheck"], &[("RELAY_LISTEN", &closed_port())]).await;
    assert_eq!((code, stderr.len()), (Some(1), 1), "{stderr:?}");
    assert_eq!(run(&["healthcheck", "--url", &app.relay().url("/nothing")], &[]).await.0, Some(1));
}

#[tokio::test]
async fn an_unknown_command_is_a_usage_error() {
    assert_eq!(run(&["relay-all"], &[]).await.0, Some(2));
    assert_eq!(run(&["--help"], &[]).await.0, Some(0));
    let (code, stdout, _) = run(&["--version"], &[]).await;
    assert_eq!((code, stdout), (Some(0), vec![format!("segment-relay {}", env!("CARGO_PKG_VERSION"))]));
}

#[tokio::test]
async fn the_curl_line_that_dev_prints_works() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["dev", "--sandbox-listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
    let mut dev = Process::start(&arguments, &[("RELAY_LISTEN", "127.0.0.1:0")]);
    let word = |line: &str, start: &str, end: &str| {
        line.split_whitespace().find(|word| word.starts_with(start) && word.ends_with(end)).map(str::to_owned)
    };
    let customers = dev.line(|line| word(line, "http://", "/customers")).await;
    let events = dev.line(|line| word(line, "http://", "/events")).await;
    let answer = client().post(customers).json(&ada()).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let received = async || client().get(&events).send().await.unwrap().text().await.unwrap();
    eventually(async || !received().await.is_empty()).await;
    assert_eq!(serde_json::from_str::<Value>(&received().await).unwrap()["userId"], "c-1042");
    assert!(data.path().join("outbox.db").exists());
    dev.signal("TERM");
    assert_eq!(dev.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_password_in_a_url_is_refused_and_not_shown() {
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("copy.db").display().to_string();
    for url in [
        "http://relay:s3cret@127.0.0.1:1",
        "http://relay:s3/cret@127.0.0.1:1",
        "http://relay:1/s3cret@127.0.0.1:1",
        "http://s3cret@127.0.0.1:1",
        "relay:s3cret@127.0.0.1:1",
        "s3cret@127.0.0.1",
        "s3cret",
        "ftp://s3cret",
    ] {
        let token = [("RELAY_ADMIN_TOKEN", "t0ken-of-an-operator")];
        for command in [&["dead-letters", "list"][..], &["parked", "list"], &["backup", &file], &["healthcheck"]] {
            let (code, stdout, stderr) = run(&[command, &["--url", url]].concat(), &token).await;
            assert_eq!((code, stdout.len(), stderr.len()), (Some(1), 0, 1), "{url}: {stdout:?} {stderr:?}");
            assert!(stderr[0].contains("--url") && !stderr[0].contains("cret"), "{url}: {stderr:?}");
        }
    }
}
