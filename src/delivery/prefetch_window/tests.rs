//! The prefetch window against an outbox in memory: every call is prefetched once, each user's calls in order, and no user
//! keeps the others out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::{CALL_OVERHEAD, PageRequest, PrefetchOutcome, PrefetchWindow};
use crate::outbox::{CallId, StoredCall};
use crate::segment::{Call, MAX_CALL_BYTES};

/// Room for about sixty small calls in each half, and for one of the largest: the window reads only if that fits.
const WINDOW_BYTES: usize = 2 * (MAX_CALL_BYTES + 30 * CALL_OVERHEAD);

/// Calls in a page. Twice as many rows are looked at for it.
const PAGE_CALLS: usize = 5;

fn stored(id: CallId, user: u8) -> StoredCall {
    StoredCall {
        id,
        call: Call::from_wire(Arc::from(format!("u-{user}")), Bytes::from_static(b"{}")),
        is_parked: false,
    }
}

/// An outbox in memory that is read through a window.
struct MemoryOutbox {
    window: PrefetchWindow,
    waiting: BTreeMap<CallId, u8>,
    last: CallId,
    /// In the order in which they were prefetched.
    prefetched: Vec<(CallId, u8)>,
    /// Prefetched and not settled.
    unsettled: Vec<(CallId, u8)>,
}

impl MemoryOutbox {
    fn new() -> Self {
        Self {
            window: PrefetchWindow::new(WINDOW_BYTES),
            waiting: BTreeMap::new(),
            last: 0,
            prefetched: Vec::new(),
            unsettled: Vec::new(),
        }
    }

    /// Stores a call. `is_announced`: it is offered to the window at once.
    fn store(&mut self, user: u8, is_announced: bool) {
        self.last += 1;
        self.waiting.insert(self.last, user);
        if is_announced {
            let fresh = stored(self.last, user);
            let outcome = self.window.offer_fresh(&fresh);
            self.record(outcome, &fresh, user);
        }
    }

    fn record(&mut self, outcome: PrefetchOutcome, stored: &StoredCall, user: u8) {
        if outcome == PrefetchOutcome::Prefetched {
            self.prefetched.push((stored.id, user));
            self.unsettled.push((stored.id, user));
        }
    }

    /// Reads a page, if the window wants one.
    fn read(&mut self) -> bool {
        if !self.window.wants_to_read(self.last) {
            return false;
        }
        let PageRequest { cursor, from, users, limit } = self.window.next_page(self.last);
        let rows: Vec<_> = self.waiting.range(from..).take(2 * PAGE_CALLS).map(|(id, user)| (*id, *user)).collect();
        let wanted = rows.iter().filter(|(_, user)| users.matches(&format!("u-{user}")));
        let page: Vec<_> = wanted.copied().take(PAGE_CALLS.min(limit)).collect();
        let is_cut = page.len() == PAGE_CALLS.min(limit);
        let next = if is_cut {
            page.last().unwrap().0 + 1
        } else if rows.len() == 2 * PAGE_CALLS {
            rows.last().unwrap().0 + 1
        } else {
            self.last + 1
        };
        for (id, user) in page {
            let stored = stored(id, user);
            let outcome = self.window.offer(cursor, &stored);
            if outcome == PrefetchOutcome::NoRoom {
                return true;
            }
            self.record(outcome, &stored, user);
        }
        self.window.finish_page(cursor, next);
        true
    }

    /// Settles up to `count` unsettled calls of the users for whom `may` is true.
    fn settle(&mut self, count: usize, may: impl Fn(u8) -> bool) -> usize {
        let settled: Vec<_> = self.unsettled.iter().filter(|(_, user)| may(*user)).take(count).copied().collect();
        self.unsettled.retain(|call| !settled.contains(call));
        self.waiting.retain(|id, _| !settled.iter().any(|(gone, _)| gone == id));
        self.window.remove_settled(settled.iter().map(|(id, _)| *id));
        settled.len()
    }
}

#[derive(Clone, Debug)]
enum OutboxEvent {
    Store(u8, bool),
    Read,
    Settle(usize),
}

fn events() -> impl Strategy<Value = Vec<OutboxEvent>> {
    // User 0 has half of the calls. The calls of users 6 and 7 are never settled.
    let user = prop_oneof![4 => 0_u8..1, 4 => 0_u8..8];
    let event = prop_oneof![
        6 => (user, prop::bool::weighted(0.8)).prop_map(|(user, is_announced)| OutboxEvent::Store(user, is_announced)),
        2 => (0_u8..1).prop_map(|_| OutboxEvent::Read),
        2 => (1_usize..12).prop_map(OutboxEvent::Settle),
    ];
    prop::collection::vec(event, 1..300)
}

fn is_settling(user: u8) -> bool {
    user < 6
}

proptest! {
    #[test]
    fn every_call_is_prefetched_once_and_each_users_calls_in_order(events in events()) {
        let mut outbox = MemoryOutbox::new();
        for event in events {
            match event {
                OutboxEvent::Store(user, is_announced) => outbox.store(user, is_announced),
                OutboxEvent::Read => drop(outbox.read()),
                OutboxEvent::Settle(count) => drop(outbox.settle(count, is_settling)),
            }
        }
        // Then everything is settled and read. The number of steps is bounded, so that a window in a loop fails the test.
        for _ in 0..20_000 {
            if outbox.settle(usize::MAX, is_settling) == 0 && !outbox.read() {
                break;
            }
        }
        let prefetched: HashSet<_> = outbox.prefetched.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(prefetched.len(), outbox.prefetched.len());
        let mut last: HashMap<u8, CallId> = HashMap::new();
        for (id, user) in &outbox.prefetched {
            prop_assert!(last.insert(*user, *id).is_none_or(|before| before < *id));
        }
        prop_assert!(outbox.waiting.values().all(|user| !is_settling(*user)), "left: {:?}", outbox.waiting);
    }
}

#[test]
fn a_user_with_many_calls_leaves_room_for_other_users() {
    let mut outbox = MemoryOutbox::new();
    (0..1_000).for_each(|_| outbox.store(0, true));
    (1..8).for_each(|user| outbox.store(user, true));
    while outbox.read() {}
    let users: HashSet<_> = outbox.unsettled.iter().map(|(_, user)| *user).collect();
    assert_eq!(users.len(), 8);
}

#[test]
fn many_users_with_unsettled_calls_leave_room_for_other_users() {
    let mut outbox = MemoryOutbox::new();
    for _ in 0..100 {
        (0..8).for_each(|user| outbox.store(user, true));
    }
    (100..105).for_each(|user| outbox.store(user, true));
    while outbox.read() {}
    let others = outbox.unsettled.iter().filter(|(_, user)| *user >= 100).count();
    assert_eq!(others, 5);
}

#[test]
fn a_user_with_many_calls_does_not_delay_other_users_until_its_calls_are_sent() {
    let mut outbox = MemoryOutbox::new();
    (0..1_000).for_each(|_| outbox.store(0, true));
    outbox.store(1, false);
    let mut steps = 0;
    // User 0 holds its whole share, and one call is settled at a time.
    while !outbox.prefetched.iter().any(|(_, user)| *user == 1) {
        outbox.read();
        outbox.settle(1, |_| true);
        steps += 1;
        assert!(steps < 10_000);
    }
    assert!(outbox.waiting.len() > 400, "{} of 1,000 were left", outbox.waiting.len());
}
