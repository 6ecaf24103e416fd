//! The places for connections: who has one, and who gives it up when they are short.
//!
//! A part of the places is kept free, so that a newcomer is accepted at once. When those before it run short, a few connections
//! make room, none of which has a request that the server works on:
//!
//! 1. those on which nobody has shown a secret, before all others;
//! 2. those that are idle, before those whose first request or whose body is still on its way;
//! 3. those of the peer address that has the most connections, until another one has as many;
//! 4. the one that was used the longest time ago, or never since it was accepted.
//!
//! A new connection has half a second for its first request. "Time" is the number of connections accepted so far. That
//! costs a request one plain load, where a clock would have to be read.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::activity::{ActivityCounts, Turn};
use crate::metrics::ListenerMetrics;

/// The most places that are kept free: a burst of newcomers. Where there are fewer than 4,000 places, it is a quarter of them.
const MAX_RESERVE: usize = 1_000;

/// How old a connection is, while places are short, when it ends at the next opportunity. It is looked at every 5 s, so
/// an idle one does not get older than a minute.
const MAX_AGE: Duration = Duration::from_secs(55);

/// How long a new connection stays at least, unless its first request is answered before. Its peer has sent that request by then:
/// without a pause, callers who connect again and again would displace each newcomer at once.
const MIN_STAY: Duration = Duration::from_millis(500);

/// How long nobody is looked for, after fewer could make room than had to. Looking at all of 10,000 connections takes about 2 ms.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The part of an IPv6 address that a provider gives to one customer, who is free to use all addresses in it.
const NETWORK_BITS: u32 = 64;

/// The places of one listener.
pub(super) struct Places {
    limit: usize,
    free: Arc<Semaphore>,
    are_short: AtomicBool,
    /// The number of connections accepted so far.
    clock: AtomicU64,
    occupants: Mutex<Occupants>,
    pub(super) metrics: ListenerMetrics,
}

struct Occupants {
    /// The connections that have a place and were not told to go, by the time at which they came.
    staying: HashMap<u64, Occupant>,
    /// When connections are next told to make room.
    next_look: Instant,
}

/// A connection that has a place.
struct Occupant {
    /// The address of the peer, or its network.
    network: IpAddr,
    accepted_at: Instant,
    activity: Arc<ActivityCounts>,
    notice: oneshot::Sender<()>,
}

/// Resolves when the connection has to make room.
pub(super) type Notice = oneshot::Receiver<()>;

/// A connection's place, free again when it is dropped.
pub(super) struct Place {
    pub(super) peer: SocketAddr,
    pub(super) activity: Arc<ActivityCounts>,
    places: Arc<Places>,
    arrival: u64,
    accepted_at: Instant,
    /// The connection makes room.
    is_leaving: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(limit: usize, metrics: ListenerMetrics) -> Arc<Self> {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            limit,
            free: Arc::new(Semaphore::new(limit)),
            are_short: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            occupants: Mutex::new(Occupants { staying: HashMap::new(), next_look: Instant::now() }),
            metrics,
        })
    }

    /// Whether few places are free, or were until connections made room.
    pub(super) fn are_short(&self) -> bool {
        self.are_short.load(Relaxed)
    }

    /// The time by which [`ActivityCounts`] says when a connection was last used.
    pub(super) fn clock(&self) -> &AtomicU64 {
        &self.clock
    }

    /// Tells connections to make room if few places are free. Called for each newcomer. Returns whether places are short.
    pub(super) fn make_room(&self) -> bool {
        let reserve = (self.limit / 4).min(MAX_RESERVE);
        let mut occupants = self.occupants.lock();
        let Occupants { staying, next_look } = &mut *occupants;
        if staying.len() + reserve >= self.limit {
            self.are_short.store(true, Relaxed);
            let now = Instant::now();
            if now >= *next_look {
                // Several at once, because looking at all of them is work.
                let count = staying.len() + reserve - self.limit + (reserve / 2).max(1);
                let chosen = choose(staying.iter().map(|occupant| Candidate::new(occupant, now)).collect(), count);
                if chosen.len() < count {
                    *next_look = now + LOOK_INTERVAL;
                }
                for occupant in chosen.into_iter().filter_map(|arrival| staying.remove(&arrival)) {
                    // One that has just ended makes room anyway.
                    if occupant.notice.send(()).is_ok() {
                        self.metrics.told_to_go.inc();
                    }
                }
            }
        } else if self.free.available_permits() > 2 * reserve {
            // More than are free just after connections made room, so that places are not short and plenty in turns.
            self.are_short.store(false, Relaxed);
        }
        self.are_short()
    }

    /// Waits for a free place and takes it.
    pub(super) async fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<(Place, Notice)> {
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.ok()?;
        let arrival = self.clock.fetch_add(1, Relaxed) + 1;
        let activity = Arc::new(ActivityCounts::accepted(arrival));
        let (sender, notice) = oneshot::channel();
        let (accepted_at, network) = (Instant::now(), network(peer.ip()));
        let occupant = Occupant { network, accepted_at, activity: activity.clone(), notice: sender };
        self.occupants.lock().staying.insert(arrival, occupant);
        self.metrics.accepted.inc();
        self.metrics.open.inc();
        let (places, is_leaving) = (self.clone(), AtomicBool::new(false));
        Some((Place { peer, activity, places, arrival, accepted_at, is_leaving, _permit: permit }, notice))
    }
}

