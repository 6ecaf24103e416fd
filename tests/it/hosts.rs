//! The `Host` of a request: exactly one, and a valid one, on every path; and what `:authority` is to HTTP/2.

use crate::harness::{App, Frame, H2, Raw, TOKEN, ada, frame};

/// Paths of every kind: customers, health, documents, operators, and one that does not exist.
const PATHS: [&str; 8] =
    ["/customers", "/healthz", "/metrics", "/docs", "/status", "/dead-letters", "/parked/7/retry", "/nothing"];

/// Lines about the host that are refused.
const REFUSED: [(&str, &str); 25] = [
    ("none", ""),
    ("two that are equal", "host: relay\r\nhost: relay\r\n"),
    ("two that differ", "host: relay\r\nhost: other\r\n"),
    ("two, one of them empty", "host: relay\r\nhost:\r\n"),
    ("an empty one", "host:\r\n"),
    ("one of a blank", "host:  \r\n"),
    ("a port alone", "host: :8080\r\n"),
    ("a blank inside", "host: relay other\r\n"),
    ("a slash", "host: relay/other\r\n"),
    ("a whole URL", "host: http://relay\r\n"),
    ("a user", "host: user@relay\r\n"),
    ("a comma", "host: relay,other\r\n"),
    ("a comma and a blank", "host: relay, other\r\n"),
    ("a port that is no number", "host: relay:http\r\n"),
    ("a port over 65535", "host: relay:65536\r\n"),
    ("a port with a sign", "host: relay:+80\r\n"),
    ("two ports", "host: relay:80:80\r\n"),
    ("bytes beyond ASCII", "host: caf\u{e9}\r\n"),
    ("half an address", "host: [::1\r\n"),
    ("an address without brackets", "host: ::1\r\n"),
    ("brackets around a name", "host: [relay]\r\n"),
    ("a tab inside", "host: a\tb\r\n"),
    ("a broken percent", "host: a%2\r\n"),
    ("a query", "host: relay?x\r\n"),
    ("a backslash", "host: relay\\other\r\n"),
];

/// Lines that are taken.
const TAKEN: [&str; 8] = [
    "host: relay\r\n",
    "HOST: RELAY.example.com.\r\n",
    "host: relay:8080\r\n",
    "host: relay:\r\n",
    "host: segment_relay:80\r\n",
    "host: 127.0.0.1:8080\r\n",
    "host: [::1]:8080\r\n",
    "host: caf%C3%A9\r\n",
];

async fn with_operators() -> App {
    App::with(&[("RELAY_ADMIN_TOKEN", TOKEN)]).await
}

#[tokio::test]
async fn a_host_that_is_missing_repeated_or_invalid_is_400_on_every_path() {
    let app = with_operators().await;
    for (name, lines) in REFUSED {
        // Each answer leaves the connection as it is: the request was whole.
        let mut caller = app.relay().connect().await;
        for path in PATHS {
            caller.send(format!("GET {path} HTTP/1.1\r\n{lines}\r\n")).await;
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.code()), (400, "bad_request"), "{name} {path}");
            answer.assert_failed(400, "bad_request");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    let counted = app.relay().metric(r#"segment_relay_requests_total{code="bad_request",result="refused"}"#).await;
    assert_eq!(counted, REFUSED.len() as f64);
}

#[tokio::test]
async fn a_customer_without_a_host_is_not_sent() {
    let app = App::start().await;
    let body = ada().to_string();
    for host in ["", "host: a\r\nhost: b\r\n"] {
        let mut caller = app.relay().connect().await;
        let length = body.len();
        let head = format!(
            "POST /customers HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        caller.send(head + &body).await;
        caller.answer().await.assert_failed(400, "bad_request");
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn a_valid_host_is_taken_and_http_1_0_needs_none() {
    let app = App::start().await;
    let mut caller = app.relay().connect().await;
    for lines in TAKEN {
        caller.send(format!("GET /healthz HTTP/1.1\r\n{lines}\r\n")).await;
        assert_eq!(caller.answer().await.status, 200, "{lines}");
    }
    let asked = async |request: &str| {
        let mut caller: Raw = app.relay().connect().await;
        caller.send(request).await;
        caller.answer().await.status
    };
    assert_eq!(asked("GET /healthz HTTP/1.0\r\n\r\n").await, 200);
    assert_eq!(asked("GET /healthz HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n").await, 400);
    assert_eq!(asked("GET /healthz HTTP/1.0\r\nhost: a/b\r\n\r\n").await, 400);
    // The host of the target counts; the header must be sound all the same.
    assert_eq!(asked("GET http://else:80/healthz HTTP/1.1\r\nhost: relay\r\n\r\n").await, 200);
    assert_eq!(asked("GET http://else/healthz HTTP/1.1\r\n\r\n").await, 400);
    assert_eq!(asked("GET http://user@else/healthz HTTP/1.1\r\nhost: else\r\n\r\n").await, 400);
    assert_eq!(asked("GET http://else/healthz HTTP/1.1\r\nhost: a b\r\n\r\n").await, 400);
    assert_eq!(asked("OPTIONS * HTTP/1.1\r\nhost: relay\r\n\r\n").await, 404);
}

/// The status in HTTP/2 of `GET /healthz` with this `:authority` and this host.
async fn http2_status(app: &App, authority: Option<&str>, hosts: &[&str]) -> &'static str {
    let text = |name: &[u8], value: &str| {
        [name, &[u8::try_from(value.len()).expect("a short value")], value.as_bytes()].concat()
    };
    // `:method: GET` and `:scheme: http` of the static table, `:path` and `:authority` by their index, `host` as text.
    let mut head = [&[0x82, 0x86][..], &text(&[0x04], "/healthz")].concat();
    head.extend(authority.iter().flat_map(|authority| text(&[0x01], authority)));
    head.extend(hosts.iter().flat_map(|host| text(&[0x00, 4, b'h', b'o', b's', b't'], host)));
    let mut peer = H2::connect(app.relay().address(), &[]).await;
    peer.send(frame(Frame::HEADERS, Frame::END_HEADERS | Frame::END_STREAM, 1, &head)).await;
    loop {
        let frame = peer.next().await.expect("an answer");
        match (frame.kind, &frame.payload[..]) {
            (Frame::RST_STREAM, _) => return "reset",
            (Frame::DATA, [b'{', b'"', b's', b't', ..]) => return "200",
            (Frame::DATA, body) if String::from_utf8_lossy(body).contains("bad_request") => return "400",
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_http2_request_without_host_and_authority_or_with_two_that_differ_is_400() {
    let app = App::start().await;
    for (authority, hosts, expected) in [
        (Some("relay"), &[][..], "200"),
        (None, &["relay"], "200"),
        (Some("relay:80"), &["RELAY:80"], "200"),
        (None, &[], "400"),
        (Some("relay"), &["other"], "400"),
        (Some("relay"), &["relay", "relay"], "400"),
        (None, &["relay", "other"], "400"),
        (None, &["a/b"], "400"),
        (Some("relay"), &[""], "400"),
        (Some("user@relay"), &[], "400"),
    ] {
        assert_eq!(http2_status(&app, authority, hosts).await, expected, "{authority:?} {hosts:?}");
    }
}
