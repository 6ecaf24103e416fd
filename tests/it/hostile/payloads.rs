//! Payloads of the right size that are made to be hard to read.

use std::fmt::Write;

use futures_util::future::join_all;

use super::withstand;
use crate::harness::App;

/// The largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Callers who send each of them at once.
const CROWD: usize = 5;

/// `part` as often as it fits into a body beside `before` and `after`.
fn filled(before: &str, part: &str, after: &str) -> String {
    let times = (MAX_BODY - before.len() - after.len()) / part.len();
    format!("{before}{}{after}", part.repeat(times))
}

/// `before`, and then as many names as fit.
fn many_names(before: &str) -> String {
    let mut names = before.to_owned();
    for n in 0..6_000 {
        write!(names, r#","{n}":1"#).expect("a string");
    }
    names
}

#[tokio::test]
async fn json_that_is_hard_to_read_is_refused_and_costs_nobody_else() {
    let payloads = [
        ("arrays in arrays", 400, filled("", "[", "")),
        ("arrays in arrays that end", 400, format!("{}{}", "[".repeat(MAX_BODY / 2), "]".repeat(MAX_BODY / 2))),
        ("objects in objects", 400, filled("", r#"{"a":"#, "")),
        ("objects in traits", 400, filled(r#"{"userId":"hostile-1","traits":"#, r#"{"a":"#, "")),
        ("arrays in traits", 400, filled(r#"{"userId":"hostile-1","traits":{"a":"#, "[", "")),
        ("arrays and objects", 400, filled("", r#"[{"a":"#, "")),
        ("closing brackets", 400, filled("", "]", "")),
        ("many names", 422, many_names(r#"{"userId":"hostile-1","traits":{"n":0"#) + "}}"),
        ("one name again and again", 400, filled(r#"{"userId":"hostile-1","traits":{"a":1"#, r#","a":1"#, "}}")),
        ("a number of 64 KiB", 422, filled(r#"{"userId":"","traits":{"n":1"#, "0", "}}")),
        ("a fraction of 64 KiB", 422, filled(r#"{"userId":"","traits":{"n":0."#, "3", "}}")),
        ("an exponent of 64 KiB", 422, filled(r#"{"userId":"","traits":{"n":1e"#, "9", "}}")),
        ("a number that begins with zeros", 400, filled(r#"{"userId":"hostile-1","traits":{"n":"#, "0", "1}}")),
        ("escapes", 422, filled(r#"{"userId":"","traits":{"a":""#, r"\u0041", "\"}}")),
        ("escapes in a name", 422, filled(r#"{"userId":"","traits":{""#, r"\u0041", "\":1}}")),
        ("lone surrogates", 400, filled(r#"{"userId":"hostile-1","traits":{"a":""#, r"\ud800", "\"}}")),
        ("escapes that break off", 400, filled(r#"{"userId":"hostile-1","traits":{"a":""#, r"\u00", "\"}}")),
        ("backslashes", 400, filled(r#"{"userId":"hostile-1","traits":{"a":""#, "\\", "")),
        ("a string that never ends", 400, filled(r#"{"userId":"hostile-1","traits":{"a":""#, "x", "")),
        ("spaces", 400, filled("", " ", "")),
        ("line breaks", 400, filled("", "\n", "x")),
        ("NULs", 400, filled("", "\0", "")),
        ("many fields that nobody knows", 422, many_names(r#"{"userId":"hostile-1""#) + "}"),
        ("a userId of 60 KiB", 413, filled(r#"{"userId":""#, "x", r#"","traits":{}}"#)),
        ("a messageId of 60 KiB", 422, filled(r#"{"userId":"hostile-1","messageId":""#, "x", r#"","traits":{}}"#)),
        ("a timestamp of 60 KiB", 422, filled(r#"{"userId":"hostile-1","timestamp":""#, "9", r#"","traits":{}}"#)),
    ];
    let mut app = App::start().await;
    withstand(&mut app, async |app| {
        for (name, status, payload) in payloads {
            for answer in join_all((0..CROWD).map(|_| app.post_with(&[], payload.clone()))).await {
                assert_eq!(answer.status, status, "{name}: {answer:?}");
                assert!(answer.body.to_string().len() < 10_000, "{name}: {answer:?}");
            }
        }
    })
    .await;
}
