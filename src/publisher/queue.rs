//! The queue of pending calls, and the rule that no user is in two requests at once. Pure.
//!
//! Each user has a queue of calls, and the users who can be sent wait in two lines. Invariants: a user's calls leave in
//! the order in which they came. A user with unsettled calls in a request waits in neither line. Users who return from
//! a request go before new users, and get at most half of a batch together, so that they do not keep new users out. The
//! memory of all unsettled calls is bounded.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::batch::{Batch, PendingCall};

/// Memory of all unsettled calls, in bytes. The default of 2,048 requests in flight can bring 64 MiB. Twice that leaves room
/// for calls whose callers have left and that are still in the queue.
const MAX_QUEUE_BYTES: usize = 128 * 1024 * 1024;

/// Memory of a waiting call beside its JSON, in bytes, roughly: completion, handle, map entry.
const CALL_OVERHEAD: usize = 512;

#[derive(Default)]
pub(super) struct Queue {
    /// Every user with a call that waits or is in a request.
    users: HashMap<Arc<str>, UserCalls>,
    /// Users who returned from a request and have calls waiting.
    returning: VecDeque<Arc<str>>,
    /// Users whose first call came while they were in no request.
    new: VecDeque<Arc<str>>,
    /// Number of waiting calls.
    waiting: usize,
    /// Memory of all calls, waiting or in a request, until they are settled.
    bytes: usize,
}

#[derive(Default)]
struct UserCalls {
    waiting: VecDeque<PendingCall>,
    /// Number of unsettled calls in a request.
    in_request: usize,
}

/// The batch to send next, and the number of calls that were dropped because their callers had left.
#[derive(Default)]
pub(super) struct NextBatch {
    pub(super) batch: Batch,
    pub(super) withdrawn: usize,
}

impl Queue {
    /// # Errors
    /// Gives the call back if there is no room.
    pub(super) fn push(&mut self, pending: PendingCall) -> Result<(), PendingCall> {
        let bytes = memory_of(&pending);
        if self.bytes + bytes > MAX_QUEUE_BYTES {
            return Err(pending);
        }
        self.bytes += bytes;
        self.waiting += 1;
        match self.users.entry(pending.call.user_id().clone()) {
            Entry::Occupied(user) => user.into_mut().waiting.push_back(pending),
            Entry::Vacant(user) => {
                self.new.push_back(user.key().clone());
                user.insert(UserCalls::default()).waiting.push_back(pending);
            }
        }
        Ok(())
    }

    /// Whether a call can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        !self.returning.is_empty() || !self.new.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Takes all calls that can be sent now and that fit. Their users stay in the request until each call is
    /// [`settled`](Self::mark_settled).
    pub(super) fn take_batch(&mut self) -> NextBatch {
        let mut next = NextBatch::default();
        while !next.batch.is_half_full()
            && let Some(user_id) = self.returning.pop_front()
        {
            if !self.fill_from_user(&user_id, &mut next, Batch::is_half_full) {
                self.returning.push_front(user_id);
                break;
            }
        }
        while let Some(user_id) = self.new.pop_front() {
            if !self.fill_from_user(&user_id, &mut next, |_| false) {
                self.new.push_front(user_id);
                break;
            }
        }
        next
    }

