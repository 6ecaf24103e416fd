//! `dev` and the sandbox's own routes refuse what a web page of another site may send through somebody's browser.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Process, Segment, TOKEN, ada, client};

/// The sandbox's own routes. Segment has none of them.
const OWN: [(&str, &str); 9] = [
    ("POST", "/faults"),
    ("GET", "/faults"),
    ("GET", "/events"),
    ("GET", "/requests"),
    ("GET", "/stats"),
    ("POST", "/reset"),
    ("GET", "/healthz"),
    ("GET", "/"),
    ("OPTIONS", "/faults"),
];

async fn ask(base: &str, (method, path): (&str, &str), headers: &[(&str, &str)]) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client().request(method, format!("{base}{path}")).body(r#"{"status":503}"#);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await.unwrap()
}

/// What a page of another site sends: each of these alone is enough.
fn cross_site(base: &str) -> Vec<Vec<(&'static str, String)>> {
    let port = base.rsplit_once(':').unwrap().1;
    let origins =
        ["https://evil.example".to_owned(), "null".to_owned(), "http://127.0.0.1:1".to_owned(), String::new()];
    let origins = origins.into_iter().chain([format!("http://127.0.0.1.evil.example:{port}"), format!("evil:{port}")]);
    let origins = origins.map(|origin| vec![("origin", origin)]);
    let sites =
        ["cross-site", "same-site", "none, cross-site", ""].map(|site| vec![("sec-fetch-site", site.to_owned())]);
    let both = vec![("sec-fetch-site", "cross-site".to_owned()), ("origin", base.to_owned())];
    origins.chain(sites).chain([both]).collect()
}

/// Names that a site may give this machine's loopback address (DNS rebinding).
fn rebound(port: &str) -> Vec<String> {
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "10.0.0.1",
        "[::2]",
        "",
        "128.0.0.1",
    ]
    .map(|host| format!("{host}:{port}"))
    .to_vec()
}

fn loopback(port: &str) -> Vec<String> {
    ["127.0.0.1", "localhost", "LOCALHOST", "relay.localhost", "127.9.9.9", "[::1]"]
        .into_iter()
        .flat_map(|host| [host.to_owned(), format!("{host}:{port}"), format!("{host}:1")])
        .collect()
}