impl Place {
    /// Whether places are short.
    pub(super) fn is_scarce(&self) -> bool {
        self.places.are_short()
    }

    /// Whether the connection ends with its next answer, because others need its place.
    pub(super) fn ends_with_answer(&self) -> bool {
        (self.is_scarce() && (!self.activity.is_known() || self.is_old())) || self.is_leaving.load(Relaxed)
    }

    /// Whether the connection ends as soon as it is idle, because places are short and it is too old.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_scarce() && self.is_old()
    }

    fn is_old(&self) -> bool {
        self.accepted_at.elapsed() >= MAX_AGE
    }

    /// Says that the connection makes room.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.occupants.lock().staying.remove(&self.arrival);
        self.places.metrics.open.dec();
    }
}

/// What decides whether a connection makes room.
#[derive(Clone)]
struct Candidate {
    arrival: u64,
    network: IpAddr,
    is_known: bool,
    turn: Turn,
    /// Its first request was not answered, and may still come.
    is_new: bool,
    last_used: u64,
}

impl Candidate {
    fn new((arrival, occupant): (&u64, &Occupant), now: Instant) -> Self {
        let Occupant { network, accepted_at, activity, .. } = occupant;
        let (is_known, turn, last_used) = (activity.is_known(), activity.turn(), activity.last_used());
        let is_new = turn == Turn::Peer && now.saturating_duration_since(*accepted_at) < MIN_STAY;
        Self { arrival: *arrival, network: *network, is_known, turn, is_new, last_used }
    }
}

/// The connections that make room, at most `count`. While one is new on which no secret was shown, none makes room on which one
/// was: it would make room for strangers alone.
fn choose(mut all: Vec<Candidate>, count: usize) -> Vec<u64> {
    // Of one network, those that stay longest come first. So a connection's rank says how many its network keeps without it,
    // and the highest rank is in the network with the most connections.
    all.sort_unstable_by_key(|one| {
        (one.network, Reverse((one.is_known, one.turn)), Reverse((one.last_used, one.arrival)))
    });
    let mut rank = 0_usize;
    let mut before = None;
    let mut ranked = Vec::with_capacity(all.len());
    for one in all {
        rank = if before == Some(one.network) { rank + 1 } else { 0 };
        before = Some(one.network);
        if one.turn != Turn::Server {
            ranked.push(((one.is_known, one.is_new, one.turn, Reverse(rank), one.last_used), one.arrival));
        }
    }
    ranked.sort_unstable();
    let chosen = ranked.into_iter().take_while(|((_, is_new, ..), _)| !is_new);
    chosen.take(count).map(|(_, arrival)| arrival).collect()
}

/// What counts as one peer: an IPv4 address, or the network that an IPv6 address is in.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> NETWORK_BITS)).into(),
    }
}

#[cfg(test)]
mod tests;
