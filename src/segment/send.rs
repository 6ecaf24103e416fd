//! The life of one batch: attempts, pauses, and the splitting of one that is refused.
//!
//! Each turn sends one request and *applies* what its answer means to the part it held; what a turn leaves to be done is
//! put on a stack. Invariants: every call is settled exactly once, and its user stays parked until then; a slot is held
//! only while a request is under way; the parts of one user's calls go in order, strangers go their own ways at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::batch::{Batch, Split, Taken};
use super::dispatch::Dispatch;
use super::error::SegmentError;
use super::retry::{self, Verdict};
use super::slots::Slot;
use super::ticket::SOON;

/// A batch that failed this often is split even if nothing else succeeded meanwhile, but only once, or an outage would end
/// in single calls: in a quiet relay there may be nothing else, and one call must not take its neighbours down. Whichever
/// half is sound is the evidence from then on.
const FAILURES_BEFORE_A_BLIND_SPLIT: u32 = 3;

/// A batch that failed this often while other requests were accepted is split: the trouble is its own.
const FAILURES_BEFORE_A_SPLIT: u32 = 2;

/// A batch, or what splitting left of one, and what it went through.
struct Part {
    batch: Batch,
    /// How often these calls were sent, as Segment is told.
    retries: u32,
    /// Failures in a row.
    failures: u32,
    /// How many requests Segment had accepted when this part began to fail.
    accepted_before: u64,
    /// Whether it comes from a split without evidence.
    split_blindly: bool,
}

/// What a turn left to be done.
enum Next {
    Settled,
    Again { part: Part, pause: Duration },
    Split { left: Part, right: Part, together: bool },
}

/// A new batch, which has its slot already.
pub(super) async fn first(dispatch: Arc<Dispatch>, batch: Batch, slot: Slot) {
    let part = Part { batch, retries: 0, failures: 0, accepted_before: 0, split_blindly: false };
    live(dispatch, part, Some(slot)).await;
}

/// Lives until every call of the part is settled, or the relay is cut off: then those that are left are dropped, which
/// tells their callers. Boxed, because a life may start another one.
fn live(dispatch: Arc<Dispatch>, part: Part, slot: Option<Slot>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let life = dispatch.life.clone();
        tokio::select! {
            () = turns(dispatch, part, slot) => {}
            () = life.cut() => {}
        }
    })
}

async fn turns(dispatch: Arc<Dispatch>, part: Part, mut slot: Option<Slot>) {
    let mut parts = vec![part];
    while let Some(mut part) = parts.pop() {
        let slot = match slot.take() {
            Some(slot) => slot,
            None => match slot_for(&dispatch, &mut part).await {
                Some(slot) => slot,
                None => continue,
            },
        };
        match turn(&dispatch, part, slot).await {
            Next::Settled => {}
            Next::Again { part, pause } => {
                tokio::time::sleep(pause).await;
                parts.push(part);
            }
            Next::Split { left, right, together: true } => parts.extend([right, left]),
            Next::Split { left, right, together: false } => {
                dispatch.life.spawn("batch", live(dispatch.clone(), right, None));
                parts.push(left);
            }
        }
    }
}

/// A slot for another attempt, and the calls put into its request. None if nobody waits for them any more.
async fn slot_for(dispatch: &Dispatch, part: &mut Part) -> Option<Slot> {
    let mut gate = dispatch.gate.changes();
    let slot = loop {
        give_up_what_the_gate_stops(dispatch, part);
        if part.batch.is_empty() {
            return None;
        }
        tokio::select! {
            slot = dispatch.slots.acquire() => break slot,
            // The gate lives as long as the dispatch: this cannot fail.
            _ = gate.changed() => {}
        }
    };
    let left = part.batch.extract(|taken| !taken.ticket.put_in_request());
    dispatch.status.calls_withdrawn.inc_by(left.len() as u64);
    dispatch.settled(left.iter());
    (!part.batch.is_empty()).then_some(slot)
}

fn give_up_what_the_gate_stops(dispatch: &Dispatch, part: &mut Part) {
    if let Some((until, why)) = dispatch.gate.shut_until() {
        give_up(dispatch, part.batch.extract(|taken| taken.ticket.deadline() < until), &why);
    }
}

async fn turn(dispatch: &Dispatch, mut part: Part, slot: Slot) -> Next {
    let status = &dispatch.status;
    status.slots_busy.inc();
    status.batch_calls.observe(part.batch.len() as f64);
    let timer = status.attempt_seconds.start_timer();
    let answer = dispatch.transport.attempt(&part.batch, part.retries).await;
    timer.observe_duration();
    status.slots_busy.dec();
    let verdict = retry::judge(&answer, SystemTime::now());
    status.attempted(verdict.as_str());
    part.retries = part.retries.saturating_add(1);
    apply(dispatch, part, verdict, slot)
}

