//! The rules of keys, in any order of storing, settling, discarding, replaying, forgetting and opening again.
//!
//! A key is known while its call waits, while its call is a dead letter, and for the window after its call was accepted.
//! A repeat gets the outcome, another body is refused, and an unknown key's call is new.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::clock::{ManualClockStore, WINDOW};
use crate::outbox::suite::{accepted, call, keyed, refused, watched};
use crate::outbox::{CallId, DeliveryOutcome, OutboxError};

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        key: u8,
        body: u8,
        watch: bool,
    },
    Accept {
        key: u8,
    },
    Refuse {
        key: u8,
    },
    Discard {
        key: u8,
    },
    Replay {
        key: u8,
    },
    ReplayAll,
    /// Lets time pass, and forgets what is due.
    Later {
        by: i64,
    },
    Reopen,
}

/// What is expected of a key that is known.
#[derive(Clone, Debug)]
struct Known {
    body: u8,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Waits(CallId),
    /// The id of the dead letter, and Segment's words.
    Refused(i64, String),
    /// When it was accepted.
    Accepted(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..3_u8;
    let step = prop_oneof![
        4 => (key.clone(), 0..2_u8, any::<bool>()).prop_map(|(key, body, watch)| Step::Append { key, body, watch }),
        2 => key.clone().prop_map(|key| Step::Accept { key }),
        3 => key.clone().prop_map(|key| Step::Refuse { key }),
        2 => key.clone().prop_map(|key| Step::Discard { key }),
        2 => key.prop_map(|key| Step::Replay { key }),
        1 => Just(Step::ReplayAll),
        2 => prop_oneof![1..WINDOW, Just(WINDOW)].prop_map(|by| Step::Later { by }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Expected {
    keys: BTreeMap<u8, Known>,
    now: i64,
    refusals: u32,
}

impl Expected {
    fn state(&self, key: u8) -> Option<State> {
        self.keys.get(&key).map(|known| known.state.clone())
    }

    fn set(&mut self, key: u8, state: State) {
        self.keys.get_mut(&key).unwrap().state = state;
    }

    /// Does the step in the store and here, and compares the answers.
    fn step(&mut self, store: &mut ManualClockStore, step: Step) {
        match step {
            Step::Append { key, body, watch } => self.append(store, key, body, watch),
            Step::Accept { key } => {
                let Some(State::Waits(id)) = self.state(key) else { return };
                store.transact(self.now, |transaction, pruner| {
                    transaction.settle(&[accepted(id)]).unwrap();
                    pruner.key_settled(transaction.now);
                });
                self.set(key, State::Accepted(self.now));
            }
            Step::Refuse { key } => {
                let Some(State::Waits(id)) = self.state(key) else { return };
                self.refusals += 1;
                let words = format!("words {}", self.refusals);
                store.transact(self.now, |transaction, _| transaction.settle(&[refused(id, &words)]).unwrap());
                // Ids of dead letters count from 1, and none is used twice.
                self.set(key, State::Refused(self.refusals.into(), words));
            }
            Step::Discard { key } => {
                let Some(State::Refused(letter, _)) = self.state(key) else { return };
                store.transact(self.now, |transaction, _| assert_eq!(transaction.discard(&[letter]).unwrap(), 1));
                self.keys.remove(&key);
            }
            Step::Replay { key } => {
                let Some(State::Refused(letter, _)) = self.state(key) else { return };
                store.transact(self.now, |transaction, _| assert_eq!(transaction.replay(&[letter]).unwrap(), 1));
                self.set(key, State::Waits(store.stats.last_id));
            }
            Step::ReplayAll => self.replay_all(store),
            Step::Later { by } => {
                self.now += by;
                store.keys(self.now);
                let now = self.now;
                self.keys.retain(|_, known| !matches!(known.state, State::Accepted(at) if at + WINDOW <= now));
            }
            Step::Reopen => store.reopen(),
        }
    }

    fn append(&mut self, store: &mut ManualClockStore, key: u8, body: u8, watch: bool) {
        let append = keyed(call("u", &format!("m{key}")), key, body);
        let append = if watch { watched(append) } else { append };
        let mut answer = None;
        store.transact(self.now, |transaction, _| answer = Some(transaction.append(&append).unwrap()));
        let answer = answer.unwrap();
        let Some(known) = self.keys.get(&key) else {
            assert!(!answer.unwrap().replayed);
            self.keys.insert(key, Known { body, state: State::Waits(store.stats.last_id) });
            return;
        };
        if known.body != body {
            assert_eq!(answer.unwrap_err(), OutboxError::KeyReused);
            return;
        }
        let appended = answer.unwrap();
        assert!(appended.replayed);
        let outcome = appended.outcome.map(|mut outcome| outcome.try_recv().ok());
        match &known.state {
            State::Refused(_, words) => assert_eq!(outcome, Some(Some(DeliveryOutcome::Refused(words.clone())))),
            State::Accepted(_) => assert_eq!(outcome, watch.then_some(Some(DeliveryOutcome::Accepted))),
            State::Waits(_) => assert_eq!(outcome, watch.then_some(None)),
        }
    }

    fn replay_all(&mut self, store: &mut ManualClockStore) {
        let mut letters: Vec<(i64, u8)> = Vec::new();
        for (key, known) in &self.keys {
            if let State::Refused(letter, _) = known.state {
                letters.push((letter, *key));
            }
        }
        letters.sort_unstable();
        let first = store.stats.last_id + 1;
        store.transact(self.now, |transaction, _| {
            let ids: Vec<i64> = letters.iter().map(|(id, _)| *id).collect();
            assert_eq!(transaction.replay(&ids).unwrap(), letters.len() as u64);
        });
        for (id, (_, key)) in (first..).zip(letters) {
            self.set(key, State::Waits(id));
        }
    }

    /// The counts, which the file keeps.
    fn check(&self, store: &ManualClockStore) {
        let count = |is: fn(&State) -> bool| self.keys.values().filter(|known| is(&known.state)).count() as u64;
        assert_eq!(store.stats.keys, self.keys.len() as u64);
        assert_eq!(store.stats.waiting, count(|state| matches!(state, State::Waits(_))));
        assert_eq!(store.stats.dead_letters, count(|state| matches!(state, State::Refused(..))));
        assert_eq!(store.stats.dead_letter_bytes, store.dead_letter_bytes());
    }
}

proptest! {
    #[test]
    fn a_key_is_known_while_its_call_waits_or_is_a_dead_letter_and_for_the_window_after_it_was_accepted(
        steps in steps()
    ) {
        let (mut store, mut expected) = (ManualClockStore::new(), Expected::default());
        for step in steps {
            expected.step(&mut store, step);
            expected.check(&store);
        }
        for key in 0..3 {
            expected.append(&mut store, key, 0, true);
        }
    }
}
