//! No 202 is sent before the sync of its call. A trace of the relay's system calls proves it, and power cuts at random
//! moments of the trace test it.
//!
//! A preloaded library (`tests/shim/disk.rs`) writes the trace. Linux only.

use std::collections::HashSet;
use std::fs;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Durable, Process, Record, Shim, Trace, at_last, client, eventually, mark};

/// Calls in a trace: enough for many commits of one call and of several.
const CALLS: usize = 400;

/// Concurrent callers.
const CALLERS: usize = 8;

/// Users of these calls.
const USERS: usize = 40;

/// A call whose mark is found in the file. The mark occurs more than once, because a page may end within one of them.
fn marked(number: usize) -> Value {
    let id = mark(number);
    json!({"userId": format!("user-{}", number % USERS), "messageId": id,
           "traits": {"n": number, "a": id, "b": id, "filling": "x".repeat(number % 9 * 100)}})
}

/// Posts marked calls, all of which must be stored. Returns after all answers.
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

/// A relay that stored all calls, delivered those that are not `stuck`, and was killed; and its trace.
async fn traced(stuck: &[String]) -> (Durable, Trace) {
    let mut durable = Durable::prepared(&[]).await;
    let shim = Shim::before(&mut durable);
    durable.segment().fail(json!({"poisonUserIds": stuck, "poisonStatus": 503})).await;
    durable.start_relay().await;
    post_marked(&durable, 0..CALLS).await;
    // The trace must contain settlements too.
    eventually(async || durable.segment().received().await.len() >= CALLERS).await;
    durable.kill().await;
    let trace = shim.trace();
    assert_eq!(trace.answers().len(), CALLS);
    (durable, trace)
}

#[tokio::test]
async fn no_202_is_sent_before_its_call_is_synced() {
    let (durable, trace) = traced(&[]).await;
    assert_eq!(trace.too_early(durable.directory()), Vec::<String>::new());
    finds_every_lie(&durable, &trace);
}

/// Falsifies the trace in every way: each must be found.
fn finds_every_lie(durable: &Durable, trace: &Trace) {
    let found = |falsify: &dyn Fn(&mut Vec<Record>)| {
        let mut falsified = trace.clone();
        falsify(&mut falsified.records);
        falsified.too_early(durable.directory()).len()
    };
    let is_sync = |record: &Record, kind: &str| record.kind == kind && record.path != durable.directory();
    let (answer, id) = &trace.answers()[CALLS / 2];
    let begun = trace.first_sync_after_writing(id).expect("a sync");
    let ended = |records: &mut Vec<Record>, change: fn(&mut Record)| {
        records.iter_mut().filter(|record| record.kind == "sync-end").for_each(change);
    };
    // First one answer is moved between the begin and the end of its sync. The other changes affect every answer.
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
async fn calls_answered_before_a_power_cut_arrive_after_it() {
    // Half of the users are stuck: none of their calls was delivered, so all that were answered must arrive.
    let is_stuck = |number: usize| number % USERS < USERS / 2;
    let stuck: Vec<String> = (0..USERS / 2).map(|user| format!("user-{user}")).collect();
    let (_, trace) = traced(&stuck).await;
    let answers = trace.answers();
    let seed = 5;
    let mut random = Rng::with_seed(seed);
    for cut in 0..12 {
        let until = random.usize(..=trace.records.len());
        // Of the sectors that were not synced, a third is there, or all are, or none.
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
async fn a_failed_sync_ends_the_process_and_no_unsynced_call_was_answered_202() {
    for more in [1, 2, 3, 5, 8, 13] {
        let mut durable = Durable::prepared(&[]).await;
        let shim = Shim::before(&mut durable);
        durable.segment().fail(json!({"status": 503})).await;
        let answered = post_until_it_ends(&mut durable, &shim, |so_far| so_far + more).await.expect("it serves");
        every_answer_holds(durable, shim, &answered).await;
    }
}

#[tokio::test]
async fn a_failed_sync_during_the_start_prevents_serving_or_is_repeated() {
    for number in 1..=14 {
        let mut durable = Durable::prepared(&[]).await;
        let shim = Shim::before(&mut durable);
        shim.fail(&format!("fail-sync {number}"));
        durable.segment().fail(json!({"status": 503})).await;
        // If the relay serves all the same, a later sync ends it.
        let answered = post_until_it_ends(&mut durable, &shim, |so_far| so_far + 5).await;
        println!("sync {number} failed; answered 202: {answered:?}");
        every_answer_holds(durable, shim, &answered.unwrap_or_default()).await;
    }
}

/// After a sync failed and the process ended: no call was answered too early, and on a disk that works all answered
/// calls arrive, even if the power was cut as well and only synced bytes are left.
async fn every_answer_holds(mut durable: Durable, shim: Shim, answered: &[String]) {
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

/// A relay on the files that a power cut leaves, with a new sandbox. `keep` decides for each sector that was not
/// synced.
async fn after_power_cut(trace: &Trace, until: usize, keep: impl FnMut() -> bool) -> Durable {
    let mut durable = Durable::prepared(&[]).await;
    for (path, bytes) in trace.after_power_cut(until, keep) {
        let name = path.file_name().expect("a name").to_str().expect("text");
        // The shared memory of readers and writers is created again at every start.
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

/// Starts the relay, which may fail to start. Then makes a later sync fail, whose number is computed from the last
/// one's, and posts calls one after the other until the relay ends with an error. Returns the calls answered 202, if it
/// served.
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
