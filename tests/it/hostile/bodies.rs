//! Bodies that are too slow, too large, without end, compressed, or not what their head says.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::future::join_all;

use super::withstand;
use crate::harness::{App, Raw, customer, head};

/// Callers whose bodies come slowly.
const SLOW_CALLERS: usize = 200;

/// How long a request may take where many are slow. Honest ones, on a busy machine, take less.
const DEADLINE: (&str, &str) = ("RELAY_REQUEST_TIMEOUT", "8s");

/// Between two bytes of a slow caller.
const PAUSE: Duration = Duration::from_millis(200);

/// What a body that is refused may be larger than, in bytes, and have its sender read why: 1 MiB is thrown away.
const MUCH: usize = 1_000_000;

/// Callers who do the same at once.
const CROWD: usize = 10;

#[tokio::test]
async fn bodies_that_trickle_are_408_at_the_deadline_and_hold_nobody_up() {
    let mut app = App::with(&[DEADLINE]).await;
    withstand(&mut app, async |app| {
        let trickle = async |number: usize| {
            let mut caller = app.relay().connect().await;
            let framing = ["content-length: 60000\r\n", "transfer-encoding: chunked\r\n"][number % 2];
            caller.send(head(framing)).await;
            // Some say nothing at all any more; and a write fails if the answer is on its way already.
            let drops = if number.is_multiple_of(3) { "" } else { ["{", "1\r\n{\r\n"][number % 2] };
            let answer = loop {
                if let Some(answer) = caller.answer_within(PAUSE).await {
                    break answer;
                }
                if caller.try_send(drops).await.is_err() {
                    break caller.answer().await;
                }
            };
            answer.assert_failed(408, "request_timeout");
            assert!(caller.is_closed().await);
        };
        join_all((0..SLOW_CALLERS).map(trickle)).await;
    })
    .await;
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_no_call_whether_its_sender_leaves_or_stays() {
    let mut app = App::with(&[DEADLINE]).await;
    withstand(&mut app, async |app| {
        let body = customer("hostile-1").to_string();
        let announced = head(&format!("content-length: {}\r\n", body.len() + 1)) + &body;
        join_all((0..CROWD).map(async |_| {
            let mut leaves = app.relay().connect().await;
            leaves.send(&announced).await;
            drop(leaves);
            let mut stays = app.relay().connect().await;
            stays.send(&announced).await;
            stays.answer().await.assert_failed(408, "request_timeout");
            assert!(stays.is_closed().await);
        }))
        .await;
    })
    .await;
}

/// Sends more and more of these bytes until the relay has had enough, and returns what it said.
async fn pour(app: &App, head: String, drop: &[u8]) -> String {
    let mut caller = app.relay().connect().await;
    caller.send(head).await;
    while caller.try_send(drop).await.is_ok() {}
    String::from_utf8_lossy(&caller.rest().await).into_owned()
}

#[tokio::test]
async fn what_has_no_end_is_read_for_a_while_and_then_no_more() {
    let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000));
    let tiny = "1\r\n \r\n".repeat(2_000);
    let (extension, trailer) = ("1;".to_owned() + &"x".repeat(8_000), "x: y\r\n".repeat(2_000));
    let mut app = App::with(&[DEADLINE]).await;
    withstand(&mut app, async |app| {
        let chunked = || head("transfer-encoding: chunked\r\n");
        let announced = || head("content-length: 18446744073709551613\r\n");
        let kinds = [
            ("chunks", chunked(), chunk.as_bytes(), ["413", "413"]),
            // Slow to take apart: the deadline may be first.
            ("chunks of a byte", chunked(), tiny.as_bytes(), ["413", "408"]),
            ("the extension of a chunk", chunked() + "1;", extension.as_bytes(), ["400", "400"]),
            ("trailers", chunked() + "0\r\n", trailer.as_bytes(), ["400", "400"]),
            ("a trailer", chunked() + "0\r\nx: ", extension.as_bytes(), ["400", "400"]),
            ("the size of a chunk", chunked(), &[b'0'; 8_000][..], ["408", "408"]),
            ("2^64 - 3 bytes", announced(), chunk.as_bytes(), ["413", "413"]),
        ];
        join_all(kinds.map(async |(name, head, drop, statuses)| {
            for said in join_all((0..CROWD).map(|_| pour(app, head.clone(), drop))).await {
                let status = said.get(9..12).unwrap_or_default();
                assert!(statuses.contains(&status), "{name}: {said}");
            }
        }))
        .await;
    })
    .await;
}

/// Sends it in pieces, so that a relay that closes early has closed before the last.
async fn send_slowly(caller: &mut Raw, body: &str) {
    for piece in body.as_bytes().chunks(10_000) {
        caller.send(piece).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sender_who_writes_all_before_reading_reads_why_it_is_refused() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let body = " ".repeat(MUCH);
        let xml = "POST /customers HTTP/1.1\r\nhost: relay\r\ncontent-type: application/xml\r\n";
        let gzip = head("content-encoding: gzip\r\n");
        let length = format!("content-length: {MUCH}\r\n\r\n");
        for (head, status, code) in [
            (head(&length), 413, "message_too_large"),
            (xml.to_owned() + &length, 415, "unsupported_media_type"),
            (gzip.trim_end().to_owned() + "\r\n" + &length, 415, "unsupported_media_type"),
        ] {
            join_all((0..CROWD).map(async |_| {
                let mut caller = app.relay().connect().await;
                caller.send(&head).await;
                send_slowly(&mut caller, &body).await;
                caller.answer().await.assert_failed(status, code);
            }))
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sender_without_a_token_who_writes_all_before_reading_reads_that_it_is_missing() {
    let token = "t0ken-0f-the-tests-and-0f-nobody-else";
    let app = App::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", token)]).await;
    join_all((0..CROWD).map(async |_| {
        let mut caller = app.relay().connect().await;
        caller.send(head(&format!("content-length: {MUCH}\r\n"))).await;
        send_slowly(&mut caller, &" ".repeat(MUCH)).await;
        caller.answer().await.assert_failed(401, "unauthorized");
    }))
    .await;
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_it_is() {
    // 10 MiB of spaces in 10 KiB, and the same in 10 KiB within 10 KiB: what is not unpacked does no harm.
    let spaces = vec![b' '; 10 * 1024 * 1024];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&spaces).unwrap();
    let bomb = gzip.finish().unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&spaces).unwrap();
    let deflated = zlib.finish().unwrap();
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        for (encoding, body) in [
            ("gzip", &bomb),
            ("x-gzip", &bomb),
            ("deflate", &deflated),
            ("br", &bomb),
            ("zstd", &bomb),
            ("gzip, gzip", &bomb),
            ("identity, gzip", &bomb),
        ] {
            let answer = app.post_with(&[("content-encoding", encoding)], body.clone()).await;
            answer.assert_failed(415, "unsupported_media_type");
        }
        // Who does not say so sends what is no JSON.
        for headers in [&[][..], &[("content-encoding", "identity")], &[("content-encoding", "")]] {
            app.post_with(headers, bomb.clone()).await.assert_failed(400, "invalid_json");
        }
    })
    .await;
}
