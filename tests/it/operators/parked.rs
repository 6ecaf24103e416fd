//! Parked users: operators list them, try their calls now or give them up, over HTTP and on the command line.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, App, Durable, Process, TOKEN};

/// Every route, and its answer while nobody is parked.
const ROUTES: [(&str, &str, u16); 7] = [
    ("GET", "/parked", 200),
    ("GET", "/parked?limit=1000&before=7", 200),
    ("POST", "/parked/7/retry", 404),
    ("POST", "/parked/7/give-up", 404),
    ("POST", "/parked/retry", 202),
    ("POST", "/parked/give-up", 202),
    ("POST", "/parked/give-up?status=503", 202),
];

async fn ask(app: &App, method: &str, path: &str) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = app.relay().request(method, path).bearer_auth(TOKEN);
    Answer::of(request.send().await.unwrap()).await.unwrap()
}

async fn operate(durable: &Durable, method: &str, path: &str) -> Answer {
    durable.operate(Method::from_bytes(method.as_bytes()).unwrap(), path).await
}

#[tokio::test]
async fn while_nobody_is_parked_the_list_is_empty_and_nothing_is_tried_or_given_up() {
    let durable = Durable::start().await;
    for (method, path, status) in ROUTES {
        let answer = operate(&durable, method, path).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let unknown = durable.relay().request(Method::from_bytes(method.as_bytes()).unwrap(), path).send().await;
        assert_eq!(unknown.unwrap().status(), 401, "{method} {path}");
    }
    assert_eq!(operate(&durable, "GET", "/parked").await.body, json!({"parked": [], "next": null}));
    assert_eq!(operate(&durable, "POST", "/parked/retry").await.body, json!({"retried": 0}));
    assert_eq!(operate(&durable, "POST", "/parked/give-up").await.body, json!({"gaveUp": 0}));
    operate(&durable, "POST", "/parked/seven/retry").await.assert_failed(404, "not_found");
    operate(&durable, "GET", "/parked/retry").await.assert_failed(405, "method_not_allowed");
    let status = operate(&durable, "GET", "/status").await;
    assert_eq!(status.body["outbox"]["parked"], json!({"users": 0, "calls": 0, "bytes": 0}));
}

#[tokio::test]
async fn a_wrong_query_does_nothing() {
    let durable = Durable::start().await;
    for (method, path) in [
        ("GET", "/parked?limit=0"),
        ("GET", "/parked?limit=1001"),
        ("GET", "/parked?before=x"),
        ("GET", "/parked?source=shop"),
        ("GET", "/parked?userId="),
        ("POST", "/parked/retry?status="),
        ("POST", "/parked/retry?status=7"),
        ("POST", "/parked/retry?source="),
        ("POST", "/parked/give-up?staus=503"),
        ("POST", "/parked/give-up?status=503&status=400"),
    ] {
        operate(&durable, method, path).await.assert_failed(422, "invalid_payload");
    }
}

#[tokio::test]
async fn without_an_outbox_nobody_is_parked_and_without_a_token_the_paths_do_not_exist() {
    let operated = App::with(&[("RELAY_ADMIN_TOKEN", TOKEN)]).await;
    let plain = App::start().await;
    for (method, path, _) in ROUTES {
        let answer = ask(&operated, method, path).await;
        answer.assert_failed(404, "not_found");
        assert!(answer.message().contains("RELAY_OUTBOX_URL"), "{answer:?}");
        let answer = ask(&plain, method, path).await;
        answer.assert_failed(404, "not_found");
        assert_eq!(answer.message(), plain.get("/nothing").await.message());
    }
}

/// Runs `parked` against this relay. Returns the exit code, stdout and stderr.
async fn command(durable: &Durable, arguments: &[&str]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let address = durable.relay().address().to_string();
    let settings = [("RELAY_LISTEN", &*address), ("RELAY_ADMIN_TOKEN", TOKEN)];
    let mut process = Process::start(&[&["parked"], arguments].concat(), &settings);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}

#[tokio::test]
async fn the_command_line_asks_the_relay_and_wants_to_be_told_whom_it_means() {
    let durable = Durable::start().await;
    for (arguments, line) in [
        (&["list"][..], Some("Nobody is parked.")),
        (&["list", "--user-id", "c&1"], Some("Nobody is parked.")),
        (&["list", "--json"], None),
        (&["retry", "--all"], Some("retried 0 calls")),
        (&["retry", "--status", "503"], Some("retried 0 calls")),
        (&["retry", "--user-id", "c&1"], Some("retried 0 calls")),
        (&["give-up", "--all"], Some("gave up 0 calls")),
        (&["give-up", "--status", "403"], Some("gave up 0 calls")),
    ] {
        let (code, stdout, stderr) = command(&durable, arguments).await;
        assert_eq!((code, stderr), (Some(0), vec![]), "{arguments:?}");
        assert_eq!(stdout.first().map(String::as_str), line, "{arguments:?}");
    }
    for verb in ["retry", "give-up"] {
        let (code, stdout, stderr) = command(&durable, &[verb, "7", "8"]).await;
        assert_eq!((code, stdout, stderr.len()), (Some(1), vec![], 2), "{stderr:?}");
        for ambiguous in [&[verb][..], &[verb, "--all", "7"], &[verb, "--status", "503", "7"], &[verb, "--status", "x"]]
        {
            assert_eq!(command(&durable, ambiguous).await.0, Some(2), "{ambiguous:?}");
        }
    }
}
