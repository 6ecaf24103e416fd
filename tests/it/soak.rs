//! A soak: random troubles of calls, customers, Segment and the relay itself, for minutes or for hours.
//!
//! `tests/soak MINUTES [SEED]` runs it. What happens comes from the seed; when it happens is the machine's.

mod account;
mod crowd;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use reqwest::Method;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::{Durable, Fault, ScriptedSegment, eventually};
use account::Trouble;
use crowd::{Stage, callers};

/// Longest wait of a sound user's stored call while Segment accepts and the relay is up, with room for a busy machine.
const BOUND: Duration = Duration::from_secs(30);

/// How long the end of all waiting calls may take after all causes are mended.
const PATIENCE: Duration = Duration::from_secs(300);

/// The relay's own bound at default settings.
const MEMORY: u64 = 256 << 20;

struct Soak {
    random: Rng,
    durable: Durable,
    segment: ScriptedSegment,
    stage: Arc<Stage>,
    kills: u32,
    stops: u32,
    requests: usize,
    most_memory: u64,
    most_parked: f64,
}

/// A number of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect(name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a soak, by command: tests/soak MINUTES [SEED]"]
async fn nobodys_trouble_is_anothers_for_as_long_as_it_is_watched() {
    let seed = number("SOAK_SEED", fastrand::u64(..));
    let minutes = number("SOAK_MINUTES", 2);
    println!("SOAK_SEED={seed} SOAK_MINUTES={minutes}");
    let segment = ScriptedSegment::start();
    let settings = [
        // So small that the share of parked calls, and that of a user with many, are used up now and then.
        ("RELAY_OUTBOX_MAX_SIZE", "16MiB"),
        // Longer than any caller posts a call again. The keys of hours would fill the outbox.
        ("RELAY_IDEMPOTENCY_WINDOW", "2m"),
        ("SEGMENT_TIMEOUT", "1s"),
        ("RELAY_SHUTDOWN_GRACE", "5s"),
    ];
    let durable = Durable::sending_to(&segment.url(), &settings);
    let mut soak = Soak {
        random: Rng::with_seed(seed),
        durable,
        segment,
        stage: Arc::default(),
        kills: 0,
        stops: 0,
        requests: 0,
        most_memory: 0,
        most_parked: 0.0,
    };
    soak.trouble_some();
    soak.start_relay().await;
    let callers = callers(&soak.stage, &mut soak.random);
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    while Instant::now() < end && soak.stage.account.lock().unwrap().problems.is_empty() {
        soak.weather().await;
    }
    soak.end(callers).await;
}

impl Soak {
    /// One random trouble, in which the relay may die.
    async fn weather(&mut self) {
        let random = &mut self.random;
        let mut moment = Duration::from_millis(random.u64(1_000..8_000));
        let mut is_fine = false;
        match random.u8(..10) {
            0 => {
                let statuses = [500, 503, 401, 404, 422].map(Fault::Status);
                let others = [Fault::Reset, Fault::Hang, Fault::RetryAfter(503, 3)];
                self.segment.fail_all(random.choice([&statuses[..], &others].concat()));
            }
            1 => {
                self.segment.fail_all(random.choice([Fault::Status(422), Fault::RetryAfter(503, 25)]));
                moment = Duration::from_millis(300);
            }
            2 => {
                self.segment.fail_all(Some(Fault::RetryAfter(429, random.u32(1..3))));
                moment = Duration::from_millis(500);
            }
            3 => {
                let kinds = [Fault::Status(500), Fault::Reset, Fault::Lost, Fault::Hang, Fault::Status(403)];
                self.segment.fail_some(random.choice(kinds), 4);
            }
            4 => self.segment.delay(Duration::from_millis(random.u64(20..200))),
            // All causes are mended for a while.
            5 => self.segment.heal(),
            _ => is_fine = true,
        }
        if !is_fine {
            self.set_fine(false);
        }
        match self.random.u8(..8) {
            0 => {
                self.watch_for(moment / 2).await;
                self.kill().await;
            }
            1 => {
                self.watch_for(moment / 2).await;
                self.stop().await;
            }
            _ => self.watch_for(moment).await,
        }
        self.segment.heal();
        self.trouble_some();
        if !is_fine {
            self.set_fine(true);
        }
    }

