//! Sends one batch until every call in it is settled: attempts, pauses, and halves if the batch is split.
//!
//! Invariants: every call is settled exactly once, and no other call of its user is sent until then. A slot is held only
//! during a request. Halves that hold the same user's calls are sent in order; other halves are sent independently.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::apply::{NextStep, apply_response, give_up};
use super::attempt::BatchAttempt;
use super::batch::{Halves, PendingCall};
use super::dispatch_state::DispatchState;
use super::slots::Slot;

/// Interval at which a pausing batch drops the calls whose callers have left. A user's next call waits at most this
/// much longer.
const ABANDONED_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// After an outage the pausing batches resume at random times within this period, not all at once.
const RECOVERY_SPREAD: Duration = Duration::from_secs(1);

/// Sends a batch, first in `slot` if there is one. Ends when every call is settled, or when the supervisor cuts the relay
/// off. Then the remaining calls are dropped, which tells their callers. The future is boxed because it may spawn another
/// one of its kind.
pub(super) fn send_until_settled(
    dispatch: Arc<DispatchState>,
    attempt: BatchAttempt,
    slot: Option<Slot>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let supervisor = dispatch.supervisor.clone();
        tokio::select! {
            () = run_attempts(dispatch, attempt, slot) => {}
            () = supervisor.cancelled() => {}
        }
    })
}

async fn run_attempts(dispatch: Arc<DispatchState>, attempt: BatchAttempt, mut slot: Option<Slot>) {
    let mut stack = vec![attempt];
    while let Some(mut attempt) = stack.pop() {
        let slot = match slot.take() {
            Some(slot) => Some(slot),
            None => wait_for_slot(&dispatch, &mut attempt).await,
        };
        let Some(slot) = slot else { continue };
        match send_request(&dispatch, attempt, slot).await {
            NextStep::Settled => {}
            NextStep::Retry(attempt) => stack.push(attempt),
            NextStep::Split(Halves { left, right, in_order }) => {
                tracing::debug!(left = left.batch.len(), right = right.batch.len(), in_order, "batch split");
                if in_order {
                    stack.push(right);
                } else {
                    dispatch.supervisor.spawn("batch", send_until_settled(dispatch.clone(), right, None));
                }
                stack.push(left);
            }
        }
    }
}

async fn send_request(dispatch: &DispatchState, mut attempt: BatchAttempt, slot: Slot) -> NextStep {
    let metrics = &dispatch.metrics;
    attempt.attempts = attempt.attempts.saturating_add(1);
    let (calls, number) = (attempt.batch.len(), attempt.attempts);
    tracing::debug!(calls, attempt = number, "batch attempt started");
    metrics.slots_busy.inc();
    metrics.batch_calls.observe(calls as f64);
    let timer = metrics.attempt_seconds.start_timer();
    let request = dispatch.transport.send_batch(&attempt.batch, attempt.retry_count);
    let (result, is_stale) = dispatch.transport.connections.watch(request).await;
    let seconds = timer.stop_and_record();
    metrics.slots_busy.dec();
    let class = dispatch.transport.classify(&result);
    metrics.attempted(class.as_str());
    tracing::debug!(calls, attempt = number, result = class.as_str(), seconds, "batch attempt ended");
    attempt.retry_count = attempt.retry_count.saturating_add(1);
    if is_stale && !std::mem::replace(&mut attempt.is_second_try, true) {
        // This says nothing about Segment: a probe that ends so was none, and it is no failure of the batch.
        drop(slot);
        attempt.batch.iter().for_each(|pending| pending.completion.mark_unknown());
        return NextStep::Retry(attempt);
    }
    attempt.is_second_try = false;
    apply_response(dispatch, attempt, class, slot)
}

/// Waits until the next attempt is due, acquires a slot, and marks the calls as in a request. None if no call is left.
async fn wait_for_slot(dispatch: &DispatchState, attempt: &mut BatchAttempt) -> Option<Slot> {
    wait_until_due(dispatch, attempt).await;
    let mut gate = dispatch.gate.changes.subscribe();
    let slot = loop {
        if let Some((until, error)) = dispatch.gate.shut_until() {
            let expiring = attempt.batch.extract_if(|pending| pending.completion.expires_by(until));
            give_up(dispatch, expiring, &error);
        }
        let is_draining = dispatch.supervisor.is_draining();
        if is_draining {
            drop_stored(attempt);
        }
        if attempt.batch.is_empty() {
            return None;
        }
        tokio::select! {
            // First, so that a change of the gate is seen before a slot is requested.
            biased;
            // The gate lives as long as the dispatch state, so this cannot fail.
            _ = gate.changed() => {}
            () = dispatch.supervisor.draining(), if !is_draining => {}
            slot = dispatch.slots.acquire() => break slot,
        }
    };
    drop_withdrawn(dispatch, attempt, |pending| !pending.completion.mark_in_request());
    (!attempt.batch.is_empty()).then(|| slot.start())
}

/// Waits until the next attempt is due, or no call is left.
async fn wait_until_due(dispatch: &DispatchState, attempt: &mut BatchAttempt) {
    // After an early retry the next pause is waited out. Otherwise a batch that always fails would always retry early.
    let may_resume = attempt.resumes_on_recovery && !std::mem::take(&mut attempt.was_resumed_early);
    let mut is_draining = false;
    while !attempt.batch.is_empty() && Instant::now() < attempt.not_before {
        // Only calls with a deadline have callers who can leave.
        let check_at = attempt.batch.time_left(Instant::now()).map(|_| Instant::now() + ABANDONED_CHECK_INTERVAL);
        let wake_at = check_at.map_or(attempt.not_before, |check_at| check_at.min(attempt.not_before));
        tokio::select! {
            () = tokio::time::sleep_until(wake_at) => {}
            // The sender lives as long as the dispatch state, so this cannot fail.
            _ = attempt.recoveries.changed(), if may_resume && !attempt.was_resumed_early => {
                attempt.was_resumed_early = true;
                let resume_at = Instant::now() + RECOVERY_SPREAD.mul_f64(fastrand::f64());
                attempt.not_before = attempt.not_before.min(resume_at);
            }
            () = dispatch.supervisor.draining(), if !is_draining => {
                is_draining = true;
                drop_stored(attempt);
            }
        }
        drop_withdrawn(dispatch, attempt, |pending| pending.completion.is_abandoned());
    }
}

/// Drops stored calls: they stay in the outbox for the next start. Their users stay marked as in a request; otherwise a
/// later call of theirs could be sent first.
fn drop_stored(attempt: &mut BatchAttempt) {
    drop(attempt.batch.extract_if(|pending| pending.completion.is_stored()));
}

fn drop_withdrawn(dispatch: &DispatchState, attempt: &mut BatchAttempt, has_left: impl Fn(&PendingCall) -> bool) {
    let withdrawn = attempt.batch.extract_if(has_left);
    if !withdrawn.is_empty() {
        dispatch.metrics.calls_withdrawn.inc_by(withdrawn.len() as u64);
        dispatch.mark_settled(withdrawn.iter());
    }
}
