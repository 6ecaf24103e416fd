//! Many dead letters at once: chosen by a filter, discarded, and replayed at a pace.

use reqwest::Method;
use serde_json::{Value, json};

use super::{page, users, with_refused};
use crate::harness::{Answer, Durable, Segment, eventually};

const FIVE: [&str; 5] = ["c-1", "c-2", "c-3", "c-4", "c-5"];

/// So many that a replay of one a second is not over before a test is.
fn twenty() -> Vec<String> {
    (0..20).map(|number| format!("c-{number}")).collect()
}

async fn replay(durable: &Durable, query: &str) -> Answer {
    durable.operate(Method::POST, &format!("/dead-letters/replay{query}")).await
}

async fn discard(durable: &Durable, query: &str) -> Answer {
    durable.operate(Method::DELETE, &format!("/dead-letters{query}")).await
}

/// A relay with these dead letters, whose calls Segment accepts by now.
async fn mended(users: &[&str]) -> Durable {
    let durable = with_refused(users).await;
    durable.segment().heal().await;
    durable
}

async fn received(segment: &Segment) -> Vec<String> {
    segment.received().await.iter().map(|call| call["userId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn letters_are_listed_by_why_user_status_and_time() {
    let durable = mended(&FIVE).await;
    let all = durable.dead_letters().await;
    let middle = all[2]["refusedAt"].as_str().unwrap();
    let by_time = |is_later: bool| -> Vec<&str> {
        let of_side = all.iter().filter(|letter| (letter["refusedAt"].as_str().unwrap() >= middle) == is_later);
        of_side.map(|letter| letter["userId"].as_str().unwrap()).collect()
    };
    let everyone: Vec<&str> = FIVE.iter().rev().copied().collect();
    for (query, expected) in [
        ("?why=refused".to_owned(), everyone.clone()),
        ("?why=gave_up".to_owned(), vec![]),
        ("?userId=c-2".to_owned(), vec!["c-2"]),
        ("?userId=c".to_owned(), vec![]),
        ("?status=400".to_owned(), everyone.clone()),
        ("?status=413".to_owned(), vec![]),
        ("?status=null".to_owned(), vec![]),
        (format!("?since={middle}"), by_time(true)),
        (format!("?until={middle}"), by_time(false)),
        (format!("?since={}", middle.replace('Z', "+00:00")), by_time(true)),
        (format!("?since={}", middle.replace('Z', "%2B00:00")), by_time(true)),
        (format!("?since={middle}&until={middle}"), vec![]),
        (format!("?why=refused&userId=c-4&status=400&before={}", all[0]["id"]), vec!["c-4"]),
    ] {
        let page = page(&durable, &query).await;
        assert_eq!((users(&page), &page["next"]), (expected, &Value::Null), "{query}");
    }
}

#[tokio::test]
async fn a_wrong_filter_is_refused_and_changes_nothing() {
    let durable = mended(&["c-1", "c-2"]).await;
    for wrong in [
        "?userid=c-1",
        "?source=",
        "?why=",
        "?why=mapped",
        "?why=refused&why=refused",
        "?userId=",
        "?status=0",
        "?status=ten",
        "?since=yesterday",
        "?until=2026-01-31",
        "?since=2026-01-31%2009:30:00Z",
    ] {
        for answer in [
            durable.operate(Method::GET, &format!("/dead-letters{wrong}")).await,
            replay(&durable, wrong).await,
            discard(&durable, wrong).await,
        ] {
            answer.assert_failed(422, "invalid_payload");
        }
    }
    for wrong in ["?perSecond=0", "?perSecond=-1", "?perSecond=", "?perSecond=1.5", "?limit=1", "?before=9", "?all"] {
        replay(&durable, wrong).await.assert_failed(422, "invalid_payload");
    }
    for wrong in ["?all=false", "?all&userId=c-1", "?all&before=9", "?limit=1", "?before=0", "?before=9&perSecond=1"] {
        discard(&durable, wrong).await.assert_failed(422, "invalid_payload");
    }
    for wrong in ["?perSecond=1", "?all"] {
        durable.operate(Method::GET, &format!("/dead-letters{wrong}")).await.assert_failed(422, "invalid_payload");
    }
    discard(&durable, "").await.assert_failed(400, "bad_request");
    assert_eq!(users(&page(&durable, "").await), ["c-2", "c-1"]);
}

#[tokio::test]
async fn only_the_letters_that_fit_are_replayed() {
    let durable = mended(&FIVE).await;
    assert_eq!(replay(&durable, "?userId=c-2&status=413").await.body, json!({"replayed": 0}));
    let answer = replay(&durable, "?userId=c-2").await;
    assert_eq!((answer.status, &answer.body), (202, &json!({"replayed": 1})));
    eventually(async || received(durable.segment()).await == ["c-2"]).await;
    assert_eq!(users(&page(&durable, "").await), ["c-5", "c-4", "c-3", "c-1"]);
}

#[tokio::test]
async fn letters_are_discarded_by_id_by_filter_or_all() {
    let durable = mended(&FIVE).await;
    let third = durable.dead_letters().await[2]["id"].clone();
    for (query, discarded, left) in [
        ("?userId=c-9".to_owned(), 0, &["c-5", "c-4", "c-3", "c-2", "c-1"][..]),
        (format!("?before={third}&userId=c-1"), 1, &["c-5", "c-4", "c-3", "c-2"]),
        (format!("?before={third}"), 1, &["c-5", "c-4", "c-3"]),
        ("?status=400&userId=c-4".to_owned(), 1, &["c-5", "c-3"]),
        ("?all".to_owned(), 2, &[]),
        ("?all=true".to_owned(), 0, &[]),
    ] {
        let answer = discard(&durable, &query).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"discarded": discarded})), "{query}");
        assert_eq!(users(&page(&durable, "").await), left, "{query}");
    }
    assert_eq!(durable.relay().metric("segment_relay_dead_letters_discarded_total").await, 5.0);
    // Their keys are forgotten: a repeat is a new call.
    let repeat = json!({"userId": "c-1", "messageId": "m-c-1", "traits": {"plan": "pro"}});
    let repeat = durable.post_with(&[("prefer", "wait=10")], repeat.to_string()).await;
    assert!(repeat.is_accepted(), "{repeat:?}");
}

