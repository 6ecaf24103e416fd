//! Several relays behind nginx, with the configuration of `config/nginx/fleet.conf`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::proxy::{Kind, Proxy, free_port};
use super::restart::posts;
use crate::harness::{Durable, Segment, ada, at_last};

/// How many relays the configuration names.
const RELAYS: usize = 3;

/// Senders that post without pause.
const SENDERS: usize = 4;

/// Calls before a restart, and again after it.
const CALLS: usize = 40;

/// Relays that send to one Segment, behind nginx.
struct Fleet {
    relays: Vec<Durable>,
    segment: Segment,
    proxy: Arc<Proxy>,
}

impl Fleet {
    /// Starts all relays with the default settings.
    async fn start() -> Self {
        let segment = Segment::start().await;
        let listen: Vec<_> = (0..RELAYS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let mut relays = Vec::new();
        for address in &listen {
            let settings = [("RELAY_LISTEN", &**address), ("RELAY_SHUTDOWN_DELAY", "1s")];
            let mut relay = Durable::sending_to(segment.url(), &settings);
            relay.start_relay().await;
            relays.push(relay);
        }
        let proxy = Arc::new(Proxy::start(Kind::NginxOfFleet, &listen).await);
        Self { relays, segment, proxy }
    }
}

#[tokio::test]
async fn a_relay_that_takes_no_connection_is_passed_over() {
    let mut fleet = Fleet::start().await;
    let mut up: Vec<_> = (0..RELAYS).collect();
    while up.len() > 1 {
        fleet.relays[up.pop().expect("a relay")].kill().await;
        for _ in 0..2 * RELAYS {
            let answer = fleet.proxy.send(fleet.proxy.post(&ada())).await;
            assert!(answer.is_stored(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_restart_of_one_relay_after_the_other_fails_no_request() {
    let mut fleet = Fleet::start().await;
    let (stored, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(posts(sender, fleet.proxy.clone(), stored.clone(), is_over.clone()));
    }
    for relay in &mut fleet.relays {
        let before = stored.load(Ordering::Relaxed);
        at_last(async || stored.load(Ordering::Relaxed) >= before + CALLS).await;
        assert_eq!(relay.stop().await, Some(0));
        relay.start_relay().await;
    }
    let before = stored.load(Ordering::Relaxed);
    at_last(async || stored.load(Ordering::Relaxed) >= before + CALLS).await;
    is_over.store(true, Ordering::Relaxed);
    let failed: Vec<_> = senders.join_all().await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{failed:?}");
    let stored = stored.load(Ordering::Relaxed);
    at_last(async || fleet.segment.received_lines().await.len() >= stored).await;
    let received = fleet.segment.received().await;
    let ids: BTreeSet<_> = received.iter().map(|call| call["messageId"].to_string()).collect();
    assert_eq!((ids.len(), received.len()), (stored, stored));
}
