//! `RELAY_ADMIN_LISTEN`: operators, metrics and documents on an address of their own.

use std::net::SocketAddr;

use reqwest::Method;

use crate::harness::{Answer, Process, Raw, Relay, Segment, TOKEN, WRITE_KEY, ada, client, eventually};

const PATHS: [&str; 7] =
    ["/status", "/dead-letters", "/parked", "/metrics", "/openapi.json", "/docs", "/docs/start.js"];

const LISTEN: (&str, &str) = ("RELAY_ADMIN_LISTEN", "127.0.0.1:0");

/// The address on which a relay serves operators, as its log says.
fn operators(relay: &Relay) -> SocketAddr {
    let log = relay.log();
    let line = log.iter().find(|line| line["message"] == "operators are served").expect("a line");
    line["address"].as_str().unwrap().parse().unwrap()
}

async fn ask(address: SocketAddr, method: Method, path: &str) -> Answer {
    let request = client().request(method, format!("http://{address}{path}")).bearer_auth(TOKEN);
    Answer::of(request.send().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn operators_metrics_and_documents_are_on_the_operators_address_alone() {
    let segment = Segment::start().await;
    let directory = tempfile::tempdir().unwrap();
    let outbox = format!("sqlite://{}", directory.path().join("outbox.db").display());
    let settings =
        [LISTEN, ("RELAY_ADMIN_TOKEN", TOKEN), ("SEGMENT_ENDPOINT", segment.url()), ("RELAY_OUTBOX_URL", &outbox)];
    let relay = Relay::start(&settings).await;
    let operators = operators(&relay);
    for path in PATHS {
        assert_eq!(ask(operators, Method::GET, path).await.status, 200, "{path}");
        ask(relay.address(), Method::GET, path).await.assert_failed(404, "not_found");
        ask(relay.address(), Method::POST, path).await.assert_failed(404, "not_found");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(operators, Method::GET, path).await.status, 200, "{path}");
        assert_eq!(ask(relay.address(), Method::GET, path).await.status, 200, "{path}");
    }
    ask(operators, Method::POST, "/customers").await.assert_failed(404, "not_found");
    ask(operators, Method::GET, "/customers").await.assert_failed(404, "not_found");
    assert!(relay.post(&ada()).await.is_stored());
    let unnamed = client().get(format!("http://{operators}/status")).send().await.unwrap();
    assert_eq!(unnamed.status(), 401);
}

#[tokio::test]
async fn without_a_token_the_operators_address_has_metrics_and_documents_and_no_operators_routes() {
    let relay = Relay::start(&[LISTEN]).await;
    let operators = operators(&relay);
    for path in ["/status", "/dead-letters", "/parked"] {
        ask(operators, Method::GET, path).await.assert_failed(404, "not_found");
    }
    for path in ["/metrics", "/openapi.json", "/docs", "/healthz"] {
        assert_eq!(ask(operators, Method::GET, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_operators_address_must_be_another_one() {
    for [listen, operators] in [
        ["127.0.0.1:7070", "127.0.0.1:7070"],
        ["0.0.0.0:7070", "127.0.0.1:7070"],
        ["127.0.0.1:7070", "[::]:7070"],
        ["127.0.0.1:7070", "here"],
    ] {
        let nowhere = ("SEGMENT_ENDPOINT", "http://127.0.0.1:9");
        let settings =
            [("SEGMENT_WRITE_KEY", WRITE_KEY), nowhere, ("RELAY_LISTEN", listen), ("RELAY_ADMIN_LISTEN", operators)];
        for command in ["serve", "check"] {
            let mut process = Process::start(&[command], &settings);
            assert_eq!(process.exit_code().await, Some(2), "{listen} {operators}");
            let problems = process.stderr();
            assert!(problems.len() == 1 && problems[0].starts_with("RELAY_ADMIN_LISTEN: must be"), "{problems:?}");
        }
    }
}

#[tokio::test]
async fn the_commands_ask_the_operators_address() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = format!("sqlite://{}", directory.path().join("outbox.db").display());
    let relay = Relay::start(&[LISTEN, ("RELAY_ADMIN_TOKEN", TOKEN), ("RELAY_OUTBOX_URL", &outbox)]).await;
    let operators = operators(&relay).to_string();
    // Nothing listens on the other address.
    let settings = [("RELAY_ADMIN_LISTEN", &*operators), ("RELAY_LISTEN", "127.0.0.1:9"), ("RELAY_ADMIN_TOKEN", TOKEN)];
    for command in [&["healthcheck"][..], &["dead-letters", "list"], &["parked", "list"]] {
        let mut process = Process::start(command, &settings);
        assert_eq!(process.exit_code().await, Some(0), "{command:?}: {:?}", process.stderr());
    }
}

#[tokio::test]
async fn no_sender_can_crowd_operators_out() {
    // Each core needs four files. Of the others some 160 are left for senders' connections. The place for a request is taken
    // by one that hangs.
    let files = 300 + 4 * std::thread::available_parallelism().map_or(1, usize::from);
    let segment = Segment::start().await;
    segment.fail(serde_json::json!({"hang": true})).await;
    let settings = [
        LISTEN,
        ("RELAY_ADMIN_TOKEN", TOKEN),
        ("SEGMENT_ENDPOINT", segment.url()),
        ("SEGMENT_MAX_CONCURRENCY", "2"),
        ("RELAY_MAX_IN_FLIGHT", "1"),
        ("RELAY_REQUEST_TIMEOUT", "5m"),
        ("SEGMENT_TIMEOUT", "5m"),
    ];
    let relay = Relay::limited(&format!("ulimit -n {files}"), &settings).await;
    let operators = operators(&relay);
    let mut connections: Vec<Raw> = Vec::new();
    let post = relay.post_request(&ada()).send();
    let crowded = async {
        for _ in 0..250 {
            let mut connection = relay.connect().await;
            connection.send(b"POST /customers HTTP/1.1\r\nhost: relay\r\nx-slow: ").await;
            connections.push(connection);
        }
        let is_full =
            || relay.process().stdout().iter().any(|line| line.contains("few places for connections are left"));
        eventually(async || is_full()).await;
        for path in ["/status", "/metrics", "/healthz", "/readyz"] {
            assert_eq!(ask(operators, Method::GET, path).await.status, 200, "{path}");
        }
    };
    tokio::select! {
        () = crowded => {}
        answer = post => panic!("Segment hangs: {answer:?}"),
    }
}

#[tokio::test]
async fn callers_who_keep_the_operators_connections_in_use_lose_them_to_those_who_come() {
    const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n";
    let relay = Relay::start(&[LISTEN, ("RELAY_ADMIN_TOKEN", TOKEN)]).await;
    let operators = operators(&relay);
    let mut holders = Vec::new();
    for _ in 0..48 {
        let mut holder = Raw::connect(operators).await;
        holder.send(HEALTHZ).await;
        assert_eq!(holder.answer().await.header("connection"), None);
        holders.push(holder);
    }
    let status = ask(operators, Method::GET, "/status");
    let used_again = async {
        let is_full =
            || relay.process().stdout().iter().any(|line| line.contains("few places for connections are left"));
        eventually(async || is_full()).await;
        // The one that was used last is the last that makes room.
        let holder = holders.last_mut().unwrap();
        holder.send(HEALTHZ).await;
        assert_eq!(holder.answer().await.header("connection"), Some("close"));
        assert!(holder.is_closed().await);
    };
    let (answer, ()) = tokio::join!(status, used_again);
    assert_eq!(answer.status, 200);
}
