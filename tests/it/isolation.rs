//! Nobody's trouble is another's: one call's, one customer's or Segment's trouble, and what everybody else sees of it.
//!
//! The bounds are those of the harness: a busy machine keeps them, and what is wrong lasts longer or for ever.

mod credentials;
mod culprits;
mod many_calls;
mod outage;
mod parked;
mod shares;

use std::collections::{HashMap, HashSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Durable, ScriptedSegment};
use crate::ledger::check_users;

/// A relay with an outbox that sends to a scripted Segment.
async fn start(settings: &[(&str, &str)]) -> (Durable, ScriptedSegment) {
    let segment = ScriptedSegment::start();
    let mut durable = Durable::sending_to(&segment.url(), settings);
    durable.start_relay().await;
    (durable, segment)
}

/// A call of so many bytes and a few more.
fn heavy(user_id: &str, number: u64, bytes: usize) -> Value {
    json!({"userId": user_id, "traits": {"n": number, "history": "x".repeat(bytes)}})
}

/// All parked users, as `GET /parked` lists them.
async fn parked(durable: &Durable) -> Vec<Value> {
    let (mut all, mut path) = (Vec::new(), "/parked?limit=1000".to_owned());
    loop {
        let answer = durable.operate(Method::GET, &path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        all.extend(answer.body["parked"].as_array().expect("parked users").iter().cloned());
        match &answer.body["next"] {
            Value::Null => return all,
            next => path = format!("/parked?limit=1000&before={next}"),
        }
    }
}

/// That these calls and no others have arrived, each user's in order.
#[track_caller]
fn check_arrivals(segment: &ScriptedSegment, posted: impl IntoIterator<Item = (String, u64)>) {
    let arrivals = segment.arrivals();
    let arrived: HashSet<_> = arrivals.iter().map(|arrival| (arrival.user.clone(), arrival.number)).collect();
    let posted: HashSet<_> = posted.into_iter().collect();
    assert!(arrived == posted, "{:?}", arrived.symmetric_difference(&posted).take(10).collect::<Vec<_>>());
    let mut users: HashMap<&str, Vec<u64>> = HashMap::new();
    for arrival in &arrivals {
        users.entry(&arrival.user).or_default().push(arrival.number);
    }
    check_users(users);
}
