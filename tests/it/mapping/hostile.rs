//! Filters that loop, eat memory or crash: the trouble of one event. Beside each a stranger's events go on.

use segment_relay::sources::mapping::MapError::{self, Crashed, Failed, OutOfMemory, TimedOut, TooMany};

use super::Pool;

/// Runs each filter on its event, and a stranger's events meanwhile.
async fn run(rows: &[(&str, &str)], is_expected: impl Fn(&Result<Vec<String>, MapError>) -> bool) -> Pool {
    let pool = Pool::start(2);
    for (filter, body) in rows {
        let hostile = pool.map("hostile", filter, body);
        let strangers = async {
            for number in 0..3 {
                let outputs = pool.map("stranger", "{userId: .id}", &format!("{{\"id\":\"c-{number}\"}}")).await;
                assert_eq!(outputs, Ok(vec![format!("{{\"userId\":\"c-{number}\"}}")]), "beside {filter}");
            }
        };
        let (outcome, ()) = tokio::join!(hostile, strangers);
        let shown: String = format!("{outcome:?}").chars().take(200).collect();
        assert!(is_expected(&outcome), "{filter}: {shown}");
    }
    pool
}

/// How a filter can end its worker. Which of them comes first depends on the machine.
const FATAL: [Result<Vec<String>, MapError>; 3] = [Err(TimedOut), Err(OutOfMemory), Err(Crashed)];

#[tokio::test]
async fn a_filter_without_end_is_stopped() {
    let addresses = r#"{"addresses":[1,2,3,4,5,6]}"#;
    let nested = format!("{} empty", ".addresses[] as $a | ".repeat(9));
    let rows = [
        ("def f: f; f", "1"),
        ("last(range(1000000000000))", "1"),
        ("range(1000000000000) | empty", "1"),
        ("until(false; .)", "1"),
        ("last(while(true; .))", "1"),
        ("try (def f: f; f) catch 1", "1"),
        (&nested, addresses),
        ("def t: reduce range(60) as $i ([]; [., .]); t == t", "1"),
    ];
    let pool = run(&rows, |outcome| *outcome == Err(TimedOut)).await;
    pool.has_replaced([rows.len() as u64, 0, 0]).await;
}

