//! Who goes when: the calls in hand, and the rule that no user is in two requests at once. Pure.
//!
//! Calls wait with their user, users wait in line. Invariants: a user's calls leave in the order in which they came; a
//! user with unsettled calls in a request is in no line; one who comes back from a request with calls left goes before
//! those who come fresh, but all who come back get at most half of a request together, so that users who are always in a
//! hurry never keep strangers out; what is in hand, until it is settled, is bounded in bytes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::batch::{Batch, Taken};

/// How much may be in hand, in bytes. The default of 2,048 requests in flight can bring 64 MiB; twice that leaves room for
/// calls whose callers have left but which nobody has come to yet.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// What a waiting call costs beside its JSON, in bytes, roughly: ticket, claim, map entry.
const CALL_OVERHEAD: usize = 512;

/// The calls in hand.
#[derive(Default)]
pub(super) struct Queue {
    /// Every user with a call waiting or in a request.
    users: HashMap<Arc<str>, User>,
    /// Users who came back from a request and have calls waiting.
    returned: VecDeque<Arc<str>>,
    /// Users who came while they were in no request.
    fresh: VecDeque<Arc<str>>,
    /// How many calls wait.
    calls: usize,
    /// What all calls in hand cost, waiting or not, until they are settled.
    bytes: usize,
}

#[derive(Default)]
struct User {
    waiting: VecDeque<Taken>,
    /// Unsettled calls that left in a batch.
    in_request: usize,
}

/// A batch to be sent, and how many calls fell out because their callers had left.
#[derive(Default)]
pub(super) struct Departure {
    pub(super) batch: Batch,
    pub(super) withdrawn: usize,
}

impl Queue {
    /// Takes a call in.
    ///
    /// # Errors
    /// Gives it back if there is no room.
    pub(super) fn push(&mut self, taken: Taken) -> Result<(), Taken> {
        let bytes = cost(&taken);
        if self.bytes + bytes > MAX_BYTES {
            return Err(taken);
        }
        self.bytes += bytes;
        self.calls += 1;
        match self.users.entry(taken.user_id().clone()) {
            Entry::Occupied(user) => user.into_mut().waiting.push_back(taken),
            Entry::Vacant(user) => {
                self.fresh.push_back(user.key().clone());
                user.insert(User::default()).waiting.push_back(taken);
            }
        }
        Ok(())
    }

    /// Whether a call could go now.
    pub(super) fn is_ready(&self) -> bool {
        !self.returned.is_empty() || !self.fresh.is_empty()
    }

    /// How many calls wait.
    pub(super) fn len(&self) -> usize {
        self.calls
    }

    /// All that may go now and fits. Its users are in a request until each of its calls is [`settled`](Self::settled).
    pub(super) fn take(&mut self) -> Departure {
        let mut departure = Departure::default();
        while !departure.batch.is_half_full()
            && let Some(user_id) = self.returned.pop_front()
        {
            if !self.board(&user_id, &mut departure, Batch::is_half_full) {
                self.returned.push_front(user_id);
                break;
            }
        }
        while let Some(user_id) = self.fresh.pop_front() {
            if !self.board(&user_id, &mut departure, |_| false) {
                self.fresh.push_front(user_id);
                break;
            }
        }
        departure
    }

    /// Puts a user's calls into the batch while they fit; false if not one of them did.
    fn board(&mut self, user_id: &Arc<str>, departure: &mut Departure, enough: impl Fn(&Batch) -> bool) -> bool {
        let Some(user) = self.users.get_mut(user_id) else { return true };
        while let Some(taken) = user.waiting.pop_front_if(|taken| departure.batch.fits(&taken.call)) {
            self.calls -= 1;
            let cost = cost(&taken);
            if taken.ticket.put_in_request() && departure.batch.try_push(taken).is_ok() {
                user.in_request += 1;
            } else {
                self.bytes -= cost;
                departure.withdrawn += 1;
            }
            if enough(&departure.batch) {
                break;
            }
        }
        let has_calls = !user.waiting.is_empty();
        let is_in_request = user.in_request > 0;
        if !has_calls && !is_in_request {
            self.users.remove(user_id);
        }
        is_in_request || !has_calls
    }

