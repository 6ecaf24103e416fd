//! The tests that every store must pass.
//!
//! A test is a function over a [`StoreFactory`], which opens the same store again after it was closed. `contract!`
//! makes these tests for one kind of store.

pub(super) mod calls;
pub(super) mod dead_letters;
pub(super) mod events;
pub(super) mod forget;
pub(super) mod groups;
pub(super) mod keys;
pub(super) mod many;
pub(super) mod parked;
pub(super) mod reading;
pub(super) mod settling;
pub(super) mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::calls::Calls;
use super::events::Events;
use super::forget::PersonStore;
use super::letters::{DeadLetter, DeadLetters, LetterFilter};
use super::store::{
    Append, Appended, CallId, DeliveryOutcome, KeyRecord, Outbox, OutboxError, OutboxStats, ParkedUsers, SourceStats,
    StoredCall,
};
use crate::segment::{Call, CallOutcome, Refusal, SettledCall, Trouble};

/// Opens a store. Its content survives that the store is closed.
#[async_trait]
pub(super) trait StoreFactory: Send + Sync + 'static {
    type Store: Inspect + Calls + DeadLetters + Events + ParkedUsers + PersonStore + 'static;

    /// Opens the store, which must be closed. `window` is how long keys are remembered.
    async fn open_with_window(&self, window: Duration) -> Arc<Self::Store>;

    /// Opens it with a window that is longer than any test.
    async fn open(&self) -> Arc<Self::Store> {
        self.open_with_window(Duration::from_secs(3600)).await
    }
}

/// What a test sees of a store beside its traits.
#[async_trait]
pub(super) trait Inspect: Outbox {
    /// All calls that wait, in the order of their ids, whether they are out or not. `is_parked` says which are kept apart.
    async fn inspect(&self) -> Result<Vec<StoredCall>, OutboxError>;

    /// Makes the figures those of now.
    async fn refresh(&self) {}

    /// The statistics of now.
    async fn fresh(&self) -> OutboxStats {
        self.refresh().await;
        self.stats()
    }

    /// What waits of each source.
    fn sources(&self) -> Vec<SourceStats>;

    /// How long the keys of these sources are remembered.
    fn set_windows(&self, windows: BTreeMap<Arc<str>, Duration>);
}

/// Makes a test of every function of the suite. The expression is a new factory.
macro_rules! contract {
    ($stores:expr; $($file:ident: $($test:ident)+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::outbox::suite::$file::$test($stores).await;
            }
        )+)+
    };
    ($stores:expr) => {
        contract! { $stores;
            reading:
                calls_are_taken_once_in_order
                an_answer_is_bounded_by_the_room
                an_answer_holds_one_call_at_least
                calls_that_are_stored_later_end_the_wait
                new_calls_that_do_not_fit_into_memory_are_taken_too
                calls_and_ids_survive_a_reopen
                calls_that_were_out_are_taken_again_after_a_reopen
                a_thousand_concurrent_calls_are_stored_in_order_per_user;
            parked:
                of_a_parked_user_nothing_is_taken
                later_calls_are_kept_behind_a_parked_one
                an_accepted_parked_call_wakes_its_user
                calls_that_were_not_read_when_their_user_was_parked_wait_behind_the_others
                a_refused_parked_call_wakes_its_user
                parked_users_who_are_not_due_are_taken_early_alone
                a_parked_user_survives_a_reopen
                the_key_of_a_parked_call_is_known
                a_retry_makes_a_user_due
                a_given_up_call_is_a_dead_letter_and_wakes_its_user
                a_call_that_is_out_is_given_up_when_it_fails
                verbs_for_all_heed_the_status
                a_replayed_call_waits_behind_a_parked_one;
            many:
                a_user_with_many_calls_delays_no_other_user
                the_calls_of_a_user_with_many_are_taken_in_order
                a_user_with_many_calls_before_a_reopen_delays_no_other_user
                users_who_are_kept_apart_take_turns;
            settling:
                an_accepted_call_is_deleted
                a_refused_call_becomes_a_dead_letter
                unknown_ids_are_ignored
                watchers_receive_the_outcome
                a_closed_store_refuses_every_command
                the_age_of_the_oldest_call_is_reported;
            keys:
                a_repeated_key_stores_no_second_call
                a_key_with_another_body_is_refused
                concurrent_calls_with_one_key_are_stored_once
                the_key_of_an_accepted_call_returns_accepted
                the_key_of_a_refused_call_returns_the_reason
                a_discarded_dead_letter_takes_its_key_along
                the_key_of_a_dead_letter_outlives_its_window
                the_key_of_a_replayed_call_waits_again
                a_key_is_forgotten_after_its_window
                the_key_of_a_waiting_call_is_not_forgotten
                keys_survive_a_reopen;
            dead_letters:
                dead_letters_are_listed_newest_first
                a_list_has_the_requested_length
                a_replayed_dead_letter_is_stored_behind_the_waiting_calls
                all_dead_letters_are_replayed_in_order
                a_discarded_dead_letter_is_deleted
                dead_letters_are_found_by_what_they_are
                a_walk_ends_at_the_newest_letter_of_its_beginning
                dead_letters_survive_a_reopen;
            forget:
                waiting_calls_and_dead_letters_of_a_person_are_deleted
                a_call_that_is_out_is_deleted_when_it_comes_back;
            groups:
                the_calls_of_a_group_are_stored_in_their_order
                each_call_of_a_group_has_its_own_result
                a_group_that_fails_as_a_whole_changes_nothing
                a_key_twice_in_a_group_is_one_call
                a_repeated_group_tells_the_outcomes
                a_group_has_at_most_four_mebibytes;
            sources:
                a_call_keeps_its_source_wherever_it_goes
                what_waits_of_each_source_is_counted
                letters_and_parked_users_are_found_by_their_source
                each_source_has_a_window_of_its_own;
            events:
                an_event_is_kept_as_an_unmapped_dead_letter
                a_repeated_event_is_kept_once
                an_event_is_replaced_by_its_calls
                an_event_whose_call_has_the_key_of_another_stays
                a_replay_of_dead_letters_leaves_events;
            calls:
                a_call_with_a_key_is_found_wherever_it_is
                a_call_without_a_key_is_found_until_it_is_accepted
                a_call_is_found_whatever_the_time_in_its_id
                the_later_calls_of_a_parked_user_wait
                a_call_that_moves_is_always_found
                no_event_and_no_other_call_is_taken_for_the_one;
        }
    };
}
pub(super) use contract;

