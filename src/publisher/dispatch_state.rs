//! The state that the dispatch loop and all batches share: queue, gate, slots, transport and counters.
//!
//! Methods here start no task, and none but [`DispatchState::wait_until_ready`] waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::batch::PendingCall;
use super::gate::Gate;
use super::queue::Queue;
use super::slots::Slots;
use super::transport::Transport;
use crate::config::SegmentSettings;
use crate::metrics::Metrics;
use crate::segment::{ErrorCode, FailureReason, MIN_RETRY_AFTER, SegmentError};
use crate::supervisor::Supervisor;

/// Consecutive failed requests that count as an outage. Fewer failures may be the fault of one call. Only the end of an
/// outage is reported to the batches that pause.
const FAILURES_OF_AN_OUTAGE: u32 = 3;

/// Reasons of one outage that are logged: more than an outage has, unless something writes statuses at random.
const MAX_LOGGED_REASONS: usize = 8;

pub(super) struct DispatchState {
    pub(super) queue: Mutex<Queue>,
    /// Notified when a call may have become ready to be sent.
    ready: Notify,
    pub(super) gate: Arc<Gate>,
    pub(super) slots: Slots,
    pub(super) transport: Transport,
    pub(super) metrics: Arc<Metrics>,
    pub(super) supervisor: Supervisor,
    /// Number of requests that Segment accepted. Shows whether other requests succeed while one fails.
    accepted: AtomicU64,
    /// Number of requests that failed since the last accepted one.
    pub(super) failed_in_a_row: AtomicU32,
    /// The reasons of the present outage that were logged.
    logged_reasons: Mutex<Vec<Option<FailureReason>>>,
    /// Reports the end of every outage.
    pub(super) recovery: watch::Sender<()>,
}

impl DispatchState {
    /// # Errors
    /// If HTTPS cannot be set up.
    pub(super) fn new(
        settings: SegmentSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let gate = Gate::new();
        let slots = Slots::new(settings.max_concurrency, settings.max_requests_per_second, gate.clone());
        Ok(Self {
            queue: Mutex::default(),
            ready: Notify::new(),
            gate,
            slots,
            transport: Transport::new(settings)?,
            metrics,
            supervisor: supervisor.clone(),
            accepted: AtomicU64::new(0),
            failed_in_a_row: AtomicU32::new(0),
            logged_reasons: Mutex::default(),
            recovery: watch::Sender::new(()),
        })
    }

    /// # Errors
    /// If there is no room, or the gate opens only after the call's deadline.
    pub(super) fn enqueue(&self, pending: PendingCall) -> Result<(), SegmentError> {
        let deadline = pending.completion.deadline();
        if let Some(error) = deadline.and_then(|deadline| self.gate.error_before(deadline)) {
            return Err(error);
        }
        self.queue.lock().push(pending).map_err(|_pending| {
            SegmentError::new(ErrorCode::Overloaded, "too many calls wait for Segment; this one was not sent")
                .retry_after(MIN_RETRY_AFTER)
        })?;
        self.ready.notify_one();
        Ok(())
    }

    pub(super) async fn wait_until_ready(&self) {
        while !self.queue.lock().is_ready() {
            self.ready.notified().await;
        }
    }

    /// Settles calls that were in a request. Their users' next calls can be sent.
    pub(super) fn mark_settled<'a>(&self, calls: impl Iterator<Item = &'a PendingCall>) {
        let mut queue = self.queue.lock();
        queue.mark_settled(calls);
        let is_ready = queue.is_ready();
        drop(queue);
        if is_ready {
            self.ready.notify_one();
        }
    }

    /// Gives up the waiting calls whose deadline is not after `until`, the time at which the gate opens.
    pub(super) fn give_up_expiring(&self, until: Instant, error: &SegmentError) {
        let expiring = self.queue.lock().extract_if(|pending| pending.completion.expires_by(until));
        self.report_failure(expiring, error);
    }

    /// Counts calls that are given up and sends each caller `error`, or that the outcome is unknown.
    pub(super) fn report_failure(&self, calls: Vec<PendingCall>, error: &SegmentError) {
        for mut pending in calls {
            let is_unknown = pending.completion.give_up(error);
            if is_unknown { &self.metrics.calls_unknown } else { &self.metrics.calls_failed }.inc();
        }
    }

    /// Counts an accepted request. If it ends an outage, `recovery` wakes the batches that pause.
    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if self.failed_in_a_row.swap(0, Ordering::Relaxed) >= FAILURES_OF_AN_OUTAGE {
            self.logged_reasons.lock().clear();
            tracing::info!("requests to Segment succeed again");
            self.recovery.send_replace(());
        }
    }

    /// Counts a request that failed and can be retried. Each reason of an outage is logged once.
    pub(super) fn count_failed(&self, error: &SegmentError) {
        if self.failed_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES_OF_AN_OUTAGE {
            return;
        }
        let mut logged = self.logged_reasons.lock();
        if logged.len() < MAX_LOGGED_REASONS && !logged.contains(&error.reason) {
            logged.push(error.reason);
            let (reason, status) = (error.reason.map(FailureReason::as_str), error.status());
            tracing::warn!(code = error.code.as_str(), reason, status, "requests to Segment fail; they are retried");
        }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}