    /// These calls, which had left in a batch, are settled. A user who has none left in a request is free again.
    pub(super) fn settled<'a>(&mut self, calls: impl Iterator<Item = &'a Taken>) {
        for taken in calls {
            // What is settled after everything was dropped, when the grace is over, is not counted any more.
            self.bytes = self.bytes.saturating_sub(cost(taken));
            let Entry::Occupied(mut entry) = self.users.entry(taken.user_id().clone()) else { continue };
            let user = entry.get_mut();
            user.in_request = user.in_request.saturating_sub(1);
            if user.in_request > 0 {
                continue;
            }
            if user.waiting.is_empty() {
                entry.remove();
            } else {
                self.returned.push_back(entry.key().clone());
            }
        }
    }

    /// Removes and returns the waiting calls for which `leaves` is true.
    pub(super) fn extract(&mut self, leaves: impl Fn(&Taken) -> bool) -> Vec<Taken> {
        let mut left: Vec<Taken> = Vec::new();
        self.users.retain(|_, user| {
            // `extract_if` is not stable for a VecDeque; this runs only when the gate shuts.
            for taken in std::mem::take(&mut user.waiting) {
                if leaves(&taken) { left.push(taken) } else { user.waiting.push_back(taken) }
            }
            user.in_request > 0 || !user.waiting.is_empty()
        });
        for line in [&mut self.returned, &mut self.fresh] {
            line.retain(|user_id| self.users.contains_key(user_id));
        }
        self.calls -= left.len();
        self.bytes -= left.iter().map(cost).sum::<usize>();
        left
    }
}

