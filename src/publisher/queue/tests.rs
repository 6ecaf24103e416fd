//! Tests of the queue, among them a property test of its order.

use super::{Queue, Standing, Taken};
use crate::publisher::keys::KeyId;
use crate::publisher::memory::MAX_BYTES;
use crate::publisher::test_calls::{pending_call, pending_call_with_handle, stored_call, stored_call_to};
use crate::segment::{CallOutcome, SettledCall};
use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The message ids of a batch, with their users.
fn ids_and_users(next: &Taken) -> Vec<(String, Arc<str>)> {
    let id = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap()["messageId"].clone();
    let calls = next.batch.iter();
    calls.map(|t| (id(t.call.json()).as_str().unwrap().to_owned(), t.call.user_id().clone())).collect()
}

fn ids(next: &Taken) -> Vec<String> {
    ids_and_users(next).into_iter().map(|(id, _)| id).collect()
}

/// `SEGMENT_WRITE_KEY`.
const KEY: KeyId = KeyId::DEFAULT;

fn has_first(queue: &Queue) -> bool {
    queue.next_key(|_| true).is_some()
}

/// More than a batch can hold.
const ALL: usize = 10_000;

fn settle(queue: &mut Queue, next: Taken) {
    next.batch.iter().for_each(|pending| queue.forget(pending));
    next.batch.iter().for_each(|pending| queue.release(pending.call.user_id(), Standing::Sound));
}

#[test]
fn all_waiting_calls_leave_in_one_batch() {
    let mut queue = Queue::default();
    for (user, id) in [("a", "1"), ("b", "2"), ("a", "3")] {
        assert!(queue.push(pending_call(user, id, 0)));
    }
    let mut together = ids(&queue.take_first(KEY, ALL));
    together.sort();
    assert_eq!(together, ["1", "2", "3"]);
    assert!(!has_first(&queue) && queue.len() == 0);
}

#[test]
fn a_user_in_a_request_waits_and_is_first_when_the_request_is_settled() {
    let mut queue = Queue::default();
    assert!(queue.push(pending_call("a", "1", 0)));
    let first = queue.take_first(KEY, ALL);
    assert!(queue.push(pending_call("a", "2", 0)));
    assert!(!has_first(&queue));
    assert!(queue.push(pending_call("b", "3", 0)));
    assert_eq!(ids(&queue.take_first(KEY, ALL)), ["3"]);
    assert!(queue.push(pending_call("c", "4", 0)));
    settle(&mut queue, first);
    assert_eq!(ids(&queue.take_first(KEY, ALL)), ["2", "4"]);
}

#[test]
fn a_call_whose_caller_left_is_not_sent_but_the_users_next_call_is() {
    let mut queue = Queue::default();
    let (left, handle) = pending_call_with_handle("a", "1", 0);
    assert!(queue.push(left));
    assert!(queue.push(pending_call("a", "2", 0)));
    drop(handle);
    let next = queue.take_first(KEY, ALL);
    assert_eq!((ids(&next), next.withdrawn), (vec!["2".to_owned()], 1));
}

#[test]
fn a_user_whose_callers_all_left_is_removed() {
    let mut queue = Queue::default();
    let (left, handle) = pending_call_with_handle("a", "1", 0);
    assert!(queue.push(left));
    drop(handle);
    assert!(queue.take_first(KEY, ALL).batch.is_empty());
    assert!(queue.users.is_empty() && queue.memory.all == 0 && !has_first(&queue));
}

#[test]
fn a_user_with_thousands_of_calls_leaves_room_for_other_users() {
    let mut queue = Queue::default();
    assert!(queue.push(pending_call("hot", "0", 0)));
    let first = queue.take_first(KEY, ALL);
    for id in 0..5_000 {
        assert!(queue.push(pending_call("hot", &id.to_string(), 0)));
    }
    settle(&mut queue, first);
    assert!(queue.push(pending_call("other", "s", 0)));
    let next = ids(&queue.take_first(KEY, ALL));
    assert!(next.contains(&"s".to_owned()) && next.len() > 1_000, "{}", next.len());
}

#[test]
fn the_memory_bound_includes_calls_in_requests() {
    let mut queue = Queue::default();
    let mut calls = 0;
    while queue.push(pending_call(&format!("u-{calls}"), "1", 32_000)) {
        calls += 1;
        if calls % 2 == 0 {
            // The batch stays in a request: it is not settled.
            std::mem::forget(queue.take_first(KEY, ALL));
        }
    }
    assert!(calls * 32_000 < MAX_BYTES && queue.memory.all <= MAX_BYTES, "{calls}");
}

#[test]
fn extracted_calls_are_removed_and_the_others_are_sent() {
    let mut queue = Queue::default();
    for (user, id) in [("a", "1"), ("b", "2"), ("c", "3")] {
        assert!(queue.push(pending_call(user, id, 0)));
    }
    assert_eq!(queue.extract_if(|_, pending| &**pending.call.user_id() != "b").len(), 2);
    let rest = queue.take_first(KEY, ALL);
    assert_eq!(ids(&rest), ["2"]);
    settle(&mut queue, rest);
    assert_eq!(queue.memory.all, 0);
}

