//! A fleet of relays behind nginx, with the configuration of `config/nginx/fleet.conf`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::proxy::{Kind, Proxy, free_port};
use super::restart::posts;
use crate::harness::postgres::Cluster;
use crate::harness::{Answer, Fleet, ada, at_last};

/// How many relays the configuration names.
const RELAYS: usize = 3;

/// Senders that post without pause.
const SENDERS: usize = 4;

/// Calls before something happens to a relay, and again after it.
const CALLS: usize = 40;

/// A lease ends 5 seconds after this. The relay takes no connections for one second at most.
const SETTINGS: [(&str, &str); 2] = [("SEGMENT_TIMEOUT", "1s"), ("RELAY_SHUTDOWN_DELAY", "1s")];

/// A fleet behind nginx.
async fn behind_nginx() -> (Fleet, Arc<Proxy>) {
    let mut fleet = Fleet::prepared(RELAYS, Cluster::shared(), &SETTINGS).await;
    let listen: Vec<_> = (0..RELAYS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    for (relay, address) in fleet.relays.iter_mut().zip(&listen) {
        relay.set("RELAY_LISTEN", address);
    }
    fleet.start_all().await;
    (fleet, Arc::new(Proxy::start(Kind::NginxOfFleet, &listen).await))
}

/// Senders that post until they are told to stop.
struct Senders {
    stored: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Answer>>,
}

impl Senders {
    fn start(proxy: &Arc<Proxy>) -> Self {
        let mut senders = Self { stored: Arc::default(), is_over: Arc::default(), tasks: JoinSet::new() };
        for number in 0..SENDERS {
            senders.tasks.spawn(posts(number, proxy.clone(), senders.stored.clone(), senders.is_over.clone()));
        }
        senders
    }

    /// Waits until more calls are stored.
    async fn go_on(&self) {
        let before = self.stored.load(Ordering::Relaxed);
        at_last(async || self.stored.load(Ordering::Relaxed) >= before + CALLS).await;
    }

    /// Stops them. Every stored call arrives. The answers that were no success, and how often a call arrived again.
    async fn finish(self, fleet: &Fleet) -> (Vec<Answer>, usize) {
        self.is_over.store(true, Ordering::Relaxed);
        let failed = self.tasks.join_all().await.into_iter().flatten().collect();
        let (stored, segment) = (self.stored.load(Ordering::Relaxed), fleet.relays[0].segment());
        let arrived = async || {
            let received = segment.received().await;
            let of_senders = received.iter().filter_map(|call| call["messageId"].as_str());
            of_senders.filter(|id| id.starts_with("u-")).map(str::to_owned).collect::<Vec<_>>()
        };
        at_last(async || arrived().await.iter().collect::<BTreeSet<_>>().len() == stored).await;
        (failed, arrived().await.len() - stored)
    }
}

#[tokio::test]
async fn a_restart_of_one_relay_after_the_other_fails_no_request() {
    let (mut fleet, proxy) = behind_nginx().await;
    let senders = Senders::start(&proxy);
    for number in 0..RELAYS {
        senders.go_on().await;
        assert_eq!(fleet.relays[number].stop().await, Some(0));
        fleet.relays[number].start_relay().await;
    }
    senders.go_on().await;
    let (failed, repeated) = senders.finish(&fleet).await;
    assert!(failed.is_empty() && repeated == 0, "{repeated} repeated: {failed:?}");
}

#[tokio::test]
async fn a_relay_that_is_killed_is_passed_over_and_what_it_stored_arrives() {
    let (mut fleet, proxy) = behind_nginx().await;
    let senders = Senders::start(&proxy);
    senders.go_on().await;
    let deliverer = fleet.deliverer().await;
    fleet.relays[deliverer].kill().await;
    senders.go_on().await;
    // Another one delivers.
    let (failed, _) = senders.finish(&fleet).await;
    // What was in the killed relay: nobody else.
    assert!(failed.len() <= SENDERS, "{failed:?}");
    assert!(failed.iter().all(|answer| answer.code() == "relay_unavailable"), "{failed:?}");
    for _ in 0..2 * RELAYS {
        let answer = proxy.send(proxy.post(&ada())).await;
        assert!(answer.is_stored(), "{answer:?}");
    }
}
