//! What every store must do: one suite, run on each of them.
//!
//! A test is a function over a [`Home`], a place where a store is opened, closed and opened again. `contract!` makes a
//! test of each for one kind of store.

pub(super) mod keys;
pub(super) mod letters;
pub(super) mod pages;
pub(super) mod settling;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Append, Appended, CallId, DeadLetters, KeyRecord, Outbox, OutboxError, Outcome, Stored, UserFilter};
use crate::segment::{Call, Delivered, Refusal};

/// Where a store lives. What is in it outlives the store.
#[async_trait]
pub(super) trait Home: Send + Sync + 'static {
    type Store: Outbox + DeadLetters + 'static;

    /// Opens the store, which nobody has open. Keys are remembered for so long.
    async fn open_with_window(&self, window: Duration) -> Arc<Self::Store>;

    /// With a window that no test outlives.
    async fn open(&self) -> Arc<Self::Store> {
        self.open_with_window(Duration::from_secs(3600)).await
    }
}

/// Makes a test of every function of the suite. The expression is a fresh home.
macro_rules! contract {
    ($home:expr; $($file:ident: $($test:ident)+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::outbox::suite::$file::$test($home).await;
            }
        )+)+
    };
    ($home:expr) => {
        contract! { $home;
            pages:
                calls_come_back_in_order
                skipped_users_are_passed_over
                a_page_is_bounded_in_calls
                a_page_is_bounded_in_bytes
                a_page_is_bounded_in_rows
                calls_and_ids_outlive_the_store
                a_thousand_callers_at_once_are_all_there;
            settling:
                an_accepted_call_is_gone
                a_refused_call_is_a_dead_letter
                ids_that_do_not_wait_are_passed_over
                watchers_hear_the_outcome
                a_closed_store_refuses_everything
                the_oldest_call_is_known;
            keys:
                a_repeated_key_makes_no_second_call
                a_key_with_another_body_is_a_mistake
                one_key_at_one_instant_makes_one_call
                an_accepted_calls_key_says_so
                a_refused_calls_key_gives_the_words
                a_replayed_calls_key_waits_again
                a_key_is_forgotten_after_its_window
                a_waiting_calls_key_is_not_forgotten
                keys_outlive_the_store;
            letters:
                letters_are_listed_newest_first
                a_list_is_as_long_as_was_asked_for
                a_replayed_letter_goes_behind_the_others
                all_letters_are_replayed_in_order
                a_discarded_letter_is_gone
                letters_outlive_the_store;
        }
    };
}
pub(super) use contract;

/// A call of one user. Its JSON has what a store may look at.
pub(super) fn call(user_id: &str, message_id: &str) -> Call {
    sized(user_id, message_id, 0)
}

/// One with so many bytes of traits.
pub(super) fn sized(user_id: &str, message_id: &str, size: usize) -> Call {
    let traits = "x".repeat(size);
    let json =
        format!(r#"{{"type":"identify","userId":"{user_id}","traits":{{"a":"{traits}"}},"messageId":"{message_id}"}}"#);
    Call::from_wire(Arc::from(user_id), json.into())
}

/// A call without a key, for which nobody waits.
pub(super) fn plain(call: Call) -> Append {
    Append { call, key: None, watch: false }
}

/// A call with a key and a body, each given by a number.
pub(super) fn keyed(call: Call, key: u8, body: u8) -> Append {
    Append { call, key: Some(KeyRecord { key: [key; 16], body: [body; 16] }), watch: false }
}

/// The same, for a caller who waits.
pub(super) fn watched(append: Append) -> Append {
    Append { watch: true, ..append }
}

/// UserFilter calls are read, if there is no reason to leave anybody's out.
pub(super) fn everybody() -> UserFilter {
    UserFilter::AllBut(HashSet::new())
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(super) async fn append(store: &impl Outbox, append: Append) -> Result<Appended, OutboxError> {
    store.append(append, soon()).await
}

/// Everything that waits, page by page, but for the users to be skipped.
pub(super) async fn waiting_but(store: &impl Outbox, skip: &[&str]) -> Vec<Stored> {
    let whose = UserFilter::AllBut(skip.iter().map(|user| Arc::from(*user)).collect());
    let (mut all, mut from) = (Vec::new(), 0);
    while from <= store.contents().last_id {
        let page = store.page(from, whose.clone(), usize::MAX).await.unwrap();
        assert!(page.next > from, "a page that leads nowhere");
        assert!(page.calls.iter().all(|stored| (from..page.next).contains(&stored.id)));
        all.extend(page.calls);
        from = page.next;
    }
    assert!(all.is_sorted_by(|one, other| one.id < other.id));
    all
}

pub(super) async fn waiting(store: &impl Outbox) -> Vec<Stored> {
    let all = waiting_but(store, &[]).await;
    assert_eq!(store.contents().waiting, all.len() as u64);
    all
}

/// Each call's JSON.
pub(super) fn texts(stored: &[Stored]) -> Vec<String> {
    stored.iter().map(|stored| String::from_utf8(stored.call.json().to_vec()).unwrap()).collect()
}

/// The JSON of a small call.
pub(super) fn text(user_id: &str, message_id: &str) -> String {
    String::from_utf8(call(user_id, message_id).json().to_vec()).unwrap()
}

pub(super) fn accepted(id: CallId) -> Delivered {
    Delivered { id, outcome: Ok(()) }
}

pub(super) fn refused(id: CallId, reason: &str) -> Delivered {
    Delivered { id, outcome: Err(Refusal { status: 400, reason: reason.to_owned(), attempts: 3 }) }
}

pub(super) async fn settle(store: &impl Outbox, delivered: Vec<Delivered>) {
    store.settle(delivered.into()).await.unwrap();
}

/// What a caller who waits hears.
pub(super) async fn outcome(appended: Appended) -> Outcome {
    appended.outcome.unwrap().await.unwrap()
}
