//! No 202 before its sync: proved from a trace of the relay's own system calls, and tried by cutting the power at random
//! moments of that trace.
//!
//! The trace is made by a library put before the relay (`tests/shim/disk.rs`); Linux only.

use std::collections::HashSet;
use std::fs;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Durable, Process, Record, Shim, Trace, at_last, client, eventually, mark};

/// Calls in a trace: enough for many commits, with and without company.
const CALLS: usize = 400;

/// Callers at once.
const CALLERS: usize = 8;

/// Users of these calls.
const USERS: usize = 40;

/// A call whose bytes show where they are, more than once, should a page end within one of them.
fn marked(number: usize) -> Value {
    let id = mark(number);
    json!({"userId": format!("user-{}", number % USERS), "messageId": id,
           "traits": {"n": number, "a": id, "b": id, "filling": "x".repeat(number % 9 * 100)}})
}

/// Posts marked calls, of which all must be stored, and returns when all were answered.
async fn post_marked(durable: &Durable, numbers: std::ops::Range<usize>) {
    let mut posting = JoinSet::new();
    for caller in 0..CALLERS {
        let numbers: Vec<usize> = numbers.clone().filter(|number| number % CALLERS == caller).collect();
        let requests: Vec<_> =
            numbers.into_iter().map(|number| durable.relay().post_request(&marked(number))).collect();
        posting.spawn(async move {
            for request in requests {
                let answer = Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer");
                assert!(answer.is_stored(), "{answer:?}");
            }
        });
    }
    posting.join_all().await;
}

/// A relay that took all calls, delivered what it could, and was killed; and its trace.
async fn traced(stuck: &[String]) -> (Durable, Trace) {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    durable.segment().fail(json!({"poisonUserIds": stuck, "poisonStatus": 503})).await;
    durable.start_relay().await;
    post_marked(&durable, 0..CALLS).await;
    // That some calls were settled belongs into the trace.
    eventually(async || durable.segment().received().await.len() >= CALLERS).await;
    durable.kill().await;
    let trace = shim.trace();
    assert_eq!(trace.answers().len(), CALLS);
    (durable, trace)
}

#[tokio::test]
async fn no_202_leaves_before_its_call_is_synced() {
    let (durable, trace) = traced(&[]).await;
    assert_eq!(trace.too_early(durable.directory()), Vec::<String>::new());
    finds_what_is_wrong(&durable, &trace);
}

/// The same trace with a lie in it, in every way there is: each must be found.
fn finds_what_is_wrong(durable: &Durable, trace: &Trace) {
    let found = |doctor: &dyn Fn(&mut Vec<Record>)| {
        let mut doctored = trace.clone();
        doctor(&mut doctored.records);
        doctored.too_early(durable.directory()).len()
    };
    let is_sync = |record: &Record, kind: &str| record.kind == kind && record.path != durable.directory();
    let (answer, id) = &trace.answers()[CALLS / 2];
    let begun = trace.first_sync_after_writing(id).expect("a sync");
    let ended = |records: &mut Vec<Record>, change: fn(&mut Record)| {
        records.iter_mut().filter(|record| record.kind == "sync-end").for_each(change);
    };
    // One answer between its own sync's begin and end; then all: no sync succeeded, there was none, and so on.
    let moved = found(&|records| {
        let early = records.remove(*answer);
        records.insert(begun + 1, early);
    });
    assert_eq!(moved, 1, "an answer before its sync");
    assert!(found(&|records| ended(records, |record| record.result = -1)) >= CALLS, "syncs that failed");
    assert!(found(&|records| records.retain(|record| !is_sync(record, "sync-end"))) >= CALLS, "no sync at all");
    assert_eq!(found(&|records| records.retain(|record| record.path != durable.directory())), CALLS, "the directory");
    assert_eq!(found(&|records| records.retain(|record| record.kind != "wrote")), CALLS, "nothing written");
}

#[tokio::test]
async fn what_was_answered_before_a_power_cut_is_there_after_it() {
    // Half of the users are stuck: none of their calls was delivered, all that were answered are owed.
    let is_stuck = |number: usize| number % USERS < USERS / 2;
    let stuck: Vec<String> = (0..USERS / 2).map(|user| format!("user-{user}")).collect();
    let (_, trace) = traced(&stuck).await;
    let answers = trace.answers();
    let seed = 5;
    let mut random = Rng::with_seed(seed);
    for cut in 0..12 {
        let until = random.usize(..=trace.records.len());
        // Of what was not synced a third of the sectors is there, or all of them, or none.
        let kept = [0.3, 1.0, 0.0][cut % 3];
        let mut durable = after_power_cut(&trace, until, || random.f64() < kept).await;
        let owed = (0..CALLS).filter(|number| is_stuck(*number)).map(mark);
        let owed: Vec<String> =
            owed.filter(|id| answers.iter().any(|(at, answered)| *at < until && answered == id)).collect();
        println!("seed {seed}, cut {cut} of 12 after {until} records, {} calls owed", owed.len());
        arrive(&durable, &owed).await;
        assert_eq!(durable.stop().await, Some(0));
    }
}