/// A call whose JSON has the fields that a store may read.
pub(super) fn call(user_id: &str, message_id: &str) -> Call {
    sized(user_id, message_id, 0)
}

/// A call with `size` bytes of traits.
pub(super) fn sized(user_id: &str, message_id: &str, size: usize) -> Call {
    let traits = "x".repeat(size);
    let json =
        format!(r#"{{"type":"identify","userId":"{user_id}","traits":{{"a":"{traits}"}},"messageId":"{message_id}"}}"#);
    Call::from_wire(Arc::from(user_id), None, json.into())
}

/// A call without a key and without a watcher.
pub(super) fn plain(call: Call) -> Append {
    Append { call, key: None, watch: false }
}

/// A call with the digests of a key and of a body, each made from a number.
pub(super) fn keyed(call: Call, key: u8, body: u8) -> Append {
    Append { call, key: Some(KeyRecord { key: [key; 16], body: [body; 16] }), watch: false }
}

/// The same with a watcher.
pub(super) fn watched(append: Append) -> Append {
    Append { watch: true, ..append }
}

pub(super) fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(super) async fn append(store: &impl Outbox, append: Append) -> Result<Appended, OutboxError> {
    store.append(append, in_a_minute()).await
}

pub(super) async fn group(
    store: &impl Outbox,
    calls: Vec<Append>,
    is_all_or_nothing: bool,
) -> Result<Vec<Result<Appended, OutboxError>>, OutboxError> {
    store.append_group(calls, is_all_or_nothing, in_a_minute()).await
}

/// All waiting calls.
pub(super) async fn waiting(store: &impl Inspect) -> Vec<StoredCall> {
    let all = store.inspect().await.unwrap();
    assert_eq!(store.fresh().await.waiting, all.len() as u64);
    all
}

/// Takes calls until `count` are there: more than there are would wait for ever.
pub(super) async fn take(store: &impl Outbox, count: usize) -> Vec<StoredCall> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let calls = store.next(usize::MAX).await.unwrap();
        assert!(!calls.is_empty(), "an answer without a call");
        taken.extend(calls);
    }
    assert_eq!(taken.len(), count);
    taken
}

/// Takes calls if the store has any now.
pub(super) async fn take_if_any(store: &impl Inspect, room: usize) -> Vec<StoredCall> {
    let mut next = store.next(room);
    // The store looks for calls in steps, and does one at least before it executes the next command.
    for _ in 0..6 {
        if let Poll::Ready(taken) = futures_util::poll!(&mut next) {
            return taken.unwrap();
        }
        settle(store, Vec::new()).await;
        store.refresh().await;
    }
    match futures_util::poll!(&mut next) {
        Poll::Ready(taken) => taken.unwrap(),
        Poll::Pending => Vec::new(),
    }
}

/// Whether the store has nothing to send now.
pub(super) async fn has_nothing(store: &impl Inspect) -> bool {
    take_if_any(store, usize::MAX).await.is_empty()
}

/// The JSON of each call.
pub(super) fn texts(stored: &[StoredCall]) -> Vec<String> {
    stored.iter().map(|stored| String::from_utf8(stored.call.json().to_vec()).unwrap()).collect()
}

/// The JSON of a small call.
pub(super) fn text(user_id: &str, message_id: &str) -> String {
    String::from_utf8(call(user_id, message_id).json().to_vec()).unwrap()
}

pub(super) fn accepted(id: CallId) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::Accepted }
}

pub(super) fn refused(id: CallId, reason: &str) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::Refused(Refusal { status: 400, reason: reason.to_owned(), attempts: 3 }) }
}

/// The call fails on its own.
pub(super) fn parked(id: CallId) -> SettledCall {
    let trouble = Trouble { status: Some(503), reason: "the answer was 503".to_owned(), attempts: 2, is_own: true };
    SettledCall { id, outcome: CallOutcome::Parked(trouble) }
}

pub(super) fn behind(id: CallId) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::Behind }
}

pub(super) async fn settle(store: &impl Outbox, delivered: Vec<SettledCall>) {
    store.settle(delivered.into()).await.unwrap();
}

/// The newest dead letters.
pub(super) async fn letters(store: &impl DeadLetters) -> Result<Vec<DeadLetter>, OutboxError> {
    store.list(1000, LetterFilter::default()).await.map(|page| page.letters)
}

/// The outcome that a watcher receives.
pub(super) async fn outcome(appended: Appended) -> DeliveryOutcome {
    appended.outcome.unwrap().await.unwrap()
}
