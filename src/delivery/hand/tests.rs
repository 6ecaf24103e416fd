//! The hand against an outbox in memory: every call is taken once, users in order, and nobody keeps strangers out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::{CALL_OVERHEAD, Hand, Offer, Reading};
use crate::outbox::{CallId, Stored};
use crate::segment::{Call, MAX_CALL_BYTES};

/// Room for some sixty small calls in each half, and for one of the largest beside them, which it takes to go on.
const ROOM: usize = 2 * (MAX_CALL_BYTES + 30 * CALL_OVERHEAD);

/// Rows of a page, and rows that are looked at for it.
const PAGE: usize = 5;

fn stored(id: CallId, user: u8) -> Stored {
    Stored { id, call: Call::from_wire(Arc::from(format!("u-{user}")), Bytes::from_static(b"{}")) }
}

/// An outbox whose reader is the hand.
struct Outbox {
    hand: Hand,
    waiting: BTreeMap<CallId, u8>,
    last: CallId,
    /// In the order in which they were taken.
    taken: Vec<(CallId, u8)>,
    /// Taken and not settled.
    under_way: Vec<(CallId, u8)>,
}

impl Outbox {
    fn new() -> Self {
        Self { hand: Hand::of(ROOM), waiting: BTreeMap::new(), last: 0, taken: Vec::new(), under_way: Vec::new() }
    }

    /// A call is stored, and the hand hears of it at once or not.
    fn store(&mut self, user: u8, is_heard: bool) {
        self.last += 1;
        self.waiting.insert(self.last, user);
        if is_heard {
            let fresh = stored(self.last, user);
            let offer = self.hand.offer_fresh(&fresh);
            self.note(offer, &fresh, user);
        }
    }

    fn note(&mut self, offer: Offer, stored: &Stored, user: u8) {
        if offer == Offer::Taken {
            self.taken.push((stored.id, user));
            self.under_way.push((stored.id, user));
        }
    }

    /// Reads a page, if the hand wants one.
    fn read(&mut self) -> bool {
        if !self.hand.wants_to_read(self.last) {
            return false;
        }
        let Reading { cursor, from, whose, limit } = self.hand.reading(self.last);
        let rows: Vec<_> = self.waiting.range(from..).take(2 * PAGE).map(|(id, user)| (*id, *user)).collect();
        let wanted = rows.iter().filter(|(_, user)| whose.is(&format!("u-{user}")));
        let page: Vec<_> = wanted.copied().take(PAGE.min(limit)).collect();
        let is_cut = page.len() == PAGE.min(limit);
        let next = if is_cut {
            page.last().unwrap().0 + 1
        } else if rows.len() == 2 * PAGE {
            rows.last().unwrap().0 + 1
        } else {
            self.last + 1
        };
        for (id, user) in page {
            let stored = stored(id, user);
            let offer = self.hand.offer(cursor, &stored);
            if offer == Offer::NoRoom {
                return true;
            }
            self.note(offer, &stored, user);
        }
        self.hand.page_is_done(cursor, next);
        true
    }

    /// Settles the first calls under way of the users for whom `may` is true.
    fn settle(&mut self, count: usize, may: impl Fn(u8) -> bool) -> usize {
        let settled: Vec<_> = self.under_way.iter().filter(|(_, user)| may(*user)).take(count).copied().collect();
        self.under_way.retain(|call| !settled.contains(call));
        self.waiting.retain(|id, _| !settled.iter().any(|(gone, _)| gone == id));
        self.hand.settled(settled.iter().map(|(id, _)| *id));
        settled.len()
    }
}

#[derive(Clone, Debug)]
enum Event {
    Store(u8, bool),
    Read,
    Settle(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // User 0 has half of the calls, and users 6 and 7 are stuck.
    let user = prop_oneof![4 => 0_u8..1, 4 => 0_u8..8];
    let event = prop_oneof![
        6 => (user, prop::bool::weighted(0.8)).prop_map(|(user, is_heard)| Event::Store(user, is_heard)),
        2 => (0_u8..1).prop_map(|_| Event::Read),
        2 => (1_usize..12).prop_map(Event::Settle),
    ];
    prop::collection::vec(event, 1..300)
}

fn is_sound(user: u8) -> bool {
    user < 6
}

proptest! {
    #[test]
    fn every_call_is_taken_once_and_each_users_in_order(events in events()) {
        let mut outbox = Outbox::new();
        for event in events {
            match event {
                Event::Store(user, is_heard) => outbox.store(user, is_heard),
                Event::Read => drop(outbox.read()),
                Event::Settle(count) => drop(outbox.settle(count, is_sound)),
            }
        }
        // Then it calms down. A bound on the steps, so that a hand that runs in circles fails.
        for _ in 0..20_000 {
            if outbox.settle(usize::MAX, is_sound) == 0 && !outbox.read() {
                break;
            }
        }
        let taken: HashSet<_> = outbox.taken.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(taken.len(), outbox.taken.len());
        let mut last: HashMap<u8, CallId> = HashMap::new();
        for (id, user) in &outbox.taken {
            prop_assert!(last.insert(*user, *id).is_none_or(|before| before < *id));
        }
        prop_assert!(outbox.waiting.values().all(|user| !is_sound(*user)), "left: {:?}", outbox.waiting);
    }
}

#[test]
fn a_user_with_much_to_send_leaves_room_for_strangers() {
    let mut outbox = Outbox::new();
    (0..1_000).for_each(|_| outbox.store(0, true));
    (1..8).for_each(|user| outbox.store(user, true));
    while outbox.read() {}
    let users: HashSet<_> = outbox.under_way.iter().map(|(_, user)| *user).collect();
    assert_eq!(users.len(), 8);
}

#[test]
fn many_users_who_are_stuck_leave_room_for_strangers() {
    let mut outbox = Outbox::new();
    for _ in 0..100 {
        (0..8).for_each(|user| outbox.store(user, true));
    }
    (100..105).for_each(|user| outbox.store(user, true));
    while outbox.read() {}
    let strangers = outbox.under_way.iter().filter(|(_, user)| *user >= 100).count();
    assert_eq!(strangers, 5);
}

#[test]
fn strangers_need_not_wait_until_a_user_with_much_to_send_is_done() {
    let mut outbox = Outbox::new();
    (0..1_000).for_each(|_| outbox.store(0, true));
    outbox.store(1, false);
    let mut steps = 0;
    // It has as much in hand as it may, and is slow.
    while !outbox.taken.iter().any(|(_, user)| *user == 1) {
        outbox.read();
        outbox.settle(1, |_| true);
        steps += 1;
        assert!(steps < 10_000);
    }
    assert!(outbox.waiting.len() > 400, "{} of 1,000 were left", outbox.waiting.len());
}
