//! The life of one batch: attempts and pauses, in parts where it was split.
//!
//! Each turn sends one request; [`apply`] says what its answer leaves to be done, and that is put on a stack. Invariants:
//! every call is settled exactly once, and its user stays parked until then; a slot is held only while a request is under
//! way; the parts of one user's calls go in order, strangers go their own ways at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::apply::{Next, apply, give_up};
use super::batch::{Batch, Taken};
use super::dispatch::Dispatch;
use super::part::Part;
use super::retry;
use super::slots::Slot;

/// How often a pause is interrupted to see whose callers have left, so that their users' next calls may go.
const LOOK: Duration = Duration::from_millis(250);

/// When an outage is over, those who pause come back within this time, not all at once.
const RETURN: Duration = Duration::from_secs(1);

/// A new batch, which has its slot already.
pub(super) async fn first(dispatch: Arc<Dispatch>, batch: Batch, slot: Slot) {
    let part = Part::new(batch, dispatch.recoveries());
    live(dispatch, part, Some(slot)).await;
}

/// Lives until every call of the part is settled, or the relay is cut off: then those that are left are dropped, which
/// tells their callers. Boxed, because a life may start another one.
fn live(dispatch: Arc<Dispatch>, part: Part, slot: Option<Slot>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let supervisor = dispatch.supervisor.clone();
        tokio::select! {
            () = turns(dispatch, part, slot) => {}
            () = supervisor.cancelled() => {}
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
            Next::Again(part) => parts.push(part),
            Next::Split(split) if split.in_order => parts.extend([split.right, split.left]),
            Next::Split(split) => {
                dispatch.supervisor.spawn("batch", live(dispatch.clone(), split.right, None));
                parts.push(split.left);
            }
        }
    }
}

/// Sends one request.
async fn turn(dispatch: &Dispatch, mut part: Part, slot: Slot) -> Next {
    let metrics = &dispatch.metrics;
    metrics.slots_busy.inc();
    metrics.batch_calls.observe(part.batch.len() as f64);
    let timer = metrics.attempt_seconds.start_timer();
    let answer = dispatch.transport.attempt(&part.batch, part.retries).await;
    timer.observe_duration();
    metrics.slots_busy.dec();
    let verdict = retry::judge(&answer, SystemTime::now());
    metrics.attempted(verdict.as_str());
    part.retries = part.retries.saturating_add(1);
    part.attempts = part.attempts.saturating_add(1);
    apply(dispatch, part, verdict, slot)
}

/// A slot for another attempt once its time has come, and the calls put into its request. None if nobody waits for them
/// any more.
async fn slot_for(dispatch: &Dispatch, part: &mut Part) -> Option<Slot> {
    pause(dispatch, part).await;
    let mut gate = dispatch.gate.changes();
    let slot = loop {
        if let Some((until, why)) = dispatch.gate.shut_until() {
            give_up(dispatch, part.batch.extract(|taken| taken.ticket.is_over_by(until)), &why);
        }
        let is_draining = dispatch.supervisor.is_draining();
        if is_draining {
            leave_stored(part);
        }
        if part.batch.is_empty() {
            return None;
        }
        tokio::select! {
            // First, so that no slot is asked for and let go of when the gate changes.
            biased;
            // The gate lives as long as the dispatch: this cannot fail.
            _ = gate.changed() => {}
            () = dispatch.supervisor.draining(), if !is_draining => {}
            slot = dispatch.slots.acquire() => break slot,
        }
    };
    leave_behind(dispatch, part, |taken| !taken.ticket.put_in_request());
    (!part.batch.is_empty()).then_some(slot)
}

/// Waits until the part's time has come, or nobody waits for its calls any more.
async fn pause(dispatch: &Dispatch, part: &mut Part) {
    // Called back once, a part waits out its next backoff: one that fails for good would else be called back for ever.
    let may_hurry = part.may_hurry && !std::mem::take(&mut part.was_hurried);
    let mut is_draining = false;
    while !part.batch.is_empty() && Instant::now() < part.not_before {
        // Only callers can leave.
        let look = part.batch.patience(Instant::now()).map(|_| Instant::now() + LOOK);
        tokio::select! {
            () = tokio::time::sleep_until(look.map_or(part.not_before, |look| look.min(part.not_before))) => {}
            // The sender lives as long as the dispatch: this cannot fail.
            _ = part.recoveries.changed(), if may_hurry && !part.was_hurried => {
                part.was_hurried = true;
                part.not_before = part.not_before.min(Instant::now() + RETURN.mul_f64(fastrand::f64()));
            }
            () = dispatch.supervisor.draining(), if !is_draining => {
                is_draining = true;
                leave_stored(part);
            }
        }
        leave_behind(dispatch, part, |taken| taken.ticket.is_abandoned());
    }
}

/// Lets go of what is in the outbox: it is for the next start. Its users stay parked, or a later call of theirs could
/// still go.
fn leave_stored(part: &mut Part) {
    drop(part.batch.extract(|taken| taken.ticket.is_stored()));
}

/// Lets go of calls whose callers have left.
fn leave_behind(dispatch: &Dispatch, part: &mut Part, has_left: impl Fn(&Taken) -> bool) {
    let left = part.batch.extract(has_left);
    if !left.is_empty() {
        dispatch.metrics.calls_withdrawn.inc_by(left.len() as u64);
        dispatch.settled(left.iter());
    }
}