#[tokio::test]
async fn the_sandboxs_own_routes_refuse_cross_site_requests_and_foreign_hosts() {
    let segment = Segment::start().await;
    let (base, port) = (segment.url(), segment.url().rsplit_once(':').unwrap().1);
    for route in OWN {
        for headers in cross_site(base) {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let answer = ask(base, route, &headers).await;
            assert_eq!(answer.status, 403, "{route:?} {headers:?}");
        }
        for host in rebound(port) {
            assert_eq!(ask(base, route, &[("host", &host)]).await.status, 403, "{route:?} {host}");
        }
    }
    assert_eq!(ask(base, ("GET", "/faults"), &[]).await.body, json!({}), "nothing was changed");
    for host in loopback(port) {
        assert_eq!(ask(base, ("GET", "/stats"), &[("host", &host)]).await.status, 200, "{host}");
    }
    for headers in [
        vec![("origin", base)],
        vec![("sec-fetch-site", "same-origin"), ("origin", base)],
        vec![("sec-fetch-site", "none")],
    ] {
        assert_eq!(ask(base, ("POST", "/faults"), &headers).await.status, 200, "{headers:?}");
    }
    ask(base, ("POST", "/reset"), &[]).await;
    // Segment's own routes are for programs, by whatever name: compose calls the sandbox `sandbox`.
    let call = client().post(format!("{base}/v1/identify")).header("host", "sandbox:8090");
    let call = call.header("origin", "https://evil.example").body(r#"{"userId":"c-1","writeKey":"k"}"#);
    assert_eq!(call.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_sandbox_on_every_address_takes_any_host_and_no_cross_site_request() {
    let mut process = Process::start(&["sandbox", "--listen", "0.0.0.0:0"], &[]);
    let url = process.line(|line| line.strip_prefix("sandbox listening on http://").map(str::to_owned)).await;
    let base = format!("http://127.0.0.1:{}", url.rsplit_once(':').unwrap().1);
    assert_eq!(ask(&base, ("GET", "/stats"), &[("host", "sandbox:8090")]).await.status, 200);
    assert_eq!(ask(&base, ("GET", "/stats"), &[("origin", "https://evil.example")]).await.status, 403);
}

/// A `dev` with these settings, and what it prints.
struct Dev {
    process: Process,
    _data: tempfile::TempDir,
}

impl Dev {
    fn start(settings: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let arguments = ["dev", "--sandbox-listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
        Self { process: Process::start(&arguments, settings), _data: data }
    }

    /// The address after this word on a line of its own.
    async fn url(&mut self, word: &str) -> String {
        self.process.line(|line| line.strip_prefix(word)?.split_whitespace().next().map(str::to_owned)).await
    }

    /// The admin token in the printed lines.
    async fn token(&mut self) -> String {
        self.process.line(|line| line.split_once("Bearer ")?.1.split('"').next().map(str::to_owned)).await
    }
}

#[tokio::test]
async fn dev_listens_on_the_loopback_address_unless_it_is_told_otherwise() {
    // Only the port is told: 0 takes a free one.
    let mut dev = Dev::start(&[("PORT", "0")]);
    let address: SocketAddr = dev
        .process
        .line(|line| {
            let line = serde_json::from_str::<serde_json::Value>(line).ok()?;
            (line["message"] == "segment-relay serves").then(|| line["address"].as_str()?.parse().ok())?
        })
        .await;
    assert!(address.ip().is_loopback(), "{address}");
    let mut told = Dev::start(&[("RELAY_LISTEN", "0.0.0.0:0")]);
    told.process.line(|line| line.contains(r#""address":"0.0.0.0:"#).then_some(())).await;
}

#[tokio::test]
async fn dev_makes_an_admin_token_for_each_run_and_the_printed_lines_work() {
    let (mut first, mut second) = (Dev::start(&[("PORT", "0")]), Dev::start(&[("PORT", "0")]));
    let (token, other) = (first.token().await, second.token().await);
    assert!(token.len() >= 32 && token != other, "{token} {other}");
    let relay = first.url("relay").await;
    for (token, status) in [(&*token, 200), ("dev", 401), (&other, 401)] {
        let answer = client().get(format!("{relay}/status")).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{token}");
    }
    // The line for the command, as a shell runs it.
    let line = first.process.line(|line| line.contains(" dead-letters").then(|| line.trim().to_owned())).await;
    let line = line.replace("segment-relay", env!("CARGO_BIN_EXE_segment-relay"));
    let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    // One that is set is used, and not printed.
    let mut given = Dev::start(&[("PORT", "0"), ("RELAY_ADMIN_TOKEN", TOKEN)]);
    let relay = given.url("relay").await;
    assert_eq!(given.token().await, "$RELAY_ADMIN_TOKEN");
    let answer = client().get(format!("{relay}/status")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!given.process.stdout().concat().contains(TOKEN));
}

#[tokio::test]
async fn devs_relay_and_sandbox_refuse_cross_site_requests_and_foreign_hosts() {
    let mut dev = Dev::start(&[("PORT", "0")]);
    let (relay, sandbox) = (dev.url("relay").await, dev.url("sandbox").await);
    for base in [&relay, &sandbox] {
        for headers in cross_site(base) {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let answer = ask(base, ("GET", "/healthz"), &headers).await;
            assert_eq!(answer.status, 403, "{base} {headers:?}");
        }
        for host in rebound(base.rsplit_once(':').unwrap().1) {
            let status = ask(base, ("GET", "/healthz"), &[("host", &host)]).await.status;
            assert!(matches!(status, 400 | 403), "{base} {host}: {status}");
        }
        for host in ["localhost:8080", "127.0.0.1", "[::1]:1"] {
            assert_eq!(ask(base, ("GET", "/healthz"), &[("host", host)]).await.status, 200, "{base} {host}");
        }
    }
    let post =
        |host: &'static str| client().post(format!("{relay}/customers")).header("host", host).json(&ada()).send();
    assert_eq!(post("evil.example:8080").await.unwrap().status(), 403);
    assert_eq!(post("localhost:8080").await.unwrap().status(), 202);
}

#[tokio::test]
async fn dev_on_two_addresses_refuses_foreign_hosts_on_each_that_is_a_loopback_one() {
    let (public, loopback) = ("0.0.0.0:0", "127.0.0.1:0");
    for (relay_listen, operators_listen) in [(loopback, public), (public, loopback), (loopback, loopback)] {
        let mut dev = Dev::start(&[("RELAY_LISTEN", relay_listen), ("RELAY_ADMIN_LISTEN", operators_listen)]);
        let relay = dev.url("relay").await;
        let operators = dev.process.line(|line| line.split_once(" --url ").map(|(_, url)| url.to_owned())).await;
        for (base, listen) in [(&relay, relay_listen), (&operators, operators_listen)] {
            // A browser takes the page of a site that gave its name this address for one of the same site.
            let rebound =
                [("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")];
            let status = if listen == loopback { 403 } else { 200 };
            assert_eq!(ask(base, ("GET", "/healthz"), &rebound).await.status, status, "{relay_listen} {base}");
            let cross_site = [("origin", "https://evil.example")];
            assert_eq!(ask(base, ("GET", "/healthz"), &cross_site).await.status, 403, "{relay_listen} {base}");
        }
    }
}