fn apply(dispatch: &Dispatch, part: Part, verdict: Verdict, slot: Slot) -> Next {
    if !matches!(verdict, Verdict::RateLimited { .. } | Verdict::AboutUs(_)) {
        slot.pass.went_through();
        return apply_to_part(dispatch, part, verdict);
    }
    for taken in part.batch.iter() {
        taken.ticket.not_accepted();
    }
    match verdict {
        Verdict::RateLimited { why, retry_after } => {
            let until = slot.pass.shut(&why, retry_after);
            dispatch.give_up_before(until, &why);
            again(dispatch, part, &why, Duration::ZERO, until)
        }
        Verdict::AboutUs(why) => {
            let until = slot.pass.shut(&why, None);
            dispatch.give_up_before(until, &why);
            give_up(dispatch, part.batch.into_calls(), &why);
            Next::Settled
        }
        _ => Next::Settled,
    }
}

fn apply_to_part(dispatch: &Dispatch, part: Part, verdict: Verdict) -> Next {
    match verdict {
        Verdict::Accepted => {
            dispatch.count_accepted();
            dispatch.status.calls_accepted.inc_by(part.batch.len() as u64);
            settle(dispatch, part.batch, &Ok(()));
            Next::Settled
        }
        Verdict::Refused(why) => refused(dispatch, part, why),
        Verdict::Passing { why, retry_after, unknown } => failed(dispatch, part, &why, retry_after, unknown),
        Verdict::Exhausted { why, pause } => {
            for taken in part.batch.iter() {
                taken.ticket.not_accepted();
            }
            again(dispatch, Part { retries: 0, ..part }, &why, pause, Instant::now() + pause)
        }
        Verdict::RateLimited { .. } | Verdict::AboutUs(_) => Next::Settled,
    }
}

/// Refused for good: a call alone is the culprit, others are searched for it.
fn refused(dispatch: &Dispatch, part: Part, why: SegmentError) -> Next {
    for taken in part.batch.iter() {
        taken.ticket.not_accepted();
    }
    // The parts are requests of their own: nothing about them was tried before.
    match split(Part { retries: 0, ..part }, 0) {
        Ok(next) => next,
        Err(alone) => {
            dispatch.status.calls_refused.inc();
            settle(dispatch, alone.batch, &Err(why));
            Next::Settled
        }
    }
}

/// Passing trouble: another attempt after a pause, or a split if the trouble seems to be this part's own.
fn failed(
    dispatch: &Dispatch,
    mut part: Part,
    why: &SegmentError,
    retry_after: Option<Duration>,
    unknown: bool,
) -> Next {
    for taken in part.batch.iter() {
        if unknown { taken.ticket.unknown() } else { taken.ticket.not_accepted() }
    }
    if part.failures == 0 {
        part.accepted_before = dispatch.accepted();
    }
    part.failures = part.failures.saturating_add(1);
    let is_suspect = part.failures >= FAILURES_BEFORE_A_SPLIT && dispatch.accepted() > part.accepted_before;
    let may_be = part.failures >= FAILURES_BEFORE_A_BLIND_SPLIT && !part.split_blindly;
    if (is_suspect || may_be) && retry_after.is_none() {
        // One more failure of a part, while others succeed, splits it again: the other part may be that other.
        let failures = FAILURES_BEFORE_A_SPLIT - 1;
        let split_blindly = part.split_blindly || !is_suspect;
        match split(Part { accepted_before: dispatch.accepted(), split_blindly, ..part }, failures) {
            Ok(next) => return next,
            Err(alone) => part = alone,
        }
    }
    let left = part.batch.last_deadline().saturating_duration_since(Instant::now());
    let Some(pause) = retry_after.or_else(|| retry::backoff(part.failures, left, fastrand::f64())) else {
        give_up(dispatch, part.batch.into_calls(), &why.clone().retry_after(SOON));
        return Next::Settled;
    };
    again(dispatch, part, why, pause, Instant::now() + pause)
}

/// The part once more after `pause`; those who cannot wait until `until` are told now.
fn again(dispatch: &Dispatch, mut part: Part, why: &SegmentError, pause: Duration, until: Instant) -> Next {
    let hurried = part.batch.extract(|taken| taken.ticket.deadline() <= until);
    give_up(dispatch, hurried, &why.clone().retry_after(until.saturating_duration_since(Instant::now())));
    if part.batch.is_empty() { Next::Settled } else { Next::Again { part, pause } }
}

/// Two parts with the history of the whole but for so many `failures`, or the whole back if it is one call.
fn split(part: Part, failures: u32) -> Result<Next, Part> {
    let Part { batch, failures: failures_of_the_whole, retries, accepted_before, split_blindly } = part;
    let like = |batch| Part { batch, retries, failures, accepted_before, split_blindly };
    match batch.split() {
        Ok(Split::InOrder(left, right)) => Ok(Next::Split { left: like(left), right: like(right), together: true }),
        Ok(Split::Strangers(left, right)) => Ok(Next::Split { left: like(left), right: like(right), together: false }),
        Err(alone) => Err(Part { failures: failures_of_the_whole, ..like(alone) }),
    }
}

fn settle(dispatch: &Dispatch, batch: Batch, outcome: &Result<(), SegmentError>) {
    dispatch.settled(batch.iter());
    batch.settle(outcome);
}

fn give_up(dispatch: &Dispatch, calls: Vec<Taken>, why: &SegmentError) {
    dispatch.settled(calls.iter());
    dispatch.status.calls_given_up.inc_by(calls.len() as u64);
    for taken in calls {
        taken.ticket.give_up(why);
    }
}