#[tokio::test]
async fn a_filter_that_wants_more_memory_than_there_is_is_stopped() {
    let rows = [
        (r#""x" * 100000000"#, "1"),
        (r#""x" * 1000000000"#, "1"),
        (r#""x" * 100000000000"#, "1"),
        (r#""x" * 9000000000000000000"#, "1"),
        (r#""xxxx" * 9000000000000000000"#, "1"),
        (r#"reduce range(60) as $i ("x" * 33000000; . + .)"#, "1"),
    ];
    let pool = run(&rows, |outcome| *outcome == Err(OutOfMemory)).await;
    pool.has_replaced([0, rows.len() as u64, 0]).await;
}

#[tokio::test]
async fn a_filter_that_overflows_the_stack_is_tried_twice() {
    let brackets = "[".repeat(30_000);
    let rows = [
        ("def f: 1 + f; f", "1"),
        // The relay refuses such a body before.
        (".", &brackets),
        (&format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000)), "1"),
    ];
    let pool = run(&rows, |outcome| *outcome == Err(Crashed)).await;
    pool.has_replaced([0, 0, 2 * rows.len() as u64]).await;
}

#[tokio::test]
async fn a_filter_that_grows_without_end_is_stopped() {
    let rows = [
        ("last(def f: f, 1; f)", "1"),
        ("def f(x): x | f(x); f(.)", "1"),
        ("[range(1000000000)]", "1"),
        ("reduce range(60) as $i ([]; [., .]) | tojson", "1"),
        ("reduce range(100000) as $i (null; [.]) | tojson", "1"),
        (r#"[limit(1000000; repeat("["))] | add | fromjson"#, "1"),
        ("[range(300)] | [combinations(4)]", "1"),
        ("reduce range(100) as $i (3; . * .)", "1"),
    ];
    run(&rows, |outcome| FATAL.contains(outcome)).await;
}

#[tokio::test]
async fn what_takes_long_ends_by_itself_or_is_stopped() {
    let text = format!("\"{}\"", "a".repeat(60_000));
    let rows = [
        ("[range(30000)] - [range(30000)] | length", "1"),
        ("[range(50000)] | sort_by(-.) | group_by(. % 7) | length", "1"),
        (r#"test("(a*)*b")"#, &*text),
        (r#"test("(.*)*(.*)*x")"#, &text),
        (r#"gsub("a"; "b") | length"#, &text),
        // Refused for its size.
        (r#"test("((a{100}){100}){100}")"#, "\"a\""),
    ];
    let is_end = |outcome: &Result<Vec<String>, MapError>| match outcome {
        Ok(outputs) => outputs.len() == 1,
        Err(Failed(_)) => true,
        _ => FATAL.contains(outcome),
    };
    run(&rows, is_end).await;
}

#[tokio::test]
async fn what_is_left_out_and_what_fails_costs_no_worker() {
    let rows = [
        ("halt", "1"),
        ("halt_error", "1"),
        ("env", "1"),
        ("$ENV.SEGMENT_WRITE_KEY", "1"),
        ("now", "1"),
        ("localtime", "1"),
        ("input", "1"),
        (r#"import "a" as a; ."#, "1"),
        (r#"include "a"; ."#, "1"),
        ("error(reduce range(60) as $i ([]; [., .]))", "1"),
        (".userId | ascii_downcase", r#"{"userId":7}"#),
        (r#""2026-11-26 18:00 Europe/Berlin" | strptime("%Y-%m-%d %H:%M %Q")"#, "1"),
    ];
    let pool = run(&rows, |outcome| matches!(outcome, Err(Failed(reason)) if reason.chars().count() <= 160)).await;
    assert_eq!(pool.replaced(), [0, 0, 0]);
}

#[tokio::test]
async fn too_many_outputs_cost_no_worker() {
    let rows = [("range(1001)", "1"), ("repeat(1)", "1"), ("def f: 1, f; f", "1"), ("range(1000000000)", "1")];
    let pool = run(&rows, |outcome| *outcome == Err(TooMany)).await;
    assert_eq!(pool.replaced(), [0, 0, 0]);
}

#[tokio::test]
async fn an_event_leaves_its_memory_to_the_next_one() {
    let pool = Pool::start(2);
    for _ in 0..10 {
        for (filter, output) in [
            // Ten of either are more than a worker has.
            (r#"("x" * 8000000) | utf8bytelength"#, "8000000"),
            (r#"[range(20) | "x" * 400000] | length"#, "20"),
            ("[range(1000) | {id: .}] | length", "1000"),
        ] {
            assert_eq!(pool.map("shop", filter, "1").await, Ok(vec![output.to_owned()]));
        }
    }
    assert_eq!(pool.replaced(), [0, 0, 0]);
}

#[tokio::test]
async fn two_sources_whose_filters_loop_leave_a_worker_to_a_third() {
    let pool = Pool::start(2);
    let loops = async |source: &str| loop {
        assert_eq!(pool.map(source, "def f: f; f", "1").await, Err(TimedOut));
    };
    let sound = async {
        // Each has ended a worker.
        crate::harness::eventually(async || pool.replaced()[0] >= 2).await;
        let before = pool.replaced()[0];
        for number in 0..50 {
            let body = number.to_string();
            assert_eq!(pool.map("stranger", ".", &body).await, Ok(vec![body]));
        }
        pool.replaced()[0] - before
    };
    let ended = tokio::select! {
        ended = sound => ended,
        () = async { tokio::join!(loops("first"), loops("second")); } => unreachable!(),
    };
    assert!(ended < 25, "{ended} of 50 events waited for one that looped");
}