    /// From now on calls in trouble fail in ways that differ each time.
    fn trouble_some(&mut self) {
        let stuck = [Fault::Status(500), Fault::RetryAfter(503, 60), Fault::Status(422), Fault::Reset, Fault::Hang];
        let blocked = [403, 401, 404].map(Fault::Status);
        for (trouble, fault) in [
            (Trouble::Stuck, self.random.choice(stuck)),
            (Trouble::Blocked, self.random.choice(blocked)),
            (Trouble::Refused, Some(Fault::Status(400))),
        ] {
            self.segment.fail(&trouble.text(), fault.expect("a fault"));
        }
    }

    fn set_fine(&mut self, is_fine: bool) {
        self.note_arrivals();
        self.stage.account.lock().unwrap().set_fine(is_fine.then(Instant::now));
    }

    fn note_arrivals(&mut self) {
        let (requests, arrivals) = self.segment.take();
        self.requests += requests.len();
        self.stage.account.lock().unwrap().arrived(arrivals);
    }

    async fn start_relay(&mut self) {
        // Both: stuck calls that wait for their time, and some that are given up.
        let give_up_after = self.random.choice(["24h", "24h", "20s"]).expect("a setting");
        self.durable.set("RELAY_GIVE_UP_AFTER", give_up_after);
        self.durable.start_relay().await;
        *self.stage.relay.lock().unwrap() = Some(self.durable.relay().url("/customers"));
        self.set_fine(true);
    }

    async fn kill(&mut self) {
        self.leave();
        self.durable.kill().await;
        self.kills += 1;
        self.start_again().await;
    }

    async fn stop(&mut self) {
        self.leave();
        let code = self.durable.stop().await;
        if code != Some(0) {
            self.stage.account.lock().unwrap().problems.push(format!("it was stopped, and ended with {code:?}"));
        }
        self.stops += 1;
        self.start_again().await;
    }

    fn leave(&mut self) {
        *self.stage.relay.lock().unwrap() = None;
        self.set_fine(false);
    }

    async fn start_again(&mut self) {
        // What is under way to Segment is there before the next relay sends it again.
        eventually(async || self.segment.connections() == 0).await;
        self.start_relay().await;
    }

    /// Takes stock now and then.
    async fn watch_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(Duration::from_millis(200)).await;
            self.take_stock().await;
        }
    }

    async fn take_stock(&mut self) {
        self.note_arrivals();
        self.most_memory = self.most_memory.max(self.durable.relay().process().memory());
        let parked = self.durable.get("/metrics").await.metric("segment_relay_parked_users").unwrap_or_default();
        self.most_parked = self.most_parked.max(parked);
        let letters = self.durable.dead_letters().await;
        self.stage.account.lock().unwrap().buried(&letters);
        for letter in letters {
            let answer = self.durable.operate(Method::DELETE, &format!("/dead-letters/{}", letter["id"])).await;
            assert_eq!(answer.status, 204, "{answer:?}");
        }
    }

    /// Mends all causes, waits until nothing is owed, and says what happened.
    async fn end(mut self, callers: JoinSet<()>) {
        self.segment.heal();
        *self.stage.is_over.lock().unwrap() = true;
        callers.join_all().await;
        let healed = Instant::now();
        while healed.elapsed() < PATIENCE && self.stage.account.lock().unwrap().owed().next().is_some() {
            self.watch_for(Duration::from_secs(1)).await;
        }
        let (ended, waiting) = (healed.elapsed(), self.durable.relay().metric("segment_relay_outbox_calls").await);
        let mut account = self.stage.account.lock().unwrap();
        account.close();
        account.latencies.sort_unstable();
        let latencies = &account.latencies;
        let [half, most, longest] = [0.5, 0.99, 1.0].map(|share| {
            let at = (latencies.len() as f64 * share) as usize;
            Duration::from_millis(latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0).into())
        });
        let after = account.longest_after_trouble;
        println!("calls: {:?}", account.counts);
        println!("relays: {} killed, {} stopped; {} requests to Segment", self.kills, self.stops, self.requests);
        println!("parked users: {} at most; the last call arrived {ended:?} after all was mended", self.most_parked);
        println!("from 202 to Segment, sound users: p50 {half:?}, p99 {most:?}, longest {longest:?}");
        println!("stored in a trouble, from its end: longest {after:?}");
        println!("memory: {} MiB at most", self.most_memory >> 20);
        assert!(account.problems.is_empty(), "{:#?}", account.problems);
        assert_eq!(waiting, 0.0, "calls wait that nobody is owed");
        assert!(longest < BOUND && after < BOUND, "a sound user's call waited {longest:?}, {after:?} after a trouble");
        assert!(self.most_memory < MEMORY, "{} bytes", self.most_memory);
    }
}
