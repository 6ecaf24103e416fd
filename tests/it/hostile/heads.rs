//! Heads that are too large, too slow, or none at all.

use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;

use super::withstand;
use crate::harness::{App, customer, head};

/// Callers who speak slowly, or not.
const SLOW_CALLERS: usize = 200;

/// Connections on which noise is sent.
const NOISY_CALLERS: usize = 2_000;

/// Between two bytes of a slow caller.
const PAUSE: Duration = Duration::from_millis(500);

/// Longer than any head may be, in bytes.
const TOO_LONG: usize = 33 * 1024;

/// `count` headers of a few bytes each.
fn headers(count: usize) -> String {
    (0..count).map(|n| format!("x-{n}: y\r\n")).collect()
}

/// What is said to these bytes until the relay closes.
async fn said_to(app: &App, bytes: impl AsRef<[u8]>) -> String {
    let mut caller = app.relay().connect().await;
    // It may have been refused before all is sent.
    let _ = caller.try_send(bytes).await;
    String::from_utf8_lossy(&caller.rest().await).into_owned()
}

#[tokio::test]
async fn a_head_that_is_too_large_or_none_is_refused_and_the_connection_ends() {
    let long = "x".repeat(TOO_LONG);
    let post = |line: &str| head(&format!("content-length: 0\r\n{line}\r\n"));
    let heads = [
        ("101 headers", "431", head(&headers(99))),
        ("a header of 33 KiB", "431", post(&format!("x: {long}"))),
        ("the same in many headers", "431", post(&format!("x: {}", "y\r\nx: ".repeat(TOO_LONG / 6)))),
        ("a name of 33 KiB", "431", post(&format!("{long}: x"))),
        ("a path of 33 KiB", "431", format!("GET /{long} HTTP/1.1\r\nhost: relay\r\n\r\n")),
        ("a method of 33 KiB", "431", format!("{long} / HTTP/1.1\r\nhost: relay\r\n\r\n")),
        ("a path of 64 KiB", "431", format!("GET /{long}{long} HTTP/1.1\r\nhost: relay\r\n\r\n")),
        ("a length of 2^64 - 1", "431", head("content-length: 18446744073709551615\r\n")),
        ("a NUL in a value", "400", post("x: a\0b")),
        ("a NUL in a name", "400", post("x\0: ab")),
        ("a bare CR in a value", "400", post("x: a\rb")),
        ("a line that is folded", "400", post("x: a\r\n b")),
        ("a space before a colon", "400", post("x : a")),
        ("a line without a colon", "400", post("x")),
        ("a name that is empty", "400", post(": x")),
        ("a path with a space", "400", "GET /a b HTTP/1.1\r\nhost: relay\r\n\r\n".into()),
        ("a path with a NUL", "400", "GET /\0 HTTP/1.1\r\nhost: relay\r\n\r\n".into()),
        ("no path", "400", "GET HTTP/1.1\r\nhost: relay\r\n\r\n".into()),
        ("HTTP/0.9", "400", "GET /\r\n\r\n".into()),
        ("HTTP/3.0", "400", "GET / HTTP/3.0\r\nhost: relay\r\n\r\n".into()),
        ("HTTP/1.10", "400", "GET / HTTP/1.10\r\nhost: relay\r\n\r\n".into()),
        ("no protocol at all", "400", "hello\r\n\r\n".into()),
        ("a TLS ClientHello", "400", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".into()),
    ];
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        for (name, status, head) in heads {
            let said = said_to(app, head).await;
            assert_eq!(said.get(9..12), Some(status), "{name}: {said}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_odd_and_allowed_is_answered() {
    let body = customer("odd-1").to_string();
    let (length, close) = (body.len(), "connection: close\r\n");
    let json = format!("content-type: application/json\r\ncontent-length: {length}\r\n{close}");
    let post = |further: &str| head(&format!("content-length: {length}\r\n{close}{further}")) + &body;
    let requests = [
        ("100 headers", "200", post(&headers(96))),
        ("a head of nearly 32 KiB", "200", post(&format!("x: {}\r\n", "y".repeat(32_000)))),
        ("no host", "400", format!("POST /customers HTTP/1.1\r\n{json}\r\n{body}")),
        ("HTTP/1.0", "200", format!("POST /customers HTTP/1.0\r\n{json}\r\n{body}")),
        ("a URI with a host", "200", format!("POST http://else/customers HTTP/1.1\r\nhost: relay\r\n{json}\r\n{body}")),
        ("empty lines before it", "200", "\r\n\r\n".to_owned() + &post("")),
        ("lines that end with LF alone", "200", post("").replace("\r\n", "\n")),
        ("bytes beyond ASCII in a value", "200", post("x: \u{fc}\r\n")),
        ("an upgrade to h2c", "200", post("upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n")),
        ("an upgrade to websocket", "200", post("upgrade: websocket\r\nsec-websocket-version: 13\r\n")),
        ("an expectation", "100", post("expect: 100-continue\r\n")),
        ("an expectation nobody knows", "200", post("expect: wonders\r\n")),
        ("TRACE", "405", format!("TRACE /customers HTTP/1.1\r\nhost: relay\r\n{close}\r\n")),
        ("OPTIONS", "405", format!("OPTIONS /customers HTTP/1.1\r\nhost: relay\r\n{close}\r\n")),
        ("OPTIONS *", "404", format!("OPTIONS * HTTP/1.1\r\nhost: relay\r\n{close}\r\n")),
        ("CONNECT", "404", format!("CONNECT else:443 HTTP/1.1\r\nhost: else:443\r\n{close}\r\n")),
        ("a method nobody knows", "405", format!("BREW /customers HTTP/1.1\r\nhost: relay\r\n{close}\r\n")),
        (
            "a path that climbs",
            "404",
            format!("GET /customers/../../etc/passwd HTTP/1.1\r\nhost: relay\r\n{close}\r\n"),
        ),
        ("a path with percents", "404", format!("GET /%00%2e%2e%2f HTTP/1.1\r\nhost: relay\r\n{close}\r\n")),
    ];
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        for (name, status, request) in requests {
            let said = said_to(app, request).await;
            assert_eq!(said.get(9..12), Some(status), "{name}: {said}");
        }
    })
    .await;
}

#[tokio::test]
async fn noise_is_no_request() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let mut random = Rng::with_seed(4);
        for _ in 0..NOISY_CALLERS {
            let mut caller = app.relay().connect().await;
            let mut noise = vec![0; random.usize(1..2_000)];
            random.fill(&mut noise);
            if random.bool() {
                noise.splice(..0, *b"POST /customers HTTP/1.1\r\n");
            }
            // Refused before all is sent, or left in the middle: both are as good.
            let _ = caller.try_send(noise).await;
        }
    })
    .await;
}

/// Many callers whose heads never end, until they are closed.
pub(super) async fn never_end(app: &App) {
    join_all((0..SLOW_CALLERS).map(|n| dribble(app, n))).await;
}

/// Sends a head byte by byte, or a part of it and then nothing, until the relay closes.
async fn dribble(app: &App, number: usize) {
    let mut caller = app.relay().connect().await;
    caller.send(&head("x-slow: ")[..1 + number % 80]).await;
    if !number.is_multiple_of(3) {
        while caller.try_send("y").await.is_ok() && caller.answer_within(PAUSE).await.is_none() {}
    }
    caller.rest().await;
}
