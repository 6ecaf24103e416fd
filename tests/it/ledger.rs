//! The oracle of the outbox: what callers were promised, held against what arrived and what is a dead letter.
//!
//! Every post is known by its user and its number among that user's posts, which is in its traits; a user's posts are
//! made one after another. A 202 makes the post an obligation. A post without an answer may be there or not.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::harness::{Answer, Durable, LONG_PATIENCE, PROBE, at_last};

/// A user and the number of one of its posts.
pub type Post = (String, u64);

/// What was posted, and what was promised.
#[derive(Default)]
pub struct Ledger {
    posted: HashSet<Post>,
    /// With the messageId that was answered.
    owed: HashMap<Post, String>,
    /// What was answered as refused before.
    refused: HashSet<Post>,
}

/// Of what a ledger is held against.
struct Found {
    /// In order of arrival.
    arrived: Vec<(Post, String)>,
    refused: Vec<(Post, String)>,
}

/// The body of a post.
pub fn body(user_id: &str, number: u64) -> Value {
    json!({"userId": user_id, "traits": {"n": number, "name": "Ada Lovelace", "plan": "pro"}})
}

/// The same with 10,000 bytes more.
pub fn heavy_body(user_id: &str, number: u64) -> Value {
    let mut body = body(user_id, number);
    body["traits"]["history"] = "x".repeat(10_000).into();
    body
}

impl Ledger {
    /// Posts this, which must be stored.
    pub async fn post(&mut self, durable: &Durable, user_id: &str, number: u64) {
        self.posting(user_id, number);
        self.promised(user_id, number, &durable.post(&body(user_id, number)).await);
    }

    /// Notes that this is about to be posted.
    pub fn posting(&mut self, user_id: &str, number: u64) {
        self.posted.insert((user_id.to_owned(), number));
    }

    /// Notes a 202, or the refusal that a repeat of a stored call gets.
    ///
    /// # Panics
    /// If it was answered before with another messageId.
    pub fn promised(&mut self, user_id: &str, number: u64, answer: &Answer) {
        if answer.is_replayed() && answer.status == 422 {
            answer.assert_failed(422, "segment_rejected");
            self.refused.insert((user_id.to_owned(), number));
            return;
        }
        assert!(answer.is_stored(), "{user_id}/{number}: {answer:?}");
        let id = answer.message_id().to_owned();
        let before = self.owed.insert((user_id.to_owned(), number), id.clone());
        assert!(before.as_ref().is_none_or(|before| *before == id), "{user_id}/{number} was {before:?} and is {id}");
    }

    /// How many calls are owed.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Takes over what another one holds.
    pub fn join(&mut self, other: Self) {
        self.posted.extend(other.posted);
        self.owed.extend(other.owed);
        self.refused.extend(other.refused);
    }

    /// Waits until everything that is owed arrived or is a dead letter, then checks that nothing else is wrong.
    pub async fn settle(&self, durable: &Durable) {
        let all_there = at_last(async || self.missing(&Found::of(durable).await).is_empty());
        // Should it take too long, the check says what is missing.
        let _ = tokio::time::timeout(LONG_PATIENCE / 2, all_there).await;
        self.check(durable).await;
    }

    /// As [`settle`](Self::settle), and nothing may be a dead letter.
    pub async fn settle_without_refusals(&self, durable: &Durable) {
        self.settle(durable).await;
        assert!(durable.dead_letters().await.is_empty());
    }

    /// That what there is now is right: all that is owed, nothing invented, one messageId a post, each user's posts in
    /// order.
    pub async fn check(&self, durable: &Durable) {
        let found = Found::of(durable).await;
        let missing = self.missing(&found);
        assert!(missing.is_empty(), "{} of {} are lost: {missing:?}", missing.len(), self.owed.len());
        let dead_letters: HashSet<_> = found.refused.iter().map(|(post, _)| post).collect();
        let missing: Vec<_> = self.refused.iter().filter(|post| !dead_letters.contains(post)).collect();
        assert!(missing.is_empty(), "these are said to be refused, and are no dead letters: {missing:?}");
        let mut ids: HashMap<&Post, &str> = HashMap::new();
        for (post, id) in found.arrived.iter().chain(&found.refused) {
            assert!(self.posted.contains(post), "{post:?} was never posted");
            let first = ids.entry(post).or_insert(id);
            assert_eq!(first, id, "{post:?} has two messageIds");
        }
        check_order(&found.arrived);
        let stats = durable.segment().stats().await;
        assert_eq!(stats["duplicatesThatDiffer"], 0, "{stats}");
        assert_eq!(stats["dropped"], json!({}), "{stats}");
        assert_eq!(stats["eventsForgotten"], 0, "{stats}");
    }

    fn missing(&self, found: &Found) -> Vec<(&Post, &String)> {
        let there: HashSet<_> = found.arrived.iter().chain(&found.refused).map(|(post, id)| (post, id)).collect();
        self.owed.iter().filter(|owed| !there.contains(owed)).collect()
    }
}

impl Found {
    async fn of(durable: &Durable) -> Self {
        // Dead letters first: what is replayed meanwhile is seen twice rather than not at all.
        let refused = durable.dead_letters().await.iter().map(|letter| post(&letter["call"])).collect();
        let received = durable.segment().received().await;
        Self { refused, arrived: received.iter().filter(|call| call["userId"] != PROBE).map(post).collect() }
    }
}

fn post(call: &Value) -> (Post, String) {
    let user = call["userId"].as_str().expect("a user").to_owned();
    ((user, call["traits"]["n"].as_u64().expect("a number")), call["messageId"].as_str().expect("an id").to_owned())
}

/// First arrivals are in order, and so are last ones: a repeat never leaves an older call on top.
#[track_caller]
fn check_order(arrived: &[(Post, String)]) {
    let mut users: HashMap<&str, Vec<u64>> = HashMap::new();
    for ((user, number), _) in arrived {
        users.entry(user).or_default().push(*number);
    }
    check_users(users);
}

/// The same, when it is known by user what arrived.
#[track_caller]
pub fn check_users(users: HashMap<&str, Vec<u64>>) {
    for (user, mut numbers) in users {
        check_first_arrivals(user, &numbers);
        numbers.reverse();
        assert!(first_arrivals(&numbers).iter().rev().is_sorted(), "{user}, from the end: {numbers:?}");
    }
}

/// Only that what arrived for the first time is in order.
#[track_caller]
pub fn check_first_arrivals(user: &str, numbers: &[u64]) {
    assert!(first_arrivals(numbers).is_sorted(), "{user}: {numbers:?}");
}

fn first_arrivals(numbers: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    numbers.iter().copied().filter(|number| seen.insert(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Post, check_order};

    fn arrived(numbers: &[u64]) -> Vec<(Post, String)> {
        numbers.iter().map(|number| (("u".to_owned(), *number), "m".to_owned())).collect()
    }

    #[test]
    fn repeats_in_order_are_in_order() {
        check_order(&arrived(&[1, 2, 3, 2, 3, 4]));
    }

    #[test]
    #[should_panic(expected = "u: ")]
    fn a_call_that_overtook_another_is_found() {
        check_order(&arrived(&[1, 3, 2, 3]));
    }

    #[test]
    #[should_panic(expected = "u, from the end: ")]
    fn a_repeat_that_leaves_an_older_call_on_top_is_found() {
        check_order(&arrived(&[1, 2, 1]));
    }
}