#[test]
fn a_stored_call_that_comes_while_draining_does_not_leave_before_an_earlier_one_that_was_left() {
    let mut queue = Queue::default();
    assert!(queue.push(stored_call("a", "1")));
    queue.leave_stored();
    assert!(queue.push(stored_call("a", "2")));
    assert!(queue.push(pending_call("b", "3", 0)));
    assert_eq!(ids(&queue.take_first(KEY, ALL)), ["3"]);
}

#[test]
fn a_stored_call_whose_request_fails_while_the_process_drains_is_sent_no_more() {
    let mut queue = Queue::default();
    assert!(queue.push(stored_call("a", "1")));
    let sent = queue.take_first(KEY, ALL);
    assert!(queue.push(stored_call("a", "2")));
    assert!(!has_first(&queue));
    queue.leave_stored();
    assert!(queue.push(stored_call("a", "3")));
    queue.give_back(sent.batch.into_calls());
    assert!(!has_first(&queue) && queue.len() == 0 && queue.memory.all == 0);
}

#[test]
fn while_the_fence_is_shut_waiting_coming_and_returning_stored_calls_go_back_and_callers_stay() {
    let mut queue = Queue::default();
    let (delivered, mut outcomes) = mpsc::unbounded_channel::<SettledCall>();
    let mut gone = || -> Vec<(i64, CallOutcome)> {
        std::iter::from_fn(|| outcomes.try_recv().ok()).map(|call| (call.id, call.outcome)).collect()
    };
    assert!(queue.push(stored_call_to("a", 1, &delivered)));
    let sent = queue.take_first(KEY, ALL);
    assert!(queue.push(stored_call_to("a", 2, &delivered)));
    assert!(queue.push(pending_call("b", "b-1", 0)));
    queue.set_fence(false);
    let back = |id| (id, CallOutcome::TakenBack);
    assert_eq!(gone(), vec![back(2)], "one is in a request");
    assert!(queue.push(stored_call_to("c", 3, &delivered)));
    assert_eq!(gone(), vec![back(3)]);
    queue.give_back(sent.batch.into_calls());
    queue.release(&"a".into(), Standing::Sound);
    assert_eq!(gone(), vec![back(1)]);
    assert_eq!(ids(&queue.take_first(KEY, ALL)), ["b-1"]);
    queue.set_fence(true);
    assert!(queue.push(stored_call_to("a", 1, &delivered)));
    assert_eq!(ids(&queue.take_first(KEY, ALL)), ["m-1"]);
    assert_eq!(gone(), vec![]);
}

#[derive(Clone, Debug)]
enum QueueStep {
    Push { user: u8, size: usize },
    PushStored { user: u8 },
    LeaveStored,
    TakeBatch,
    Settle { batch: usize },
}

fn steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let push = (0_u8..5, prop_oneof![9 => 0_usize..100, 1 => 20_000_usize..32_000])
        .prop_map(|(user, size)| QueueStep::Push { user, size });
    let push_stored = (0_u8..5).prop_map(|user| QueueStep::PushStored { user });
    let settle = (0_usize..4).prop_map(|batch| QueueStep::Settle { batch });
    prop::collection::vec(
        prop_oneof![
            6 => push,
            4 => push_stored,
            2 => Just(QueueStep::TakeBatch),
            2 => settle,
            1 => Just(QueueStep::LeaveStored),
        ],
        1..120,
    )
}

proptest! {
    #[test]
    fn each_users_order_holds_no_call_is_lost_and_no_user_is_in_two_requests(steps in steps()) {
        let mut queue = Queue::default();
        let (mut pushed, mut sent) = (0_usize, 0);
        let mut in_flight: Vec<Taken> = Vec::new();
        let mut last: HashMap<Arc<str>, usize> = HashMap::new();
        // The stored calls of each user that were not sent.
        let mut stored: HashMap<Arc<str>, VecDeque<usize>> = HashMap::new();
        let mut leaves_stored = false;
        let drain = std::iter::repeat_n([QueueStep::Settle { batch: 0 }, QueueStep::TakeBatch], 200).flatten();
        for step in steps.into_iter().chain(drain) {
            match step {
                QueueStep::Push { user, size } => {
                    assert!(queue.push(pending_call(&format!("u-{user}"), &pushed.to_string(), size)));
                    pushed += 1;
                }
                QueueStep::PushStored { user } => {
                    let call = stored_call(&format!("u-{user}"), &pushed.to_string());
                    stored.entry(call.call.user_id().clone()).or_default().push_back(pushed);
                    assert!(queue.push(call));
                    pushed += 1;
                }
                QueueStep::LeaveStored => {
                    queue.leave_stored();
                    leaves_stored = true;
                }
                QueueStep::TakeBatch => {
                    let next = queue.take_first(KEY, ALL);
                    let busy: HashSet<_> =
                        in_flight.iter().flat_map(|d| d.batch.iter().map(|t| t.call.user_id().clone())).collect();
                    for (id, user) in ids_and_users(&next) {
                        prop_assert!(!busy.contains(&user), "{user} is in two requests");
                        let id: usize = id.parse().unwrap();
                        if let Some(left) = stored.get_mut(&user) && left.contains(&id) {
                            prop_assert_eq!(left.pop_front(), Some(id), "a stored call was left, and a later one was sent");
                        }
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
        let left: usize = stored.values().map(VecDeque::len).sum();
        prop_assert!(left == 0 || leaves_stored);
        prop_assert_eq!(sent + left, pushed);
        prop_assert!(queue.users.is_empty() && queue.memory.all == 0 && queue.len() == 0);
    }
}
