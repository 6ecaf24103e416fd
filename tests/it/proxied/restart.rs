//! What senders see through a proxy while the relay is restarted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use super::behind;
use super::proxy::{Kind, Proxy};
use crate::harness::{Answer, at_last};

/// Senders that post without pause.
const SENDERS: usize = 4;

/// Calls before the restart, and again after it.
const CALLS: usize = 40;

/// Posts one customer after another, each under a key and again until it is stored. The answers that were none of that.
pub async fn posts(
    sender: usize,
    proxy: Arc<Proxy>,
    stored: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
) -> Vec<Answer> {
    let mut failed = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("u-{sender}-{number}");
        loop {
            let request = proxy.post(&json!({"userId": id, "traits": {}, "messageId": id})).send().await;
            // A connection that a proxy closed without an answer: the sender tries again, as after a 5xx.
            let Ok(response) = request else { continue };
            let Ok(answer) = Answer::of(response).await else { continue };
            if answer.is_stored() {
                break;
            }
            // The relay says so itself, of a request that came as it ended.
            if answer.code() != "shutting_down" {
                failed.push(answer);
            }
            tokio::task::yield_now().await;
        }
        stored.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

/// Restarts the relay while senders post. Every stored call arrives once. The answers that were no success.
async fn restarted(kind: Kind) -> Vec<Answer> {
    // The relay takes no connections for one second at most: half of the grace.
    let (mut durable, proxy) = behind(kind, &[("RELAY_SHUTDOWN_DELAY", "1s"), ("RELAY_SHUTDOWN_GRACE", "2s")]).await;
    let (proxy, stored, is_over) = (Arc::new(proxy), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(posts(sender, proxy.clone(), stored.clone(), is_over.clone()));
    }
    at_last(async || stored.load(Ordering::Relaxed) >= CALLS).await;
    assert_eq!(durable.stop().await, Some(0));
    durable.start_relay().await;
    let before = stored.load(Ordering::Relaxed);
    at_last(async || stored.load(Ordering::Relaxed) >= before + CALLS).await;
    is_over.store(true, Ordering::Relaxed);
    let failed = senders.join_all().await.into_iter().flatten().collect();
    let stored = stored.load(Ordering::Relaxed);
    at_last(async || durable.segment().received_lines().await.len() >= stored).await;
    let received = durable.segment().received().await;
    let ids: BTreeSet<_> = received.iter().map(|call| call["messageId"].to_string()).collect();
    assert_eq!((ids.len(), received.len()), (stored, stored), "{kind:?}");
    failed
}

#[tokio::test]
async fn through_haproxy_a_restart_fails_no_request() {
    let failed = restarted(Kind::Haproxy).await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn through_nginx_a_request_during_a_restart_is_502_with_retry_after() {
    let failed = restarted(Kind::Nginx).await;
    assert!(!failed.is_empty(), "the relay was away");
    for answer in failed {
        assert_eq!((answer.status, answer.code()), (502, "relay_unavailable"), "{answer:?}");
        assert_eq!(answer.retry_after(), Some(1), "{answer:?}");
    }
}
