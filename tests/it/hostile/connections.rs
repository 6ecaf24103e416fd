//! Connections that are only there, more than there are places for, and callers who never read.

use std::thread::available_parallelism;

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::time::timeout;

use super::{heads, http2, withstand};
use crate::harness::{App, LONG_PATIENCE, Process, Raw, WRITE_KEY, customer, head};

/// Connections on which nothing is said: more than the 1,024 files that may be open unless one asks for more.
const IDLE: usize = 1_100;

/// Files that this process may have open: the other ends of all that is idle, and what the tests beside this one need.
const OUR_FILES: u64 = 4_096;

/// Requests in one write.
const PIPELINED: usize = 500;

/// Callers who read nothing.
const DEAF: usize = 50;

async fn connect(app: &App, count: usize) -> Vec<Raw> {
    join_all((0..count).map(|_| app.relay().connect())).await
}

/// The limit of open files that leaves the relay `places` connections, with 8 slots (`src/server/fd_limit.rs`).
fn files_for(places: usize) -> usize {
    64 + 4 * available_parallelism().map_or(1, usize::from) + 2 * 8 + places
}

#[tokio::test]
async fn a_thousand_idle_connections_take_nothing_from_anyone_where_a_limit_of_1024_can_be_raised() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < OUR_FILES) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(OUR_FILES), maximum })
            .expect("4,096 open files are allowed");
    }
    let mut app = App::limited("ulimit -S -n 1024", &[]).await;
    withstand(&mut app, async |app| {
        let mut idle = connect(app, IDLE).await;
        // Each has a place: it is answered, and stays.
        let asked = idle.iter_mut().map(async |caller| {
            caller.send("GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n").await;
            assert_eq!(caller.answer().await.status, 200);
        });
        join_all(asked).await;
        assert!(app.post(&customer("late-1")).await.is_accepted());
    })
    .await;
}

#[tokio::test]
async fn where_few_files_may_be_open_idle_callers_make_room_for_those_who_come_later() {
    let limit = format!("ulimit -n {}", files_for(100));
    let mut app = App::limited(&limit, &[("SEGMENT_MAX_CONCURRENCY", "8")]).await;
    withstand(&mut app, async |app| {
        let idle = connect(app, 150).await;
        assert!(app.post(&customer("late-1")).await.is_accepted());
        drop(idle);
    })
    .await;
    let log = app.relay().log();
    let said = |words: &str| log.iter().find(|line| line["message"].as_str().is_some_and(|said| said.contains(words)));
    assert_eq!(
        said("the limit of open files allows few connections").map(|line| &line["connections"]),
        Some(&Value::from(100))
    );
    assert!(said("few places for connections are left").is_some());
    assert!(said("could not accept").is_none());
}

#[tokio::test]
async fn where_next_to_no_files_may_be_open_the_start_fails_and_says_what_to_do() {
    let limit = format!("ulimit -n {}", files_for(10));
    let settings =
        [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("SEGMENT_MAX_CONCURRENCY", "8")];
    let mut process = Process::limited(&limit, &["serve"], &settings);
    assert_eq!(process.exit_code().await, Some(1));
    let said = process.stderr().join("\n");
    assert!(said.contains("raise the limit"), "{said}");
}

#[tokio::test]
async fn hundreds_of_requests_in_one_write_get_each_its_own_answer_in_order() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let good = customer("piped-1").to_string();
        let kinds = [
            (200, "POST", "application/json", good.as_str()),
            (400, "POST", "application/json", r#"{"userId":"hostile-1","traits":{"#),
            (422, "POST", "application/json", r#"{"userId":"","traits":{}}"#),
            (415, "POST", "text/plain", good.as_str()),
            (405, "PUT", "application/json", ""),
        ];
        let kind = |n: usize| &kinds[n * n % kinds.len()];
        let request = |n| {
            let (_, method, media_type, body) = kind(n);
            let length = body.len();
            format!(
                "{method} /customers HTTP/1.1\r\nhost: relay\r\nx-request-id: r-{n}\r\ncontent-type: {media_type}\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
        };
        let mut caller = app.relay().connect().await;
        caller.send((0..PIPELINED).map(request).collect::<String>()).await;
        for n in 0..PIPELINED {
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.header("x-request-id")), (kind(n).0, Some(&*format!("r-{n}"))));
        }
    })
    .await;
}

/// One test for all, because it takes the 25 to 30 seconds for which they are waited for.
#[tokio::test]
async fn callers_who_neither_end_their_heads_nor_read_are_closed_and_hold_nobody_up() {
    // The attack is tens of thousands of answers. A busy machine may take longer than usual for an honest one.
    let mut app = App::with(&[("RELAY_REQUEST_TIMEOUT", "100s"), ("SEGMENT_TIMEOUT", "100s")]).await;
    withstand(&mut app, async |app| {
        tokio::join!(heads::never_end(app), never_read(app), http2::take_no_answer(app));
    })
    .await;
}

/// Many callers who ask and do not read, until they are closed.
async fn never_read(app: &App) {
    // A few bytes each, whose answers are thousands.
    let requests = "GET /metrics HTTP/1.1\r\nhost: relay\r\n\r\n".repeat(100);
    join_all((0..DEAF).map(async |_| {
        let mut caller = Raw::connect_narrowly(app.relay().address()).await;
        let closed = async { while caller.try_send(&requests).await.is_ok() {} };
        timeout(LONG_PATIENCE, closed).await.expect("the relay closes");
    }))
    .await;
}

#[tokio::test]
async fn callers_who_leave_with_their_answers_unread_leave_nothing_behind() {
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        let request = head("content-length: 2\r\n") + "{}";
        for _ in 0..10 {
            for mut caller in connect(app, DEAF).await {
                caller.send(&request[..request.len() / 2]).await;
                caller.send(&request[request.len() / 2..]).await;
            }
        }
    })
    .await;
}
