//! How connections end when the relay stops: HTTP/1 with the next answer, HTTP/2 with GOAWAY, and never with a reset.

use crate::harness::{App, Frame, H2, Raw, ada, customer, eventually, frame, get};

/// Long enough that everything a test asks for comes before the end of the delay.
const LONG_DELAY: (&str, &str) = ("RELAY_SHUTDOWN_DELAY", "60s");

async fn stop(app: &App) {
    app.relay().process().signal("TERM");
    // Each look has a connection of its own, so that the signal is seen by the others first.
    eventually(async || asked(&mut app.relay().connect().await, "GET", "/readyz").await.0 == 503).await;
}

/// The status of the answer, and whether it says that the connection ends.
async fn asked(caller: &mut Raw, method: &str, path: &str) -> (u16, bool) {
    caller.send(format!("{method} {path} HTTP/1.1\r\nhost: relay\r\ncontent-length: 0\r\n\r\n")).await;
    let answer = caller.answer().await;
    (answer.status, answer.header("connection") == Some("close"))
}

#[tokio::test]
async fn during_the_shutdown_delay_every_answer_says_that_the_connection_ends_and_it_does() {
    let app = App::with(&[LONG_DELAY]).await;
    let requests = [
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/customers", 405),
        ("POST", "/customers", 415),
    ];
    let mut kept = Vec::new();
    for (method, path, status) in requests {
        let mut caller = app.relay().connect().await;
        assert_eq!(asked(&mut caller, method, path).await, (status, false), "{path}");
        kept.push(caller);
    }
    let (mut poster, mut old) = (app.relay().connect().await, app.relay().connect().await);
    old.send("GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    assert_eq!(old.answer().await.header("connection"), Some("keep-alive"));
    stop(&app).await;
    for ((method, path, status), mut caller) in requests.into_iter().zip(kept) {
        assert_eq!(asked(&mut caller, method, path).await, (status, true), "{path}");
        assert!(caller.is_closed().await, "{path}");
    }
    poster.post(&ada().to_string()).await;
    let answer = poster.answer().await;
    assert!(answer.is_accepted() && answer.header("connection") == Some("close"), "{answer:?}");
    assert!(poster.is_closed().await);
    old.send("GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    assert_eq!(old.answer().await.header("connection"), Some("close"));
    assert!(old.is_closed().await);
}

#[tokio::test]
async fn during_the_shutdown_delay_http2_peers_get_goaway_and_their_requests_are_answered() {
    let app = App::with(&[LONG_DELAY]).await;
    let whole = Frame::END_HEADERS | Frame::END_STREAM;
    let mut peer = H2::connect(app.relay().address(), &[]).await;
    peer.send(frame(Frame::HEADERS, whole, 1, &get("/healthz"))).await;
    peer.next_of(Frame::DATA).await.expect("an answer");
    stop(&app).await;
    let told = peer.next_of(Frame::GOAWAY).await.expect("to be told");
    assert_eq!(told.error(), Some(0));
    // Sent before it was heard: it is answered, because its end is only announced.
    peer.send(frame(Frame::HEADERS, whole, 3, &get("/healthz"))).await;
    let answer = peer.next_of(Frame::DATA).await.expect("an answer");
    assert_eq!(answer.stream, 3);
    // One that comes later is told as well.
    let mut late = H2::connect(app.relay().address(), &[]).await;
    late.send(frame(Frame::HEADERS, whole, 1, &get("/healthz"))).await;
    let (mut is_told, mut is_answered) = (false, false);
    while !is_told || !is_answered {
        let frame = late.next().await.expect("GOAWAY and an answer");
        is_told |= frame.kind == Frame::GOAWAY && frame.error() == Some(0);
        is_answered |= frame.kind == Frame::DATA;
    }
}

#[tokio::test]
async fn after_the_shutdown_delay_connections_that_were_just_used_are_served_once_more_and_new_ones_are_refused() {
    let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", "100ms")]).await;
    let mut kept = app.relay().connect().await;
    kept.post(&ada().to_string()).await;
    assert!(kept.answer().await.is_accepted());
    app.relay().process().signal("TERM");
    eventually(async || tokio::net::TcpStream::connect(app.relay().address()).await.is_err()).await;
    kept.post(&customer("c-2").to_string()).await;
    let answer = kept.answer().await;
    assert!(answer.is_accepted() && answer.header("connection") == Some("close"), "{answer:?}");
    assert!(kept.is_closed().await);
    assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0));
    assert_eq!(app.segment().received().await.len(), 2);
}

#[tokio::test]
async fn connections_that_the_system_has_accepted_before_a_stop_are_answered() {
    for delay in ["0s", "100ms"] {
        let mut app = App::with(&[("RELAY_SHUTDOWN_DELAY", delay)]).await;
        let relay = app.relay();
        // Everything below comes at once for the process.
        relay.process().signal("STOP");
        let mut callers = Vec::new();
        for number in 0..60 {
            let mut caller = relay.connect().await;
            caller.post(&customer(&format!("c-{number}")).to_string()).await;
            callers.push(caller);
        }
        relay.process().signal("TERM");
        relay.process().signal("CONT");
        for mut caller in callers {
            let answer = caller.answer().await;
            // A relay that drains takes no more calls, and says so.
            assert!(matches!(answer.status, 200 | 503), "{delay}: {answer:?}");
        }
        assert_eq!(app.relay_mut().process_mut().exit_code().await, Some(0), "{delay}");
    }
}