#[tokio::test]
async fn a_sync_that_fails_ends_the_process_and_nothing_it_did_not_sync_was_answered_202() {
    for more in [1, 2, 3, 5, 8, 13] {
        let mut durable = Durable::prepared(&[]).await;
        let shim = Shim::before(&mut durable);
        durable.segment().fail(json!({"status": 503})).await;
        let answered = post_until_it_ends(&mut durable, &shim, |so_far| so_far + more).await.expect("it serves");
        all_true_after(durable, shim, &answered).await;
    }
}

#[tokio::test]
async fn a_sync_that_fails_while_the_relay_starts_keeps_it_from_serving_or_is_made_up_for() {
    for number in 1..=14 {
        let mut durable = Durable::prepared(&[]).await;
        let shim = Shim::before(&mut durable);
        shim.fail(&format!("fail-sync {number}"));
        durable.segment().fail(json!({"status": 503})).await;
        // Another one ends it after it has served for a while.
        let answered = post_until_it_ends(&mut durable, &shim, |so_far| so_far + 5).await;
        println!("sync {number} failed; answered 202: {answered:?}");
        all_true_after(durable, shim, &answered.unwrap_or_default()).await;
    }
}

/// A sync failed and the process ended: nothing was answered too early, and on a sound disk all that was answered arrives,
/// even if the power was cut as well and nothing is left but what was synced.
async fn all_true_after(mut durable: Durable, shim: Shim, answered: &[String]) {
    let trace = shim.trace();
    assert!(trace.records.iter().any(|record| record.kind == "sync-end" && record.result == -1));
    assert_eq!(trace.too_early(durable.directory()), Vec::<String>::new());
    assert_eq!(trace.answers().len(), answered.len());
    arrive(&after_power_cut(&trace, trace.records.len(), || false).await, answered).await;
    shim.removed(&mut durable);
    durable.segment().heal().await;
    durable.start_relay().await;
    arrive(&durable, answered).await;
    assert!(durable.post(&marked(CALLS)).await.is_stored());
}

/// A relay on what a power cut leaves, which `keep` decides for each sector that was not synced; and a sandbox that knows
/// nothing of what was before.
async fn after_power_cut(trace: &Trace, until: usize, keep: impl FnMut() -> bool) -> Durable {
    let mut durable = Durable::prepared(&[]).await;
    for (path, bytes) in trace.after_power_cut(until, keep) {
        let name = path.file_name().expect("a name").to_str().expect("text");
        // What readers and writers share in memory is made anew at every start.
        if !name.ends_with("-shm") {
            fs::write(durable.directory().join(name), bytes).unwrap();
        }
    }
    durable.start_relay().await;
    durable
}

/// Waits until calls of these messageIds have arrived.
async fn arrive(durable: &Durable, ids: &[String]) {
    at_last(async || {
        let received = durable.segment().received().await;
        let there: HashSet<&str> = received.iter().filter_map(|call| call["messageId"].as_str()).collect();
        ids.iter().all(|id| there.contains(&**id))
    })
    .await;
}

/// Starts the relay, which may not come to serve; then lets a sync fail, whose number is made from the last one's, and
/// posts one call after another until the relay has ended, with an error. What was answered 202, if it served.
async fn post_until_it_ends(durable: &mut Durable, shim: &Shim, number: impl Fn(u64) -> u64) -> Option<Vec<String>> {
    let mut process = durable.spawn();
    let mut address = None;
    eventually(|| {
        address = serving(&process);
        let over = address.is_some() || !process.is_running();
        async move { over }
    })
    .await;
    let mut answered = None;
    if let Some(url) = address.map(|address| format!("http://{address}/customers")) {
        shim.fail(&format!("fail-sync {}", number(shim.trace().syncs())));
        let answered = answered.insert(Vec::new());
        for number in 0..CALLS {
            let Ok(response) = client().post(&url).json(&marked(number)).send().await else { break };
            let Ok(answer) = Answer::of(response).await else { break };
            if answer.is_stored() {
                answered.push(answer.message_id().to_owned());
            }
        }
    }
    let code = process.exit_code().await;
    assert!(code.is_some_and(|code| code != 0), "{code:?} {:?} {:?}", process.stdout(), process.stderr());
    answered
}

fn serving(process: &Process) -> Option<String> {
    process.stdout().iter().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "segment-relay serves").then(|| line["address"].as_str().map(str::to_owned))?
    })
}
