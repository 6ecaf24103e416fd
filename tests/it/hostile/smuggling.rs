//! Requests that could be read in two ways: the relay and a proxy before it must not disagree about where one ends.

use super::withstand;
use crate::harness::{App, head};

/// A customer of 34 bytes.
const CUSTOMER: &str = r#"{"userId":"hostile-1","traits":{}}"#;

/// Lines about the length that mean two things, or nothing. Each is refused: 400, and the connection ends.
const AMBIGUOUS: [&str; 24] = [
    "content-length: 34\r\ncontent-length: 35\r\n",
    "content-length: 34, 35\r\n",
    "content-length: 0\r\ncontent-length: 34\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "transfer-encoding: chunked, chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: xchunked\r\n",
    "transfer-encoding: chunked, identity\r\n",
    "transfer-encoding: identity\r\n",
    "transfer-encoding: gzip\r\n",
    "transfer-encoding : chunked\r\n",
    "transfer-encoding\t: chunked\r\n",
    " transfer-encoding: chunked\r\n",
    "x: y\r\n transfer-encoding: chunked\r\n",
    "x: y\r\n\ttransfer-encoding: chunked\r\n",
    "transfer\0-encoding: chunked\r\n",
    "content-length : 34\r\n",
    "content-length: +34\r\n",
    "content-length: -34\r\n",
    "content-length: 3 4\r\n",
    "content-length: 0x22\r\n",
    "content-length: 34.0\r\n",
    "content-length:\r\n",
    "content-length: 18446744073709551616\r\n",
];

/// Chunks that are none. Each ends the request with 400, and the connection with it.
const BROKEN_CHUNKS: [&str; 10] = [
    "-22\r\n",
    "+22\r\n",
    "0x22\r\n",
    "g\r\n",
    "\r\n",
    "22\n",
    "10000000000000022\r\n",
    "fffffffffffffffff\r\n",
    "22 22\r\n",
    "22;a\nb\r\n",
];

/// A whole request, which is to be taken for none.
fn smuggled() -> String {
    let body = CUSTOMER.replace("hostile-1", "hostile-2");
    head(&format!("content-length: {}\r\n", body.len())) + &body
}

/// Sends these bytes and what is to be taken for no request, and returns the statuses of all answers until the relay
/// closes.
async fn statuses(app: &App, sent: &str) -> Vec<u16> {
    let mut caller = app.relay().connect().await;
    // It may have been refused before all is sent.
    let _ = caller.try_send(sent.to_owned() + &smuggled()).await;
    let said = caller.rest().await;
    let said = String::from_utf8(said).expect("text");
    said.split("HTTP/1.1 ").filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

#[tokio::test]
async fn a_length_that_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_a_request() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        for lines in AMBIGUOUS {
            assert_eq!(statuses(app, &(head(lines) + CUSTOMER)).await, [400], "{lines:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn chunks_that_are_none_are_refused_and_nothing_after_them_is_a_request() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        for size in BROKEN_CHUNKS {
            let sent = head("transfer-encoding: chunked\r\n") + size + CUSTOMER + "\r\n0\r\n\r\n";
            assert_eq!(statuses(app, &sent).await, [400], "{size:?}");
        }
        let no_end = format!("22\r\n{CUSTOMER}0\r\n\r\n");
        assert_eq!(statuses(app, &(head("transfer-encoding: chunked\r\n") + &no_end)).await, [400]);
    })
    .await;
}

#[tokio::test]
async fn where_a_length_and_chunks_are_announced_the_chunks_count_and_the_connection_ends() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let good = CUSTOMER.replace("hostile-1", "chunked-1");
        for lines in [
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 500\r\n",
        ] {
            let sent = format!("{}22\r\n{good}\r\n0\r\n\r\n", head(lines));
            assert_eq!(statuses(app, &sent).await, [200], "{lines:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_comes_after_the_announced_length_is_a_request_of_its_own_or_400() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let good = CUSTOMER.replace("hostile-1", "lengthy-1");
        let sent = head("content-length: 34\r\n") + &good;
        assert_eq!(statuses(app, &(sent.clone() + "}}}}")).await, [200, 400]);
        // Cut off in the middle: no JSON, and its rest is no request.
        assert_eq!(statuses(app, &(head("content-length: 20\r\n") + &good)).await, [400, 400]);
    })
    .await;
}
