//! Callers who post one call after another for users of their own, through the death of any number of relays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fastrand::Rng;
use reqwest::Client;
use tokio::task::JoinSet;

use crate::harness::{Answer, Durable, client};
use crate::ledger::{Ledger, body};

/// Users of one caller. Its calls alternate between them at random.
const USERS: usize = 3;

/// One in so many calls has no key; an unanswered one of these is not posted again.
const KEYLESS: usize = 3;

/// One in so many answered calls with a key is posted once more.
const REPEATED: usize = 12;

/// Some callers, and what they were promised.
pub struct Callers {
    callers: Vec<Caller>,
    /// One for all: making one takes longer than some relays live.
    client: Client,
}

/// How far the callers are.
#[derive(Default)]
pub struct Progress {
    answered: AtomicU64,
    unanswered: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// New calls that were answered since these callers began.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Callers who went away without an answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }
}

struct Caller {
    users: Vec<User>,
    random: Rng,
    ledger: Ledger,
    /// Posted with a key and not answered: the user, the number, the key.
    unanswered: Option<(usize, u64, String)>,
}

struct User {
    id: String,
    /// The number of its next call.
    next: u64,
}

impl Callers {
    /// `count` callers with users `user-0`, `user-1` and so on.
    pub fn new(count: usize, random: &mut Rng) -> Self {
        let user = |number: usize| User { id: format!("user-{number}"), next: 0 };
        let caller = |number: usize| Caller {
            users: (number * USERS..(number + 1) * USERS).map(user).collect(),
            random: random.fork(),
            ledger: Ledger::default(),
            unanswered: None,
        };
        Self { callers: (0..count).map(caller).collect(), client: client() }
    }

    /// All post while `meanwhile` runs, or until their relay answers no more. It is told how many were answered.
    pub async fn post_during<T>(
        &mut self,
        durable: &mut Durable,
        meanwhile: impl AsyncFnOnce(&mut Durable, Arc<Progress>) -> T,
    ) -> T {
        let (url, progress) = (durable.relay().url("/customers"), Arc::new(Progress::default()));
        let post = |caller: Caller| caller.post_on(self.client.clone(), url.clone(), progress.clone());
        let mut posting: JoinSet<Caller> = self.callers.drain(..).map(post).collect();
        let result = meanwhile(durable, progress.clone()).await;
        progress.is_over.store(true, Ordering::Relaxed);
        while let Some(caller) = posting.join_next().await {
            // With the words of the caller's own panic.
            self.callers.push(caller.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
        }
        result
    }

    /// One more call for every user, answered: when these arrived, nothing that was stored before waits any more.
    pub async fn post_last(mut self, durable: &Durable) -> Ledger {
        let mut all = Ledger::default();
        for caller in &mut self.callers {
            let url = durable.relay().url("/customers");
            for user in 0..caller.users.len() {
                assert!(caller.post_next(&self.client, &url, user).await.is_some());
            }
            all.join(std::mem::take(&mut caller.ledger));
        }
        all
    }
}

impl Caller {
    async fn post_on(mut self, client: Client, url: String, progress: Arc<Progress>) -> Self {
        while !progress.is_over.load(Ordering::Relaxed) {
            let user = self.random.usize(..self.users.len());
            if self.post_next(&client, &url, user).await.is_none() {
                progress.unanswered.fetch_add(1, Ordering::Relaxed);
                break;
            }
            progress.answered.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    /// Posts what was not answered before, then a new call. None: there was no answer.
    async fn post_next(&mut self, client: &Client, url: &str, user: usize) -> Option<Answer> {
        if let Some((user, number, key)) = self.unanswered.clone() {
            self.post(client, url, user, number, Some(&key)).await?;
            self.unanswered = None;
        }
        let number = self.users[user].next;
        self.users[user].next += 1;
        let key = (self.random.usize(..KEYLESS) != 0).then(|| format!("key-{number}"));
        self.unanswered = key.clone().map(|key| (user, number, key));
        let answer = self.post(client, url, user, number, key.as_deref()).await?;
        assert!(!answer.is_replayed(), "{number} is new: {answer:?}");
        if key.is_some() && self.random.usize(..REPEATED) == 0 {
            let repeated = self.post(client, url, user, number, key.as_deref()).await?;
            assert!(repeated.is_replayed(), "{number} is not new: {repeated:?}");
        }
        self.unanswered = None;
        Some(answer)
    }

    async fn post(
        &mut self,
        client: &Client,
        url: &str,
        user: usize,
        number: u64,
        key: Option<&str>,
    ) -> Option<Answer> {
        let id = self.users[user].id.clone();
        self.ledger.posting(&id, number);
        let mut request = client.post(url).json(&body(&id, number));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        // A head without its body is no answer.
        let answer = Answer::of(request.send().await.ok()?).await.ok()?;
        self.ledger.promised(&id, number, &answer);
        Some(answer)
    }
}