fn cost(taken: &Taken) -> usize {
    taken.call.json().len() + CALL_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::{Departure, MAX_BYTES, Queue};
    use crate::publisher::test_calls::{claimed, taken};
    use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
    use proptest::{prop_assert, prop_assert_eq};
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;

    /// The message ids of a departure, with their users.
    fn aboard(departure: &Departure) -> Vec<(String, Arc<str>)> {
        let id = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap()["messageId"].clone();
        let calls = departure.batch.iter();
        calls.map(|t| (id(t.call.json()).as_str().unwrap().to_owned(), t.user_id().clone())).collect()
    }

    fn ids(departure: &Departure) -> Vec<String> {
        aboard(departure).into_iter().map(|(id, _)| id).collect()
    }

    fn settle(queue: &mut Queue, departure: Departure) {
        queue.settled(departure.batch.iter());
    }

    #[test]
    fn all_that_waits_leaves_together() {
        let mut queue = Queue::default();
        for (user, id) in [("a", "1"), ("b", "2"), ("a", "3")] {
            queue.push(taken(user, id, 0)).unwrap();
        }
        let mut together = ids(&queue.take());
        together.sort();
        assert_eq!(together, ["1", "2", "3"]);
        assert!(!queue.is_ready() && queue.len() == 0);
    }

    #[test]
    fn a_user_in_a_request_is_parked_and_comes_first_when_free() {
        let mut queue = Queue::default();
        queue.push(taken("a", "1", 0)).unwrap();
        let first = queue.take();
        queue.push(taken("a", "2", 0)).unwrap();
        assert!(!queue.is_ready());
        queue.push(taken("b", "3", 0)).unwrap();
        assert_eq!(ids(&queue.take()), ["3"]);
        queue.push(taken("c", "4", 0)).unwrap();
        settle(&mut queue, first);
        assert_eq!(ids(&queue.take()), ["2", "4"]);
    }

    #[test]
    fn a_call_whose_caller_left_is_not_sent_and_the_users_next_is() {
        let mut queue = Queue::default();
        let (left, claim) = claimed("a", "1", 0);
        queue.push(left).unwrap();
        queue.push(taken("a", "2", 0)).unwrap();
        drop(claim);
        let departure = queue.take();
        assert_eq!((ids(&departure), departure.withdrawn), (vec!["2".to_owned()], 1));
    }

    #[test]
    fn a_user_whose_callers_all_left_leaves_nothing_behind() {
        let mut queue = Queue::default();
        let (left, claim) = claimed("a", "1", 0);
        queue.push(left).unwrap();
        drop(claim);
        assert!(queue.take().batch.is_empty());
        assert!(queue.users.is_empty() && queue.bytes == 0 && !queue.is_ready());
    }

    #[test]
    fn a_user_with_a_thousand_calls_leaves_room_for_strangers() {
        let mut queue = Queue::default();
        queue.push(taken("hot", "0", 0)).unwrap();
        let first = queue.take();
        for id in 0..5_000 {
            queue.push(taken("hot", &id.to_string(), 0)).unwrap();
        }
        settle(&mut queue, first);
        queue.push(taken("stranger", "s", 0)).unwrap();
        let next = ids(&queue.take());
        assert!(next.contains(&"s".to_owned()) && next.len() > 1_000, "{}", next.len());
    }

    #[test]
    fn what_is_in_hand_is_bounded_in_requests_too() {
        let mut queue = Queue::default();
        let mut calls = 0;
        while queue.push(taken(&format!("u-{calls}"), "1", 32_000)).is_ok() {
            calls += 1;
            if calls % 2 == 0 {
                // Under way, and not settled.
                std::mem::forget(queue.take());
            }
        }
        assert!(calls * 32_000 < MAX_BYTES && queue.bytes <= MAX_BYTES, "{calls}");
    }

    #[test]
    fn what_is_extracted_is_gone_and_the_rest_still_goes() {
        let mut queue = Queue::default();
        for (user, id) in [("a", "1"), ("b", "2"), ("c", "3")] {
            queue.push(taken(user, id, 0)).unwrap();
        }
        assert_eq!(queue.extract(|taken| &**taken.user_id() != "b").len(), 2);
        let rest = queue.take();
        assert_eq!(ids(&rest), ["2"]);
        settle(&mut queue, rest);
        assert_eq!(queue.bytes, 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { user: u8, size: usize },
        Take,
        Settle { batch: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let push = (0_u8..5, prop_oneof![9 => 0_usize..100, 1 => 20_000_usize..32_000])
            .prop_map(|(user, size)| Step::Push { user, size });
        let settle = (0_usize..4).prop_map(|batch| Step::Settle { batch });
        prop::collection::vec(prop_oneof![6 => push, 2 => proptest::strategy::Just(Step::Take), 2 => settle], 1..120)
    }

    proptest! {
        #[test]
        fn order_holds_nothing_is_lost_and_no_user_is_in_two_requests(steps in steps()) {
            let mut queue = Queue::default();
            let mut pushed = 0_usize;
            let mut under_way: Vec<Departure> = Vec::new();
            let mut last: HashMap<Arc<str>, usize> = HashMap::new();
            let mut sent = 0;
            let drain = std::iter::repeat_n([Step::Settle { batch: 0 }, Step::Take], 200).flatten();
            for step in steps.into_iter().chain(drain) {
                match step {
                    Step::Push { user, size } => {
                        queue.push(taken(&format!("u-{user}"), &pushed.to_string(), size)).unwrap();
                        pushed += 1;
                    }
                    Step::Take => {
                        let departure = queue.take();
                        let busy: HashSet<_> =
                            under_way.iter().flat_map(|d| d.batch.iter().map(|t| t.user_id().clone())).collect();
                        for (id, user) in aboard(&departure) {
                            prop_assert!(!busy.contains(&user), "{user} is in two requests");
                            let id: usize = id.parse().unwrap();
                            prop_assert!(last.insert(user, id).is_none_or(|before| before < id));
                            sent += 1;
                        }
                        under_way.push(departure);
                    }
                    Step::Settle { batch } if batch < under_way.len() => {
                        settle(&mut queue, under_way.remove(batch));
                    }
                    Step::Settle { .. } => {}
                }
            }
            prop_assert_eq!(sent, pushed);
            prop_assert!(queue.users.is_empty() && queue.bytes == 0 && queue.len() == 0);
        }
    }
}
