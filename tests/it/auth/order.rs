//! What is said first when several things are wrong, and that who is refused early gets to read it.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::{BODY, SCHEMES, borrowed, credentials, guarded, owned, refused, secret};
use crate::harness::sign::Webhook;
use crate::harness::{Answer, App, Durable, PATIENCE, TOKEN, client, eventually, head};

/// The largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

type Headers = Vec<(String, String)>;

/// Per scheme: credentials of which the head alone shows that they are wrong.
fn wrong_by_the_head() -> Vec<(&'static str, Headers)> {
    let stale = Webhook::sign_at(&secret("standard-webhooks", "a"), "msg_1", "1614265330", BODY);
    vec![
        ("standard-webhooks", Headers::new()),
        ("standard-webhooks", owned(&stale.headers())),
        ("standard-webhooks", owned(&Webhook { timestamp: "soon".to_owned(), ..stale }.headers())),
        ("hmac", Headers::new()),
        ("bearer", Headers::new()),
        ("bearer", credentials("bearer", &secret("bearer", "wrong"), "", "")),
        ("basic", Headers::new()),
        ("basic", credentials("basic", &secret("basic", "wrong"), "", "")),
    ]
}

fn lines(headers: &Headers) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// The answer to a sender who announces more than it sends, of a relay that is quick to lose patience.
async fn half_sent(scheme: &str, headers: &Headers) -> Answer {
    let secret = secret(scheme, "a");
    let settings = [("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &secret), ("RELAY_REQUEST_TIMEOUT", "300ms")];
    let app = App::with(&settings).await;
    let mut caller = app.relay().connect().await;
    caller.send(head(&format!("{}content-length: 100\r\n", lines(headers))) + r#"{"userId": "#).await;
    caller.answer().await
}

#[tokio::test]
async fn what_the_head_shows_goes_before_everything_about_the_body() {
    for (scheme, headers) in wrong_by_the_head() {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        for further in [&[("content-type", "text/plain")][..], &[("content-encoding", "gzip")], &[]] {
            for body in [BODY.to_owned(), "{".to_owned(), "{}".to_owned(), " ".repeat(MAX_BODY + 1)] {
                refused(&app.post_with(&[&borrowed(&headers)[..], further].concat(), body).await);
            }
        }
        refused(&half_sent(scheme, &headers).await);
    }
}

#[tokio::test]
async fn a_signature_is_looked_at_when_the_body_is_there_and_before_what_it_means() {
    for scheme in ["standard-webhooks", "hmac"] {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        let headers = credentials(scheme, &secret(scheme, "wrong"), "msg_1", BODY);
        let with = |further: (&'static str, &'static str)| [&borrowed(&headers)[..], &[further]].concat();
        let plain = app.post_with(&with(("content-type", "text/plain")), BODY).await;
        plain.assert_failed(415, "unsupported_media_type");
        let compressed = app.post_with(&with(("content-encoding", "gzip")), BODY).await;
        compressed.assert_failed(415, "unsupported_media_type");
        let large = app.post_with(&borrowed(&headers), " ".repeat(MAX_BODY + 1)).await;
        large.assert_failed(413, "message_too_large");
        half_sent(scheme, &headers).await.assert_failed(408, "request_timeout");
        for body in [BODY, "{", "", "{}", r#"{"userId":"","traits":[]}"#] {
            refused(&app.post_with(&borrowed(&headers), body).await);
        }
    }
}

#[tokio::test]
async fn who_is_let_in_hears_what_is_wrong_with_the_rest() {
    for scheme in SCHEMES {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        let post = async |further: &[(&str, &str)], body: &str| {
            let headers = credentials(scheme, &secret(scheme, "a"), "msg_1", body);
            app.post_with(&[&borrowed(&headers)[..], further].concat(), body.to_owned()).await
        };
        post(&[("content-type", "text/plain")], BODY).await.assert_failed(415, "unsupported_media_type");
        post(&[("content-encoding", "gzip")], BODY).await.assert_failed(415, "unsupported_media_type");
        post(&[], &" ".repeat(MAX_BODY + 1)).await.assert_failed(413, "message_too_large");
        post(&[], "{").await.assert_failed(400, "invalid_json");
        post(&[], "{}").await.assert_failed(422, "invalid_payload");
        assert!(post(&[], BODY).await.is_accepted());
        let headers = credentials(scheme, &secret(scheme, "a"), "msg_1", BODY);
        half_sent(scheme, &headers).await.assert_failed(408, "request_timeout");
    }
}

#[tokio::test]
async fn a_stranger_is_401_even_when_there_is_no_place() {
    for scheme in SCHEMES {
        let secret = secret(scheme, "a");
        let settings = [
            ("RELAY_AUTH", scheme),
            ("RELAY_AUTH_SECRETS", &*secret),
            ("RELAY_MAX_IN_FLIGHT", "1"),
            // The first caller stays for as long as this test may take.
            ("RELAY_REQUEST_TIMEOUT", "10m"),
            ("SEGMENT_TIMEOUT", "10m"),
        ];
        let app = App::with(&settings).await;
        app.segment().fail(json!({"hang": true})).await;
        let right = credentials(scheme, &secret, "msg_1", BODY);
        let mut first = app.relay().connect().await;
        first.send(head(&format!("{}content-length: {}\r\n", lines(&right), BODY.len())) + BODY).await;
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        let wrong = credentials(scheme, &super::secret(scheme, "wrong"), "msg_1", BODY);
        refused(&app.post_with(&borrowed(&wrong), BODY).await);
        refused(&app.post_with(&[], BODY).await);
        app.post_with(&borrowed(&right), BODY).await.assert_failed(503, "overloaded");
    }
}

#[tokio::test]
async fn a_relay_that_drains_says_so_to_strangers_too() {
    for scheme in SCHEMES {
        let secret = secret(scheme, "a");
        let settings = [("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &*secret), ("RELAY_SHUTDOWN_DELAY", "0s")];
        let mut app = App::with(&settings).await;
        let mut late = app.relay().connect().await;
        let request = head(&format!("content-length: {}\r\n", BODY.len())) + BODY;
        let (now, later) = request.split_at(20);
        late.send(now).await;
        app.relay().process().signal("TERM");
        eventually(async || app.relay().try_get("/readyz").await.is_err()).await;
        // It may be too late even for that.
        if late.try_send(later).await.is_ok()
            && let Some(answer) = late.answer_within(PATIENCE).await
        {
            answer.assert_failed(503, "shutting_down");
        }
        assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
    }
}

/// What is read by a sender who reads nothing before it has sent all of this.
async fn sent_first(app: &App, further: &str, body: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    // Or all of it might lie in buffers on the way, and nobody would have to read it.
    socket.set_send_buffer_size(8 * 1024).unwrap();
    let mut stream = socket.connect(app.relay().address()).await.unwrap();
    let request = head(&format!("connection: close\r\n{further}")) + body;
    let whole = async {
        stream.write_all(request.as_bytes()).await.expect("the relay reads it");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    timeout(PATIENCE, whole).await.expect("an answer in time")
}

#[tokio::test]
async fn who_sends_all_before_reading_reads_the_401() {
    // 1 MiB is what is read of a body that is refused.
    let (body, chunk) = (" ".repeat(1_000_000), format!("{:x}\r\n{}\r\n", 50_000, " ".repeat(50_000)));
    for (scheme, headers) in wrong_by_the_head() {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        let lines = lines(&headers);
        let answers = [
            sent_first(&app, &format!("{lines}content-length: {}\r\n", body.len()), &body).await,
            sent_first(&app, &format!("{lines}transfer-encoding: chunked\r\n"), &(chunk.repeat(20) + "0\r\n\r\n"))
                .await,
        ];
        for answer in answers {
            assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains(r#""code":"unauthorized""#), "{answer}");
        }
        // Who asks first need not send it.
        let mut caller = app.relay().connect().await;
        caller.send(head(&format!("{lines}expect: 100-continue\r\ncontent-length: 1000\r\n"))).await;
        refused(&caller.answer().await);
    }
}

#[tokio::test]
async fn who_was_refused_may_try_again_on_the_same_connection() {
    for scheme in SCHEMES {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        let mut caller = app.relay().connect().await;
        for seed in ["wrong", "a", "wrong", "wrong", "a"] {
            let headers = credentials(scheme, &secret(scheme, seed), "msg_1", BODY);
            caller.send(head(&format!("{}content-length: {}\r\n", lines(&headers), BODY.len())) + BODY).await;
            let answer = caller.answer().await;
            if seed == "a" {
                assert!(answer.is_accepted(), "{answer:?}");
            } else {
                refused(&answer);
            }
        }
    }
}

#[tokio::test]
async fn a_signed_body_of_64_kib_is_taken_whole_or_in_pieces() {
    let body = format!("{BODY}{}", " ".repeat(MAX_BODY - BODY.len()));
    for scheme in SCHEMES {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        let headers = credentials(scheme, &secret(scheme, "a"), "msg_1", &body);
        let answer = app.post_with(&borrowed(&headers), body.clone()).await;
        assert!(answer.is_accepted(), "{scheme}: {answer:?}");
        let mut caller = app.relay().connect().await;
        caller.send(head(&format!("{}transfer-encoding: chunked\r\n", lines(&headers)))).await;
        for piece in body.as_bytes().chunks(5_000) {
            caller.send(format!("{:x}\r\n", piece.len())).await;
            caller.send(piece).await;
            caller.send("\r\n").await;
        }
        caller.send("0\r\n\r\n").await;
        let answer = caller.answer().await;
        assert!(answer.is_accepted(), "{scheme}: {answer:?}");
    }
}

#[tokio::test]
async fn nothing_but_the_customers_is_guarded_and_operators_keep_their_own_token() {
    for scheme in SCHEMES {
        let secret = secret(scheme, "a");
        let durable = Durable::with(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &secret)]).await;
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(durable.get(path).await.status, 200, "{path}");
        }
        durable.get("/nothing").await.assert_failed(404, "not_found");
        let other_method = durable.get("/customers").await;
        other_method.assert_failed(405, "method_not_allowed");
        assert_eq!(other_method.header("allow"), Some("POST"));
        assert_eq!(durable.operate(Method::GET, "/status").await.status, 200);
        for path in ["/status", "/dead-letters"] {
            let mut request = client().get(durable.relay().url(path));
            for (name, value) in credentials(scheme, &secret, "msg_1", "") {
                request = request.header(name, value);
            }
            let answer = Answer::of(request.send().await.unwrap()).await.unwrap();
            assert_eq!(answer.status, 401, "{scheme} {path}: {answer:?}");
        }
        let operators = format!("Bearer {TOKEN}");
        refused(&durable.post_with(&[("authorization", &operators)], BODY).await);
    }
}