    /// Moves a user's calls into the batch while they fit. False if none of them fits.
    fn fill_from_user(&mut self, user_id: &Arc<str>, next: &mut NextBatch, is_enough: impl Fn(&Batch) -> bool) -> bool {
        let Some(user) = self.users.get_mut(user_id) else { return true };
        while let Some(pending) = user.waiting.pop_front_if(|pending| next.batch.fits(&pending.call)) {
            self.waiting -= 1;
            let bytes = memory_of(&pending);
            if pending.completion.mark_in_request() && next.batch.try_push(pending).is_ok() {
                user.in_request += 1;
            } else {
                self.bytes -= bytes;
                next.withdrawn += 1;
            }
            if is_enough(&next.batch) {
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

    /// Settles calls that were in a request. A user without unsettled calls in a request gets back in line.
    pub(super) fn mark_settled<'a>(&mut self, calls: impl Iterator<Item = &'a PendingCall>) {
        for pending in calls {
            // After the grace period the queue is dropped, and a call that is settled later is not counted any more.
            self.bytes = self.bytes.saturating_sub(memory_of(pending));
            let Entry::Occupied(mut entry) = self.users.entry(pending.call.user_id().clone()) else { continue };
            let user = entry.get_mut();
            user.in_request = user.in_request.saturating_sub(1);
            if user.in_request > 0 {
                continue;
            }
            if user.waiting.is_empty() {
                entry.remove();
            } else {
                self.returning.push_back(entry.key().clone());
            }
        }
    }

    /// Removes and returns the waiting calls for which `predicate` is true.
    pub(super) fn extract_if(&mut self, predicate: impl Fn(&PendingCall) -> bool) -> Vec<PendingCall> {
        let mut extracted: Vec<PendingCall> = Vec::new();
        self.users.retain(|_, user| {
            // `VecDeque::extract_if` is not stable. This runs only when the gate shuts.
            for pending in std::mem::take(&mut user.waiting) {
                if predicate(&pending) { extracted.push(pending) } else { user.waiting.push_back(pending) }
            }
            user.in_request > 0 || !user.waiting.is_empty()
        });
        for line in [&mut self.returning, &mut self.new] {
            line.retain(|user_id| self.users.contains_key(user_id));
        }
        self.waiting -= extracted.len();
        self.bytes -= extracted.iter().map(memory_of).sum::<usize>();
        extracted
    }
}

fn memory_of(pending: &PendingCall) -> usize {
    pending.call.json().len() + CALL_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::{MAX_QUEUE_BYTES, NextBatch, Queue};
    use crate::publisher::test_calls::{pending_call, pending_call_with_handle};
    use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
    use proptest::{prop_assert, prop_assert_eq};
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;

    /// The message ids of a batch, with their users.
    fn ids_and_users(next: &NextBatch) -> Vec<(String, Arc<str>)> {
        let id = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap()["messageId"].clone();
        let calls = next.batch.iter();
        calls.map(|t| (id(t.call.json()).as_str().unwrap().to_owned(), t.call.user_id().clone())).collect()
    }

    fn ids(next: &NextBatch) -> Vec<String> {
        ids_and_users(next).into_iter().map(|(id, _)| id).collect()
    }

    fn settle(queue: &mut Queue, next: NextBatch) {
        queue.mark_settled(next.batch.iter());
    }

    #[test]
    fn all_waiting_calls_leave_in_one_batch() {
        let mut queue = Queue::default();
        for (user, id) in [("a", "1"), ("b", "2"), ("a", "3")] {
            queue.push(pending_call(user, id, 0)).unwrap();
        }
        let mut together = ids(&queue.take_batch());
        together.sort();
        assert_eq!(together, ["1", "2", "3"]);
        assert!(!queue.is_ready() && queue.len() == 0);
    }

    #[test]
    fn a_user_in_a_request_waits_and_is_first_when_the_request_is_settled() {
        let mut queue = Queue::default();
        queue.push(pending_call("a", "1", 0)).unwrap();
        let first = queue.take_batch();
        queue.push(pending_call("a", "2", 0)).unwrap();
        assert!(!queue.is_ready());
        queue.push(pending_call("b", "3", 0)).unwrap();
        assert_eq!(ids(&queue.take_batch()), ["3"]);
        queue.push(pending_call("c", "4", 0)).unwrap();
        settle(&mut queue, first);
        assert_eq!(ids(&queue.take_batch()), ["2", "4"]);
    }

    #[test]
    fn a_call_whose_caller_left_is_not_sent_but_the_users_next_call_is() {
        let mut queue = Queue::default();
        let (left, handle) = pending_call_with_handle("a", "1", 0);
        queue.push(left).unwrap();
        queue.push(pending_call("a", "2", 0)).unwrap();
        drop(handle);
        let next = queue.take_batch();
        assert_eq!((ids(&next), next.withdrawn), (vec!["2".to_owned()], 1));
    }

    #[test]
    fn a_user_whose_callers_all_left_is_removed() {
        let mut queue = Queue::default();
        let (left, handle) = pending_call_with_handle("a", "1", 0);
        queue.push(left).unwrap();
        drop(handle);
        assert!(queue.take_batch().batch.is_empty());
        assert!(queue.users.is_empty() && queue.bytes == 0 && !queue.is_ready());
    }

    #[test]
    fn a_user_with_thousands_of_calls_leaves_room_for_other_users() {
        let mut queue = Queue::default();
        queue.push(pending_call("hot", "0", 0)).unwrap();
        let first = queue.take_batch();
        for id in 0..5_000 {
            queue.push(pending_call("hot", &id.to_string(), 0)).unwrap();
        }
        settle(&mut queue, first);
        queue.push(pending_call("other", "s", 0)).unwrap();
        let next = ids(&queue.take_batch());
        assert!(next.contains(&"s".to_owned()) && next.len() > 1_000, "{}", next.len());
    }

    #[test]
    fn the_memory_bound_includes_calls_in_requests() {
        let mut queue = Queue::default();
        let mut calls = 0;
        while queue.push(pending_call(&format!("u-{calls}"), "1", 32_000)).is_ok() {
            calls += 1;
            if calls % 2 == 0 {
                // The batch stays in a request: it is not settled.
                std::mem::forget(queue.take_batch());
            }
        }
        assert!(calls * 32_000 < MAX_QUEUE_BYTES && queue.bytes <= MAX_QUEUE_BYTES, "{calls}");
    }

    #[test]
    fn extracted_calls_are_removed_and_the_others_are_sent() {
        let mut queue = Queue::default();
        for (user, id) in [("a", "1"), ("b", "2"), ("c", "3")] {
            queue.push(pending_call(user, id, 0)).unwrap();
        }
        assert_eq!(queue.extract_if(|pending| &**pending.call.user_id() != "b").len(), 2);
        let rest = queue.take_batch();
        assert_eq!(ids(&rest), ["2"]);
        settle(&mut queue, rest);
        assert_eq!(queue.bytes, 0);
    }

    #[derive(Clone, Debug)]
    enum QueueStep {
        Push { user: u8, size: usize },
        TakeBatch,
        Settle { batch: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<QueueStep>> {
        let push = (0_u8..5, prop_oneof![9 => 0_usize..100, 1 => 20_000_usize..32_000])
            .prop_map(|(user, size)| QueueStep::Push { user, size });
        let settle = (0_usize..4).prop_map(|batch| QueueStep::Settle { batch });
        prop::collection::vec(
            prop_oneof![6 => push, 2 => proptest::strategy::Just(QueueStep::TakeBatch), 2 => settle],
            1..120,
        )
    }

    proptest! {
        #[test]
        fn each_users_order_holds_no_call_is_lost_and_no_user_is_in_two_requests(steps in steps()) {
            let mut queue = Queue::default();
            let mut pushed = 0_usize;
            let mut in_flight: Vec<NextBatch> = Vec::new();
            let mut last: HashMap<Arc<str>, usize> = HashMap::new();
            let mut sent = 0;
            let drain = std::iter::repeat_n([QueueStep::Settle { batch: 0 }, QueueStep::TakeBatch], 200).flatten();
            for step in steps.into_iter().chain(drain) {
                match step {
                    QueueStep::Push { user, size } => {
                        queue.push(pending_call(&format!("u-{user}"), &pushed.to_string(), size)).unwrap();
                        pushed += 1;
                    }
                    QueueStep::TakeBatch => {
                        let next = queue.take_batch();
                        let busy: HashSet<_> =
                            in_flight.iter().flat_map(|d| d.batch.iter().map(|t| t.call.user_id().clone())).collect();
                        for (id, user) in ids_and_users(&next) {
                            prop_assert!(!busy.contains(&user), "{user} is in two requests");
                            let id: usize = id.parse().unwrap();
                            prop_assert!(last.insert(user, id).is_none_or(|before| before < id));
                            sent += 1;
                        }
                        in_flight.push(next);
                    }
                    QueueStep::Settle { batch } if batch < in_flight.len() => {
                        settle(&mut queue, in_flight.remove(batch));
                    }
                    QueueStep::Settle { .. } => {}
                }
            }
            prop_assert_eq!(sent, pushed);
            prop_assert!(queue.users.is_empty() && queue.bytes == 0 && queue.len() == 0);
        }
    }
}
