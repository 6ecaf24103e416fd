//! The oracle: posts a crowd of overlapping calls whose order is known, and compares each answer with what really arrived.
//!
//! How the order is known though the calls overlap: while the relay's gate is shut, nothing leaves and the gauge of waiting
//! calls says exactly how many are in hand; a user's next call is posted when all before it are. Should the gate open too
//! early on a slow machine, the rest of the crowd waits for answers instead, and the order is known all the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, App, client_builder, customer, eventually};
use crate::ledger::{check_first_arrivals, check_users};

/// How many users there are; each is in the first rounds.
const USERS: usize = 200;

/// Rounds with all users.
const ROUNDS: usize = 4;

/// Users who are in all rounds.
const BUSY_USERS: usize = 20;

/// All rounds: 4 x 200 and 10 x 20 are a thousand calls.
const ALL_ROUNDS: usize = 14;

/// The calls of all rounds.
pub const CALLS: usize = USERS * ROUNDS + BUSY_USERS * (ALL_ROUNDS - ROUNDS);

/// A relay lets a hundred streams share one HTTP/2 connection; so many hold all calls at once, and few descriptors.
const CONNECTIONS: usize = 12;

/// The users whose calls Segment is told to refuse, 3 % of them; one is busy.
pub const POISONED: [&str; 6] = ["user-7", "user-40", "user-77", "user-111", "user-150", "user-199"];

/// What one call was answered.
pub struct Outcome {
    pub user_id: String,
    round: usize,
    pub answer: Answer,
}

impl Outcome {
    fn message_id(&self) -> String {
        message_id(&self.user_id, self.round)
    }
}

/// What became of the crowd.
pub struct Crowd {
    pub outcomes: Vec<Outcome>,
    /// The sandbox's counters.
    pub stats: Value,
    received: Vec<Value>,
}

/// Sends a thousand overlapping calls while Segment misbehaves like this.
pub async fn crowd(app: &App, faults: Value) -> Crowd {
    app.segment().fail(json!({"status": 429, "retryAfter": "2", "count": 1})).await;
    let opener = customer("opener");
    let (opened, outcomes) = tokio::join!(app.post(&opener), post_all(app, faults));
    // It is one of the crowd, and goes through what the crowd goes through.
    assert!(opened.status != 422, "{opened:?}");
    let received = app.segment().received().await.into_iter().filter(|call| call["userId"] != "opener").collect();
    Crowd { outcomes, stats: app.segment().stats().await, received }
}

async fn post_all(app: &App, faults: Value) -> Vec<Outcome> {
    let relay = app.relay();
    eventually(async || relay.metric("segment_relay_gate_shut").await == 1.0).await;
    app.segment().fail(faults).await;
    let client = || client_builder().http2_prior_knowledge().build().expect("a client");
    let clients: Vec<Client> = (0..CONNECTIONS).map(|_| client()).collect();
    let answered = Arc::new(AtomicUsize::new(0));
    let mut posts = JoinSet::new();
    let mut posted = 0;
    for round in 0..ALL_ROUNDS {
        for user in 0..if round < ROUNDS { USERS } else { BUSY_USERS } {
            let request = clients[posted % CONNECTIONS].post(relay.url("/customers"));
            posts.spawn(post(request, format!("user-{user}"), round, answered.clone()));
            posted += 1;
        }
        eventually(async || {
            relay.metric("segment_relay_calls_waiting").await == posted as f64 + 1.0
                || answered.load(Ordering::Relaxed) == posted
        })
        .await;
    }
    posts.join_all().await
}

async fn post(request: RequestBuilder, user_id: String, round: usize, answered: Arc<AtomicUsize>) -> Outcome {
    let body = json!({"userId": user_id, "messageId": message_id(&user_id, round), "traits": {"round": round}});
    let response = request.json(&body).send().await.expect("an answer");
    let answer = Answer::of(response).await.expect("a whole answer");
    answered.fetch_add(1, Ordering::Relaxed);
    Outcome { user_id, round, answer }
}

fn message_id(user_id: &str, round: usize) -> String {
    format!("{user_id}/{round}")
}

impl Crowd {
    /// How many were answered 200.
    pub fn accepted(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.answer.is_accepted()).count()
    }

    /// That every answer was true, nothing was invented and every user's calls came in order.
    #[track_caller]
    pub fn check(&self) {
        self.check_in_a_hurry();
        check_users(self.users());
    }

    /// The same where callers leave while their calls are sent again: a call whose caller has left is not sent again, so the repeat
    /// of an earlier one may come last. Segment knows its messageId.
    #[track_caller]
    pub fn check_in_a_hurry(&self) {
        assert_eq!(self.outcomes.len(), CALLS);
        let there: HashSet<&str> = self.received.iter().filter_map(|call| call["messageId"].as_str()).collect();
        for outcome in &self.outcomes {
            let (id, answer) = (outcome.message_id(), &outcome.answer);
            let is_there = there.contains(&*id);
            match (answer.status, answer.code()) {
                (200, _) => assert!(answer.is_accepted() && answer.message_id() == id && is_there, "{id}: {answer:?}"),
                // The outcome is unknown, and said to be.
                (504, "segment_timeout") => {}
                (422, "segment_rejected") => {
                    assert!(!is_there && POISONED.contains(&&*outcome.user_id), "{id}: {answer:?}");
                }
                (502, "segment_unavailable") | (503, "overloaded" | "segment_rate_limited") => {
                    assert!(!is_there, "{id} is there: {answer:?}");
                }
                _ => panic!("{id}: {answer:?}"),
            }
        }
        self.check_that_nothing_was_invented(there);
        self.users().iter().for_each(|(user, rounds)| check_first_arrivals(user, rounds));
        assert_eq!(self.stats["dropped"], json!({}), "{}", self.stats);
        assert_eq!(self.stats["duplicatesThatDiffer"], 0, "{}", self.stats);
    }

    #[track_caller]
    fn check_that_nothing_was_invented(&self, there: HashSet<&str>) {
        let posted: HashSet<String> = self.outcomes.iter().map(Outcome::message_id).collect();
        assert!(there.iter().all(|id| posted.contains(*id)), "{:?}", there.iter().find(|id| !posted.contains(**id)));
        for call in &self.received {
            let round = call["traits"]["round"].as_u64().expect("a round") as usize;
            assert_eq!(call["messageId"], message_id(call["userId"].as_str().expect("a user"), round));
        }
    }

    /// What arrived of each user, in order.
    fn users(&self) -> HashMap<&str, Vec<u64>> {
        let mut users: HashMap<&str, Vec<u64>> = HashMap::new();
        for call in &self.received {
            let round = call["traits"]["round"].as_u64().expect("a round");
            users.entry(call["userId"].as_str().expect("a user")).or_default().push(round);
        }
        users
    }
}
