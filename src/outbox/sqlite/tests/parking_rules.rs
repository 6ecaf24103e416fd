//! The rules of parking, in any order of storing, taking, settling and opening again: the calls of each user leave the store in
//! the order of their ids, none is lost, and none is out twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::{SqliteOutbox, in_memory, open, settings};
use crate::config::OutboxSettings;
use crate::outbox::suite::{
    Inspect, accepted, append, behind, letters, parked, plain, refused, settle, sized, take_if_any,
};
use crate::outbox::{CallId, DeadLetters, Outbox, ParkedFilter, ParkedUsers, StoredCall};

#[derive(Clone, Debug)]
enum Step {
    Append {
        user: usize,
        count: usize,
        size: usize,
    },
    Take {
        room: usize,
    },
    TakeParked,
    /// Settles the first call of a user that is out.
    Accept(usize),
    Refuse(usize),
    Park(usize),
    AcceptAll,
    GiveUpAll,
    ReplayAll,
    Reopen,
}

const USERS: usize = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let user = 0..USERS;
    let step = prop_oneof![
        6 => (user.clone(), 1..4_usize, prop_oneof![Just(10), Just(20_000)])
            .prop_map(|(user, count, size)| Step::Append { user, count, size }),
        6 => prop_oneof![4 => Just(0), 1 => Just(15_000), 1 => Just(usize::MAX)].prop_map(|room| Step::Take { room }),
        3 => Just(Step::TakeParked),
        4 => user.clone().prop_map(Step::Accept),
        1 => user.clone().prop_map(Step::Refuse),
        3 => user.prop_map(Step::Park),
        2 => Just(Step::AcceptAll),
        1 => any::<bool>().prop_map(|all| if all { Step::GiveUpAll } else { Step::ReplayAll }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

struct Checked {
    store: Arc<SqliteOutbox>,
    settings: OutboxSettings,
    /// What is out of each user, in the order of taking.
    out: BTreeMap<usize, Vec<StoredCall>>,
    /// The last id of each user that left the store.
    left: BTreeMap<usize, CallId>,
    stored: u64,
    gone: u64,
    is_small: bool,
}

impl Checked {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Append { user, count, size } => {
                for _ in 0..count {
                    match append(&*self.store, plain(sized(&user.to_string(), "m", size))).await {
                        Ok(_) => self.stored += 1,
                        Err(error) => assert!(self.is_small, "{error}"),
                    }
                }
            }
            Step::Take { room } => {
                let taken = take_if_any(&*self.store, room).await;
                self.taken(taken);
            }
            Step::TakeParked => {
                let taken = self.store.next_parked(2, true).await.unwrap();
                assert!(taken.iter().all(|stored| stored.is_parked));
                self.taken(taken);
            }
            Step::Accept(user) => self.settle_first(user, accepted).await,
            Step::Refuse(user) => self.settle_first(user, |id| refused(id, "words")).await,
            Step::Park(user) => {
                let Some(calls) = self.out.remove(&user).filter(|calls| !calls.is_empty()) else { return };
                let outcomes = calls.iter().enumerate();
                let outcomes = outcomes.map(|(n, stored)| if n == 0 { parked(stored.id) } else { behind(stored.id) });
                settle(&*self.store, outcomes.collect()).await;
            }
            Step::AcceptAll => {
                let calls: Vec<StoredCall> = std::mem::take(&mut self.out).into_values().flatten().collect();
                calls.iter().for_each(|stored| self.leaves(stored));
                settle(&*self.store, calls.iter().map(|stored| accepted(stored.id)).collect()).await;
            }
            Step::GiveUpAll => {
                self.store.give_up_all(ParkedFilter::default()).await.unwrap();
            }
            Step::ReplayAll => {
                let all = letters(&*self.store).await.unwrap();
                self.store.replay(all.iter().rev().map(|letter| letter.id).collect()).await.unwrap();
            }
            Step::Reopen => {
                self.store.close().await;
                self.store = open(&self.settings).unwrap();
                self.out.clear();
            }
        }
    }

    fn of(&mut self, stored: &StoredCall) -> &mut Vec<StoredCall> {
        self.out.entry(stored.call.user_id().parse().unwrap()).or_default()
    }

    fn taken(&mut self, calls: Vec<StoredCall>) {
        for stored in calls {
            let last = self.left.get(&stored.call.user_id().parse().unwrap()).copied();
            let of_user = self.of(&stored);
            assert!(!stored.is_parked || of_user.is_empty(), "{} is tried while others are out", stored.id);
            assert!(
                of_user.iter().all(|earlier| earlier.id < stored.id && !earlier.is_parked),
                "{} is out twice, or late",
                stored.id
            );
            assert!(last.is_none_or(|last| last < stored.id), "{} was taken after a later one had left", stored.id);
            of_user.push(stored);
        }
    }

    fn leaves(&mut self, stored: &StoredCall) {
        let last = self.left.insert(stored.call.user_id().parse().unwrap(), stored.id);
        assert!(last.is_none_or(|last| last < stored.id), "{} left after a later one", stored.id);
        self.gone += 1;
    }

    async fn settle_first(&mut self, user: usize, outcome: impl Fn(CallId) -> crate::segment::SettledCall) {
        let Some(calls) = self.out.get_mut(&user).filter(|calls| !calls.is_empty()) else { return };
        let stored = calls.remove(0);
        let settled = outcome(stored.id);
        if settled == accepted(stored.id) {
            self.leaves(&stored);
        }
        settle(&*self.store, vec![settled]).await;
    }

    /// The counts are those of the rows.
    async fn check(&self) {
        let (stats, all) = (self.store.stats(), self.store.inspect().await.unwrap());
        assert_eq!(stats.waiting, all.len() as u64);
        assert_eq!(stats.parked_calls, all.iter().filter(|stored| stored.is_parked).count() as u64);
        assert_eq!(stats.parked_users, ParkedUsers::list(&*self.store, 100, None, None).await.unwrap().len() as u64);
        let found = letters(&*self.store).await.unwrap().len() as u64;
        assert_eq!(stats.dead_letters, found);
        // In the smaller outbox dead letters may have been pushed out.
        assert!(self.gone + stats.waiting + found == self.stored || self.is_small);
        let count =
            |sql: &'static str| self.store.reads.read(move |conn| conn.query_row(sql, [], |row| row.get::<_, u32>(0)));
        let bytes = "SELECT ifnull(sum(length(call) + 128), 0) FROM parked_calls
                     WHERE user_id IN (SELECT user_id FROM parked WHERE since IS NOT NULL)";
        assert_eq!(stats.parked_bytes, u64::from(count(bytes).await.unwrap()));
        let wrong = "SELECT count(*) FROM (SELECT user_id, count(*) AS calls, sum(length(call) + 128) AS bytes
                     FROM parked_calls GROUP BY user_id) AS found FULL JOIN parked ON parked.user_id = found.user_id
                     WHERE parked.calls IS NOT found.calls OR parked.bytes IS NOT found.bytes";
        assert_eq!(count(wrong).await.unwrap(), 0);
    }

    /// Everything can be delivered: nothing is left.
    async fn empty(&mut self) {
        self.step(Step::AcceptAll).await;
        for _ in 0..100_000 {
            if self.store.stats().waiting == 0 {
                return;
            }
            self.step(Step::Take { room: usize::MAX }).await;
            self.step(Step::TakeParked).await;
            self.step(Step::AcceptAll).await;
        }
        panic!("{} calls are never taken", self.store.stats().waiting);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn calls_of_each_user_leave_in_order_and_none_is_lost_or_out_twice(
        steps in steps(), max_kib in prop_oneof![Just(1024 * 1024_u64), Just(512)]
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let directory = in_memory();
            // In the smaller outbox a user with 32 KiB has many calls, and one with 64 KiB has the whole share.
            let is_small = max_kib < 1024;
            let settings = OutboxSettings { max_bytes: max_kib * 1024, ..settings(&directory.path().join("outbox.db")) };
            let store = open(&settings).unwrap();
            let mut checked = Checked { store, settings, out: BTreeMap::new(), left: BTreeMap::new(), stored: 0, gone: 0, is_small };
            for step in steps {
                checked.step(step).await;
            }
            checked.check().await;
            checked.empty().await;
            checked.check().await;
            checked.store.close().await;
        });
    }
}
