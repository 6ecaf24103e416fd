//! Applies the answer to a request: the batch is settled, retried or split. Nothing here waits.
//!
//! Invariants: a call leaves only by being settled or given up, never by being dropped. A caller who cannot wait for
//! the next attempt gets its error at once.

use std::time::Duration;

use tokio::time::Instant;

use super::attempt::BatchAttempt;
use super::batch::{Batch, Halves, PendingCall};
use super::dispatch_state::DispatchState;
use super::retry::{self, ResponseClass};
use super::slots::Slot;
use crate::segment::{MIN_RETRY_AFTER, Refusal, SegmentError};

/// Failures after which a batch is split even if no other request was accepted meanwhile. A quiet relay may have no
/// other requests, and one bad call must not make the others fail. A batch is split this way once; otherwise an outage
/// would split every batch into single calls. After that, a half that succeeds is the evidence against the other half.
const FAILURES_BEFORE_SPLIT_WITHOUT_EVIDENCE: u32 = 3;

/// Failures after which a batch is split if other requests were accepted meanwhile: then the batch itself is at fault.
const FAILURES_BEFORE_SPLIT: u32 = 2;

pub(super) enum NextStep {
    Settled,
    Retry(BatchAttempt),
    Split(Halves<BatchAttempt>),
}

pub(super) fn apply_response(
    dispatch: &DispatchState,
    attempt: BatchAttempt,
    class: ResponseClass,
    slot: Slot,
) -> NextStep {
    match class {
        ResponseClass::Accepted => {
            slot.gate_permit.open();
            dispatch.count_accepted();
            dispatch.metrics.calls_accepted.inc_by(attempt.batch.len() as u64);
            settle(dispatch, attempt.batch, &Ok(()));
            NextStep::Settled
        }
        ResponseClass::Refused { error, status } => {
            slot.gate_permit.open();
            split_or_refuse(dispatch, attempt, error, status)
        }
        ResponseClass::Retryable { error, retry_after, outcome_unknown } => {
            // A probe without an answer found out nothing: the next request is the probe.
            if error.status().is_some() {
                slot.gate_permit.open();
            }
            retry_or_split(dispatch, attempt, &error, retry_after, outcome_unknown)
        }
        ResponseClass::RetriesExhausted { error, pause } => {
            slot.gate_permit.open();
            retry_or_split(dispatch, BatchAttempt { retry_count: 0, ..attempt }, &error, Some(pause), false)
        }
        ResponseClass::RateLimited { error, retry_after } => {
            attempt.batch.mark_not_accepted();
            let until = slot.gate_permit.shut(&error, retry_after);
            let error = error.retry_after(until.saturating_duration_since(Instant::now()));
            dispatch.give_up_expiring(until, &error);
            retry_at(dispatch, BatchAttempt { resumes_on_recovery: false, ..attempt }, &error, until)
        }
        ResponseClass::ConfigurationError(error) => {
            attempt.batch.mark_not_accepted();
            let until = slot.gate_permit.shut(&error, None);
            dispatch.give_up_expiring(until, &error);
            let mut attempt = BatchAttempt { resumes_on_recovery: false, ..attempt };
            // Callers get the error at once, whatever their deadline. Stored calls wait for the operator.
            give_up(dispatch, attempt.batch.extract_if(|pending| !pending.completion.is_stored()), &error);
            retry_at(dispatch, attempt, &error, until)
        }
    }
}

/// Refuses a single call; splits a larger batch to find the call at fault.
fn split_or_refuse(dispatch: &DispatchState, attempt: BatchAttempt, error: SegmentError, status: u16) -> NextStep {
    attempt.batch.mark_not_accepted();
    // The halves are new requests, so their retry counts start at 0.
    match (BatchAttempt { retry_count: 0, failures: 0, ..attempt }).split() {
        Ok(split) => NextStep::Split(split),
        Err(single) => {
            dispatch.metrics.calls_refused.inc();
            settle(dispatch, single.batch, &Err(Refusal { status, reason: error.message, attempts: single.attempts }));
            NextStep::Settled
        }
    }
}

/// Retries a batch after a pause, in halves if the batch itself seems to be at fault.
fn retry_or_split(
    dispatch: &DispatchState,
    mut attempt: BatchAttempt,
    error: &SegmentError,
    retry_after: Option<Duration>,
    outcome_unknown: bool,
) -> NextStep {
    if outcome_unknown {
        attempt.batch.iter().for_each(|pending| pending.completion.mark_unknown());
    } else {
        attempt.batch.mark_not_accepted();
    }
    if attempt.failures == 0 {
        attempt.accepted_before = dispatch.accepted();
    }
    attempt.failures = attempt.failures.saturating_add(1);
    let has_evidence = attempt.failures >= FAILURES_BEFORE_SPLIT && dispatch.accepted() > attempt.accepted_before;
    let may_split_without =
        attempt.failures >= FAILURES_BEFORE_SPLIT_WITHOUT_EVIDENCE && !attempt.was_split_without_evidence;
    let is_split = attempt.batch.len() > 1 && (has_evidence || may_split_without);
    if is_split {
        // A half is split again after one more failure if another request, such as the other half, was accepted.
        attempt.failures = FAILURES_BEFORE_SPLIT - 1;
        attempt.accepted_before = dispatch.accepted();
        attempt.was_split_without_evidence |= !has_evidence;
    }
    dispatch.count_failed(error);
    let named = retry::usable_retry_after(retry_after);
    attempt.resumes_on_recovery = named.is_none();
    let time_left = attempt.batch.time_left(Instant::now());
    let Some(pause) = named.or_else(|| retry::backoff(attempt.failures, time_left, fastrand::f64())) else {
        give_up(dispatch, attempt.batch.into_calls(), &error.clone().retry_after(MIN_RETRY_AFTER));
        return NextStep::Settled;
    };
    match retry_at(dispatch, attempt, error, Instant::now() + pause) {
        NextStep::Retry(attempt) if is_split => attempt.split().map_or_else(NextStep::Retry, NextStep::Split),
        next => next,
    }
}

/// Retries the batch at `until`. Calls whose deadline is earlier are given up now.
fn retry_at(dispatch: &DispatchState, mut attempt: BatchAttempt, error: &SegmentError, until: Instant) -> NextStep {
    let expiring = attempt.batch.extract_if(|pending| pending.completion.expires_by(until));
    let pause = until.saturating_duration_since(Instant::now());
    give_up(dispatch, expiring, &error.clone().retry_after(pause));
    attempt.not_before = until;
    if attempt.batch.is_empty() {
        return NextStep::Settled;
    }
    let (calls, code) = (attempt.batch.len(), error.code.as_str());
    tracing::debug!(calls, code, seconds = pause.as_secs_f64(), "batch paused");
    NextStep::Retry(attempt)
}

/// Reports the outcomes before it releases the users: delivery must see a user's outcomes in the order of the calls.
fn settle(dispatch: &DispatchState, mut batch: Batch, outcome: &Result<(), Refusal>) {
    batch.settle(outcome);
    dispatch.mark_settled(batch.iter());
}

/// Gives calls up. Each caller gets `error`, or that the outcome is unknown.
pub(super) fn give_up(dispatch: &DispatchState, calls: Vec<PendingCall>, error: &SegmentError) {
    if !calls.is_empty() {
        tracing::debug!(calls = calls.len(), code = error.code.as_str(), "calls given up");
    }
    dispatch.mark_settled(calls.iter());
    dispatch.report_failure(calls, error);
}
