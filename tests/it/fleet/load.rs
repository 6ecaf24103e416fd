//! Users who post one call after another, each through another relay, until they are told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::harness::{Answer, Fleet, at_last, client_builder};
use crate::ledger::{Ledger, body};

/// Users who post at the same time.
const USERS: u64 = 24;

/// Pause between two posts of a user: the load leaves the machine time for the relays.
const PAUSE: Duration = Duration::from_millis(10);

/// The load of a test.
pub struct Load {
    users: JoinSet<Ledger>,
    state: Arc<State>,
}

struct State {
    /// The relays' addresses. One that was started again has another one.
    relays: Mutex<Vec<SocketAddr>>,
    posted: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    pub fn start(fleet: &Fleet) -> Self {
        Self::of(fleet, "u-")
    }

    /// Users whose names begin like this.
    pub fn of(fleet: &Fleet, prefix: &str) -> Self {
        let (posted, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let state = Arc::new(State { relays: Mutex::new(addresses(fleet)), posted, is_over });
        let mut users = JoinSet::new();
        for number in 0..USERS {
            users.spawn(post_all(format!("{prefix}{number}"), number as usize, state.clone()));
        }
        Self { users, state }
    }

    /// Posts that were answered 202 so far.
    pub fn posted(&self) -> u64 {
        self.state.posted.load(Ordering::Relaxed)
    }

    /// Waits until so many are.
    pub async fn until(&self, posted: u64) {
        at_last(async || self.posted() >= posted).await;
    }

    /// A relay was started again.
    pub fn moved(&self, fleet: &Fleet) {
        *self.state.relays.lock() = addresses(fleet);
    }

    /// Stops when each user's last post is answered.
    pub async fn finish(self) -> Ledger {
        self.state.is_over.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for ledger in self.users.join_all().await {
            all.join(ledger);
        }
        all
    }
}

fn addresses(fleet: &Fleet) -> Vec<SocketAddr> {
    fleet.relays.iter().filter_map(|relay| relay.running().map(|relay| relay.address())).collect()
}

/// Posts until it is over. A post is repeated, with its key and through the next relay, until it is answered 202.
async fn post_all(user: String, first: usize, state: Arc<State>) -> Ledger {
    let client = client_builder().timeout(Duration::from_secs(30)).build().expect("a client");
    let (mut ledger, mut turn) = (Ledger::default(), first);
    for number in 0.. {
        if state.is_over.load(Ordering::Relaxed) {
            break;
        }
        ledger.posting(&user, number);
        let body = body(&user, number);
        loop {
            turn += 1;
            let relay = {
                let relays = state.relays.lock();
                relays[turn % relays.len()]
            };
            let post =
                client.post(format!("http://{relay}/customers")).header("idempotency-key", format!("{user}/{number}"));
            let answer = match post.json(&body).send().await {
                Ok(response) => Answer::of(response).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) if answer.is_stored() || answer.status == 422 => {
                    ledger.promised(&user, number, &answer);
                    break;
                }
                Ok(answer) => assert!(matches!(answer.status, 503 | 504), "{answer:?}"),
                // The relay was killed, or is not there.
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        state.posted.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    ledger
}
