//! What the answer to a request means to the part it held: settled, tried again, or split. Nothing here waits.
//!
//! Invariants: a call leaves by being settled or given up, never by being dropped; whoever cannot wait for the next
//! attempt is told now.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, Taken};
use super::dispatch::Dispatch;
use super::part::{Part, Parts};
use super::retry::{self, Verdict};
use super::slots::Slot;
use super::ticket::Refused;
use crate::segment::{MIN_RETRY_AFTER, SegmentError};

/// A batch that failed this often is split even if nothing else succeeded meanwhile, but only once, or an outage would end
/// in single calls: in a quiet relay there may be nothing else, and one call must not take its neighbours down. Whichever
/// half is sound is the evidence from then on.
const FAILURES_BEFORE_A_BLIND_SPLIT: u32 = 3;

/// A batch that failed this often while other requests were accepted is split: the trouble is its own.
const FAILURES_BEFORE_A_SPLIT: u32 = 2;

/// What is left to be done.
pub(super) enum Next {
    Settled,
    Again(Part),
    Split(Parts),
}

/// Applies a verdict, and lets the gate know.
pub(super) fn apply(dispatch: &Dispatch, part: Part, verdict: Verdict, slot: Slot) -> Next {
    match verdict {
        Verdict::Accepted => {
            slot.pass.went_through();
            dispatch.count_accepted();
            dispatch.metrics.calls_accepted.inc_by(part.batch.len() as u64);
            settle(dispatch, part.batch, &Ok(()));
            Next::Settled
        }
        Verdict::Refused { why, status } => {
            slot.pass.went_through();
            refused(dispatch, part, why, status)
        }
        Verdict::Passing { why, retry_after, unknown } => {
            slot.pass.went_through();
            failed(dispatch, part, &why, retry_after, unknown)
        }
        Verdict::Exhausted { why, pause } => {
            slot.pass.went_through();
            failed(dispatch, Part { retries: 0, ..part }, &why, Some(pause), false)
        }
        Verdict::RateLimited { why, retry_after } => {
            part.batch.not_accepted();
            let until = slot.pass.shut(&why, retry_after);
            let why = why.retry_after(until.saturating_duration_since(Instant::now()));
            dispatch.give_up_before(until, &why);
            again(dispatch, Part { may_hurry: false, ..part }, &why, until)
        }
        Verdict::AboutUs(why) => {
            part.batch.not_accepted();
            let until = slot.pass.shut(&why, None);
            dispatch.give_up_before(until, &why);
            let mut part = Part { may_hurry: false, ..part };
            // Callers are told at once, however long they could wait; what is stored waits for the operator.
            give_up(dispatch, part.batch.extract(|taken| !taken.ticket.is_stored()), &why);
            again(dispatch, part, &why, until)
        }
    }
}

/// Refused for good: a call alone is the culprit, others are searched for it.
fn refused(dispatch: &Dispatch, part: Part, why: SegmentError, status: u16) -> Next {
    part.batch.not_accepted();
    // The parts are requests of their own: nothing about them was tried before.
    match (Part { retries: 0, failures: 0, ..part }).split() {
        Ok(parts) => Next::Split(parts),
        Err(alone) => {
            dispatch.metrics.calls_refused.inc();
            settle(dispatch, alone.batch, &Err(Refused { why, status, attempts: alone.attempts }));
            Next::Settled
        }
    }
}

/// Passing trouble: another attempt after a pause, in two parts if the trouble seems to be this part's own.
fn failed(
    dispatch: &Dispatch,
    mut part: Part,
    why: &SegmentError,
    retry_after: Option<Duration>,
    unknown: bool,
) -> Next {
    if unknown {
        part.batch.unknown()
    } else {
        part.batch.not_accepted()
    }
    if part.failures == 0 {
        part.accepted_before = dispatch.accepted();
    }
    part.failures = part.failures.saturating_add(1);
    let is_suspect = part.failures >= FAILURES_BEFORE_A_SPLIT && dispatch.accepted() > part.accepted_before;
    let may_be = part.failures >= FAILURES_BEFORE_A_BLIND_SPLIT && !part.split_blindly;
    let is_split = part.batch.len() > 1 && (is_suspect || may_be);
    if is_split {
        // One more failure of a part, while others succeed, splits it again: the other part may be that other.
        part.failures = FAILURES_BEFORE_A_SPLIT - 1;
        part.accepted_before = dispatch.accepted();
        part.split_blindly |= !is_suspect;
    }
    dispatch.count_failed(why);
    let named = retry::a_pause(retry_after);
    part.may_hurry = named.is_none();
    let left = part.batch.patience(Instant::now());
    let Some(pause) = named.or_else(|| retry::backoff(part.failures, left, fastrand::f64())) else {
        give_up(dispatch, part.batch.into_calls(), &why.clone().retry_after(MIN_RETRY_AFTER));
        return Next::Settled;
    };
    match again(dispatch, part, why, Instant::now() + pause) {
        Next::Again(part) if is_split => part.split().map_or_else(Next::Again, Next::Split),
        next => next,
    }
}

/// The part once more, not before `until`; those who cannot wait so long are told now.
fn again(dispatch: &Dispatch, mut part: Part, why: &SegmentError, until: Instant) -> Next {
    let hurried = part.batch.extract(|taken| taken.ticket.is_over_by(until));
    give_up(dispatch, hurried, &why.clone().retry_after(until.saturating_duration_since(Instant::now())));
    part.not_before = until;
    if part.batch.is_empty() { Next::Settled } else { Next::Again(part) }
}

/// Tells first and frees the users then: the outbox must hear of a user's calls in their order.
fn settle(dispatch: &Dispatch, mut batch: Batch, outcome: &Result<(), Refused>) {
    batch.settle(outcome);
    dispatch.settled(batch.iter());
}

/// Tells the callers `why`, or that the outcome is unknown where it is.
pub(super) fn give_up(dispatch: &Dispatch, calls: Vec<Taken>, why: &SegmentError) {
    dispatch.settled(calls.iter());
    dispatch.tell_failure(calls, why);
}
