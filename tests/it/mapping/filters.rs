//! What the pool makes of events and of filters.

use std::path::Path;
use std::sync::Arc;

use segment_relay::sources::mapping::{Filter, MapError, Mapper};
use tokio::task::JoinSet;

use super::Pool;
use crate::harness::eventually;

#[tokio::test]
async fn an_event_becomes_what_its_filter_makes_of_it() {
    let pool = Pool::start(2);
    let shop = r#"select(header("x-topic") | IN("customers/create", "customers/update"))
        | {userId: (.id | tostring), timestamp: received_at, traits: {spent: (.spent | tonumber), q}}"#;
    let outputs = pool.map("shop", shop, r#"{"id":7345678901234567890,"spent":"1203.50","q":0.10}"#).await;
    assert_eq!(
        outputs.unwrap(),
        [
            r#"{"userId":"7345678901234567890","timestamp":"2026-11-26T18:00:00.137Z","traits":{"spent":1203.50,"q":0.10}}"#
        ]
    );
    assert_eq!(pool.map("shop", "empty", "{}").await, Ok(Vec::new()));
    assert_eq!(pool.map("shop", ".[]", "[1,2]").await.unwrap(), ["1", "2"]);
    assert_eq!(pool.map("shop", "range(1000)", "{}").await.unwrap().len(), 1_000);
    assert_eq!(pool.map("shop", "range(1001)", "{}").await, Err(MapError::TooMany));
    let failed = |reason: &str| Err(MapError::Failed(reason.to_owned()));
    assert_eq!(pool.map("shop", ".id | ascii_downcase", r#"{"id":7}"#).await, failed("cannot use 7 as string"));
    assert_eq!(pool.map("shop", "nope", "{}").await, failed("undefined filter \"nope\" at line 1, column 1"));
    assert_eq!(pool.map("shop", "{a: nan}", "{}").await.unwrap(), [r#"{"a":NaN}"#]);
    // The last event of the process is as good as the first one.
    assert_eq!(pool.map("shop", ".", "[1]").await.unwrap(), ["[1]"]);
    assert_eq!(pool.replaced(), [0, 0, 0]);
}

#[tokio::test]
async fn large_events_and_outputs_pass_whole() {
    let pool = Pool::start(2);
    let body = format!("\"{}\"", "é".repeat(150_000));
    assert_eq!(pool.map("shop", "., ., .", &body).await.unwrap(), [&*body; 3]);
    let large = format!("[{body},{body},{body}]");
    assert_eq!(pool.map("shop", ".[2]", &large).await.unwrap(), [&*body]);
    let too_much = Err(MapError::Failed("the filter made more than 1 MiB of customers".to_owned()));
    assert_eq!(pool.map("shop", "., .", &large).await, too_much);
    let too_large = format!("\"{}\"", "x".repeat(2 << 20));
    assert!(matches!(pool.map("shop", ".", &too_large).await, Err(MapError::Failed(_))));
    assert_eq!(pool.replaced(), [0, 0, 0]);
}

#[tokio::test]
async fn more_filters_than_a_worker_keeps_give_the_same_outputs() {
    let pool = Pool::start(2);
    for round in 0..2 {
        for number in 0..40 {
            let outputs = pool.map("shop", &format!(". + {number}"), &round.to_string()).await.unwrap();
            assert_eq!(outputs, [(round + number).to_string()]);
        }
    }
    assert_eq!(pool.replaced(), [0, 0, 0]);
}

#[tokio::test]
async fn every_problem_of_every_filter_is_named_with_its_place() {
    let pool = Pool::start(2);
    let at = |place: &str, text: &str| Arc::new(Filter { place: place.to_owned(), text: text.to_owned() });
    let filters = [
        at("sources.toml: shopify.map", ".email // \"\" | ascii_downcas"),
        at("sources.toml: good.map", "."),
        at("stripe.jq", "{ a: 1 } | | .\n"),
        at("sources.toml: crash.map", &format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000))),
        at("hubspot.jq", "1 |\n  now, env"),
    ];
    assert_eq!(
        pool.mapper.check(&filters).await,
        [
            "sources.toml: shopify.map: undefined filter \"ascii_downcas\" at line 1, column 16",
            "stripe.jq: expected term, got \"|\" at line 1, column 12",
            "sources.toml: crash.map: the filter crashes the process that compiles it",
            "hubspot.jq: undefined filter \"now\" at line 2, column 3",
            "hubspot.jq: undefined filter \"env\" at line 2, column 8",
        ]
    );
    assert!(pool.mapper.check(&filters[1..2]).await.is_empty());
    let none = Mapper::with(Path::new("/no/such/file"), 2, &pool.supervisor, pool.metrics.clone()).unwrap();
    assert!(none.check(&[]).await.is_empty());
    let problems = none.check(&filters).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("the process that runs filters cannot start: "), "{problems:?}");
}

#[tokio::test]
async fn events_of_one_source_are_refused_when_too_many_wait_and_those_of_another_go_on() {
    let pool = Arc::new(Pool::start(2));
    let ask = |source: &'static str, text: &'static str| {
        let pool = pool.clone();
        async move { pool.map(source, text, "1").await }
    };
    let mut floods = JoinSet::new();
    for _ in 0..600 {
        floods.spawn(ask("loop", "def f: f; f"));
    }
    // One runs, 512 wait.
    let mut refused = 0;
    while refused < 87 {
        assert_eq!(floods.join_next().await.unwrap().unwrap(), Err(MapError::Overloaded));
        refused += 1;
    }
    for _ in 0..10 {
        assert_eq!(ask("sound", ". + 1").await, Ok(vec!["2".to_owned()]));
    }
    // Callers who leave take their events back.
    floods.shutdown().await;
    eventually(async || ask("loop", ".").await == Ok(vec!["1".to_owned()])).await;
    // At most the one that ran, and one that began before its caller left.
    assert!(pool.replaced()[0] <= 2, "{:?}", pool.replaced());
}
