//! The callers of the soak: sound users, users whose calls are now and then in trouble, and users with many calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::account::{Account, Trouble};
use crate::harness::{Answer, client};

/// Each has users of its own, whose rounds it posts one after another.
const CALLERS: usize = 16;

/// Users of each kind of a caller.
const USERS: usize = 40;

/// Most calls of a round of a user with many calls.
const BURST: usize = 200;

/// Longest pause of a caller between two rounds, in milliseconds.
const PAUSE: u64 = 60;

/// Bytes of a heavy call, which is one in twenty.
const HEAVY: usize = 20_000;

/// What callers share with the soak.
#[derive(Default)]
pub struct Stage {
    pub account: Mutex<Account>,
    /// Where the relay is. `None` while it is down.
    pub relay: Mutex<Option<String>>,
    pub is_over: Mutex<bool>,
}

/// Starts the callers. They end when the stage is over.
pub fn callers(stage: &Arc<Stage>, random: &mut Rng) -> JoinSet<()> {
    let client = client();
    let caller = |number| Caller { number, stage: stage.clone(), client: client.clone(), random: random.fork() };
    (0..CALLERS).map(caller).map(Caller::run).collect()
}

struct Caller {
    number: usize,
    stage: Arc<Stage>,
    client: Client,
    random: Rng,
}

impl Caller {
    async fn run(mut self) {
        while !*self.stage.is_over.lock().unwrap() {
            let (user, caller) = (self.random.usize(..USERS), self.number);
            match self.random.u8(..100) {
                0..70 => self.round(&format!("sound-{caller}-{user}"), Trouble::None, 1).await,
                70..99 => {
                    let trouble = match self.random.u8(..20) {
                        0 => Trouble::Stuck,
                        1 => Trouble::Blocked,
                        2 => Trouble::Refused,
                        _ => Trouble::None,
                    };
                    self.round(&format!("troubled-{caller}-{user}"), trouble, 1).await;
                }
                _ => {
                    let calls = self.random.usize(1..=BURST);
                    self.round(&format!("hot-{}", caller % 4 + 4 * (caller / 4)), Trouble::None, calls).await;
                }
            }
            sleep(Duration::from_millis(self.random.u64(..PAUSE))).await;
        }
    }

    /// Posts so many calls of a user at once, each until it has an answer that says what became of it.
    async fn round(&mut self, user: &str, trouble: Trouble, calls: usize) {
        let ids = |round| (0..calls).map(|call| format!("{user}/{round}/{call}")).collect();
        let (round, ids) = self.stage.account.lock().unwrap().open_round(user, ids);
        let bytes = if self.random.u8(..20) == 0 { HEAVY } else { self.random.usize(..500) };
        let posts = ids.into_iter().map(|id| {
            let body = json!({"userId": user, "messageId": id, "traits": {"n": round, "trouble": trouble.name(), "history": "x".repeat(bytes)}});
            post(self.stage.clone(), self.client.clone(), user.to_owned(), id, body.to_string())
        });
        futures_util::future::join_all(posts).await;
    }
}

async fn post(stage: Arc<Stage>, client: Client, user: String, id: String, body: String) {
    loop {
        let relay = stage.relay.lock().unwrap().clone();
        if let Some(url) = relay {
            let answer = try_post(&client, &url, &body).await;
            if !stage.account.lock().unwrap().answered(&user, &id, answer.as_ref()) {
                return;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn try_post(client: &Client, url: &str, body: &str) -> Option<Answer> {
    let request = client.post(url).header("content-type", "application/json").body(body.to_owned());
    Answer::of(request.send().await.ok()?).await.ok()
}
