//! `kill -9` at random moments: every call answered 202 arrives, in order, with one messageId, and no other call does.
//!
//! The moments come from a seed that is printed when a test fails; `CRASH_SEED=N` sets another one. The long soak:
//! `SOAK_KILLS=1000 cargo test --test it crash -- --ignored --nocapture`.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::callers::Callers;
use crate::harness::{Durable, eventually};

/// Concurrent callers: enough that they share commits and kills hit calls in every state.
const CALLERS: usize = 8;

/// Users whose calls Segment refuses: one each of two callers.
const POISONED: [&str; 2] = ["user-1", "user-10"];

fn seed(default: u64) -> u64 {
    let seed = std::env::var("CRASH_SEED").map_or(default, |seed| seed.parse().expect("CRASH_SEED is a number"));
    println!("CRASH_SEED={seed}");
    seed
}

/// Segment's faults in a round: mostly none.
fn faults(random: &mut Rng) -> Value {
    let mut faults = match random.u8(..8) {
        0 => json!({"status": 503, "rate": 0.5}),
        1 => json!({"status": 429, "retryAfter": "1", "count": 1}),
        2 => json!({"reset": true, "rate": 0.3}),
        3 => json!({"reset": true, "afterAccepting": true, "rate": 0.3}),
        4 => json!({"latency": "30ms"}),
        _ => json!({}),
    };
    faults["poisonUserIds"] = json!(POISONED);
    faults
}

/// Runs `kills` rounds of load, each ended by a kill. Then every answered call must arrive.
async fn survive(kills: usize, seed: u64, faults: impl Fn(&mut Rng) -> Value) {
    let mut random = Rng::with_seed(seed);
    let mut durable = Durable::prepared(&[]).await;
    let mut callers = Callers::new(CALLERS, &mut random);
    for kill in 0..kills {
        durable.segment().fail(faults(&mut random)).await;
        durable.start_relay().await;
        // The random moment of the kill; it waits for no condition.
        let moment = Duration::from_micros(random.u64(1_000..200_000));
        callers
            .post_during(&mut durable, async |durable, _| {
                tokio::time::sleep(moment).await;
                durable.kill().await;
            })
            .await;
        if kills > 200 && kill % 50 == 0 {
            println!("{kill} kills");
        }
    }
    durable.segment().fail(json!({"poisonUserIds": POISONED})).await;
    durable.start_relay().await;
    let ledger = callers.post_last(&durable).await;
    // Fewer answers mean that the kills came before any load. A busy machine answers few calls.
    assert!(ledger.owed() > kills, "only {} calls were answered", ledger.owed());
    ledger.settle(&durable).await;
    let letters = durable.dead_letters().await;
    assert!(!letters.is_empty() && letters.iter().all(|letter| POISONED.iter().any(|user| letter["userId"] == *user)));
    assert!(durable.segment().received().await.iter().all(|call| POISONED.iter().all(|user| call["userId"] != *user)));
}

#[tokio::test]
async fn every_202_survives_kills_while_segment_works() {
    survive(40, seed(1), |_| json!({"poisonUserIds": POISONED})).await;
}

#[tokio::test]
async fn every_202_survives_kills_while_segment_fails_in_all_ways() {
    survive(40, seed(2), faults).await;
}

#[tokio::test]
#[ignore = "a soak, by command: SOAK_KILLS=1000 cargo test --test it crash -- --ignored --nocapture"]
async fn every_202_survives_a_soak_of_kills() {
    let kills = std::env::var("SOAK_KILLS").map_or(1_000, |kills| kills.parse().expect("SOAK_KILLS is a number"));
    survive(kills, seed(3), faults).await;
}

#[tokio::test]
async fn a_relay_killed_repeatedly_while_it_starts_loses_no_call() {
    let mut random = Rng::with_seed(seed(4));
    let mut durable = Durable::prepared(&[]).await;
    durable.segment().fail(json!({"status": 503})).await;
    durable.start_relay().await;
    let mut callers = Callers::new(CALLERS, &mut random);
    callers
        .post_during(&mut durable, async |durable, progress| {
            eventually(async || progress.answered() > 300).await;
            durable.kill().await;
        })
        .await;
    durable.segment().heal().await;
    for _ in 0..25 {
        let mut starting = durable.spawn();
        // From before it opens the file until after its first deliveries.
        tokio::time::sleep(Duration::from_micros(random.u64(500..150_000))).await;
        starting.signal("KILL");
        assert_eq!(starting.exit_code().await, None, "{:?}", starting.stderr());
    }
    durable.start_relay().await;
    callers.post_last(&durable).await.settle_without_refusals(&durable).await;
}

#[tokio::test]
async fn a_relay_killed_right_after_its_first_answers_has_their_calls_on_disk() {
    // A new outbox each time, because the first commit of a file is a special case.
    for seed in 0..8 {
        let mut durable = Durable::start().await;
        durable.segment().fail(json!({"status": 503})).await;
        let mut callers = Callers::new(2, &mut Rng::with_seed(seed));
        callers
            .post_during(&mut durable, async |durable, progress| {
                while progress.answered() == 0 {
                    tokio::task::yield_now().await;
                }
                durable.kill().await;
            })
            .await;
        durable.segment().heal().await;
        durable.start_relay().await;
        callers.post_last(&durable).await.settle_without_refusals(&durable).await;
    }
}
