//! Many calls that are stored at once, or at a steady rate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::harness::{Answer, Relay, client_builder};

/// A relay lets a hundred streams share one HTTP/2 connection.
const STREAMS: usize = 96;

fn client() -> Client {
    client_builder().http2_prior_knowledge().build().expect("a client")
}

async fn store(client: Client, url: String, call: Value) {
    let response = client.post(&url).json(&call).send().await.expect("an answer");
    let answer = Answer::of(response).await.expect("a whole answer");
    assert!(answer.is_stored(), "{answer:?}");
}

/// Posts these, 96 at once on each of so many connections, in no order; all must be stored.
pub async fn store_all(relay: &Relay, connections: usize, calls: impl Iterator<Item = Value> + Send + 'static) {
    let calls = Arc::new(Mutex::new(calls));
    let mut posting = JoinSet::new();
    for client in (0..connections).map(|_| client()) {
        for _ in 0..STREAMS {
            let (client, url, calls) = (client.clone(), relay.url("/customers"), calls.clone());
            posting.spawn(async move {
                loop {
                    let Some(call) = calls.lock().unwrap().next() else { break };
                    store(client.clone(), url.clone(), call).await;
                }
            });
        }
    }
    posting.join_all().await;
}

/// Posts these, one each `period`; all must be stored.
pub async fn store_steadily(relay: &Relay, period: Duration, calls: impl Iterator<Item = Value>) {
    let (client, mut ticks, mut posting) = (client(), interval(period), JoinSet::new());
    for call in calls {
        ticks.tick().await;
        posting.spawn(store(client.clone(), relay.url("/customers"), call));
    }
    posting.join_all().await;
}
