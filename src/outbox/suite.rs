//! The tests that every store must pass.
//!
//! A test is a function over a [`StoreFactory`], which opens the same store again after it was closed. `contract!`
//! makes these tests for one kind of store.

pub(super) mod dead_letters;
pub(super) mod keys;
pub(super) mod pages;
pub(super) mod settling;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::store::{
    Append, Appended, CallId, DeadLetters, DeliveryOutcome, KeyRecord, Outbox, OutboxError, StoredCall, UserFilter,
};
use crate::segment::{Call, CallOutcome, Refusal, SettledCall};

/// Opens a store. Its content survives that the store is closed.
#[async_trait]
pub(super) trait StoreFactory: Send + Sync + 'static {
    type Store: Outbox + DeadLetters + 'static;

    /// Opens the store, which must be closed. `window` is how long keys are remembered.
    async fn open_with_window(&self, window: Duration) -> Arc<Self::Store>;

    /// Opens it with a window that is longer than any test.
    async fn open(&self) -> Arc<Self::Store> {
        self.open_with_window(Duration::from_secs(3600)).await
    }
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
            pages:
                calls_are_read_in_order
                calls_of_skipped_users_are_not_read
                a_page_is_bounded_in_calls
                a_page_is_bounded_in_bytes
                a_page_is_bounded_in_rows
                calls_and_ids_survive_a_reopen
                a_thousand_concurrent_calls_are_stored_in_order_per_user;
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
                dead_letters_survive_a_reopen;
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
    Call::from_wire(Arc::from(user_id), json.into())
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

/// A filter that skips no user.
pub(super) fn everybody() -> UserFilter {
    UserFilter::AllBut(HashSet::new())
}

pub(super) fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(super) async fn append(store: &impl Outbox, append: Append) -> Result<Appended, OutboxError> {
    store.append(append, in_a_minute()).await
}

/// Reads all waiting calls, page by page, except those of the skipped users.
pub(super) async fn waiting_but(store: &impl Outbox, skip: &[&str]) -> Vec<StoredCall> {
    let users = UserFilter::AllBut(skip.iter().map(|user| Arc::from(*user)).collect());
    let (mut all, mut from) = (Vec::new(), 0);
    while from <= store.stats().last_id {
        let page = store.page(from, users.clone(), usize::MAX).await.unwrap();
        assert!(page.next > from, "the page does not advance");
        assert!(page.calls.iter().all(|stored| (from..page.next).contains(&stored.id)));
        all.extend(page.calls);
        from = page.next;
    }
    assert!(all.is_sorted_by(|one, other| one.id < other.id));
    all
}

pub(super) async fn waiting(store: &impl Outbox) -> Vec<StoredCall> {
    let all = waiting_but(store, &[]).await;
    assert_eq!(store.stats().waiting, all.len() as u64);
    all
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

pub(super) async fn settle(store: &impl Outbox, delivered: Vec<SettledCall>) {
    store.settle(delivered.into()).await.unwrap();
}

/// The outcome that a watcher receives.
pub(super) async fn outcome(appended: Appended) -> DeliveryOutcome {
    appended.outcome.unwrap().await.unwrap()
}