#[tokio::test]
async fn a_paced_replay_is_answered_at_once_and_goes_on_oldest_first() {
    let durable = mended(&FIVE).await;
    let answer = replay(&durable, "?why=refused&perSecond=20").await;
    assert_eq!((answer.status, &answer.body), (202, &json!({"replayed": 5})));
    eventually(async || durable.dead_letters().await.is_empty()).await;
    eventually(async || received(durable.segment()).await == FIVE).await;
}

#[tokio::test]
async fn one_paced_replay_runs_at_a_time_and_another_replay_runs_beside_it() {
    let names = twenty();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let durable = mended(&names).await;
    assert_eq!(replay(&durable, "?userId=c-1&perSecond=1").await.body, json!({"replayed": 1}));
    // It is over when nothing is left to do.
    eventually(async || replay(&durable, "?status=413&perSecond=1").await.status == 202).await;
    eventually(async || replay(&durable, "?perSecond=1").await.status == 202).await;
    let second = replay(&durable, "?perSecond=5").await;
    second.assert_failed(503, "overloaded");
    assert!(second.header("retry-after").is_some());
    assert_eq!(replay(&durable, "").await.status, 202);
    eventually(async || received(durable.segment()).await.len() == names.len()).await;
    assert!(durable.dead_letters().await.is_empty());
}

#[tokio::test]
async fn what_a_paced_replay_has_not_done_when_the_process_ends_is_still_a_dead_letter() {
    let names = twenty();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for signal in ["KILL", "TERM"] {
        let mut durable = mended(&names).await;
        assert_eq!(replay(&durable, "?perSecond=1").await.body, json!({"replayed": names.len()}));
        eventually(async || !received(durable.segment()).await.is_empty()).await;
        if signal == "KILL" {
            durable.kill().await;
        } else {
            assert_eq!(durable.stop().await, Some(0));
        }
        durable.start_relay().await;
        // Nothing goes on by itself: what was put back is delivered, and all else is where it was.
        let left = durable.dead_letters().await.len();
        assert!(left > 0, "{signal}");
        eventually(async || received(durable.segment()).await.len() >= names.len() - left).await;
        let mut there = received(durable.segment()).await;
        there.extend(users(&page(&durable, "").await).into_iter().map(str::to_owned));
        there.sort();
        there.dedup();
        assert_eq!(there.len(), names.len(), "{signal}: {there:?}");
    }
}
