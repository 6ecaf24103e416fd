//! Where calls in hand meet slots: at the pace, a free slot takes all that waits.
//!
//! Everything that sends shares one [`Dispatch`]. Its loop only waits and starts; who goes when is the [`Queue`]'s
//! business, and what becomes of a batch is [`super::send`]'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::batch::Taken;
use super::gate::Gate;
use super::queue::Queue;
use super::send;
use super::slots::Slots;
use super::transport::Transport;
use crate::config::SegmentSettings;
use crate::metrics::Metrics;
use crate::segment::{ErrorCode, MIN_RETRY_AFTER, SegmentError};
use crate::supervisor::Supervisor;

/// So many failed requests without an accepted one are an outage: what ends with the next accepted one is worth telling
/// everybody. Fewer may be one call's own trouble.
const FAILURES_OF_AN_OUTAGE: u32 = 3;

/// The shared machinery between callers and Segment.
pub(super) struct Dispatch {
    queue: Mutex<Queue>,
    /// Something may have become ready to go.
    ready: Notify,
    pub(super) gate: Arc<Gate>,
    pub(super) slots: Slots,
    pub(super) transport: Transport,
    pub(super) metrics: Arc<Metrics>,
    pub(super) supervisor: Supervisor,
    /// How many requests Segment has accepted: whether others succeed while one fails.
    accepted: AtomicU64,
    /// How many failed since then.
    failed_since: AtomicU32,
    /// Tells those who pause that Segment works again.
    recovery: watch::Sender<()>,
}

impl Dispatch {
    /// Starts the machinery; it runs until `life` is cut.
    ///
    /// # Errors
    /// If HTTPS cannot be set up.
    pub(super) fn start(
        settings: SegmentSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Arc<Self>> {
        let gate = Gate::new();
        let slots = Slots::new(settings.max_concurrency, settings.max_requests_per_second, gate.clone());
        let dispatch = Arc::new(Self {
            queue: Mutex::default(),
            ready: Notify::new(),
            gate,
            slots,
            transport: Transport::new(settings)?,
            metrics,
            supervisor: supervisor.clone(),
            accepted: AtomicU64::new(0),
            failed_since: AtomicU32::new(0),
            recovery: watch::Sender::new(()),
        });
        supervisor.supervise("dispatch", dispatch.clone().run());
        Ok(dispatch)
    }

    async fn run(self: Arc<Self>) {
        let draining = async {
            self.supervisor.draining().await;
            self.leave_stored();
            self.supervisor.cancelled().await;
        };
        tokio::select! {
            // First, so that nothing stored departs any more.
            biased;
            () = draining => drop(std::mem::take(&mut *self.queue.lock())),
            () = self.clone().depart() => {}
        }
    }

    /// Drops what waits and is in the outbox: it is for the next start.
    fn leave_stored(&self) {
        drop(self.queue.lock().extract(|taken| taken.ticket.is_stored()));
    }

    async fn depart(self: Arc<Self>) {
        loop {
            while !self.queue.lock().is_ready() {
                self.ready.notified().await;
            }
            let slot = self.slots.acquire().await;
            let departure = self.queue.lock().take();
            self.metrics.calls_withdrawn.inc_by(departure.withdrawn as u64);
            if !departure.batch.is_empty() {
                self.supervisor.spawn("batch", send::first(self.clone(), departure.batch, slot));
            }
        }
    }

    /// Takes a call in hand.
    ///
    /// # Errors
    /// If there is no room, or nothing will be sent before the call's deadline.
    pub(super) fn hand_over(&self, taken: Taken) -> Result<(), SegmentError> {
        if let Some(why) = taken.ticket.deadline().and_then(|deadline| self.gate.refusal(deadline)) {
            return Err(why);
        }
        let is_stored = taken.ticket.is_stored();
        self.queue.lock().push(taken).map_err(|_taken| {
            SegmentError::new(ErrorCode::Overloaded, "too many calls wait for Segment; this one was not sent")
                .retry_after(MIN_RETRY_AFTER)
        })?;
        self.ready.notify_one();
        if is_stored && self.supervisor.is_draining() {
            self.leave_stored();
        }
        Ok(())
    }

    /// These calls are out of their requests; their users' next ones may go.
    pub(super) fn settled<'a>(&self, calls: impl Iterator<Item = &'a Taken>) {
        let mut queue = self.queue.lock();
        queue.settled(calls);
        let is_ready = queue.is_ready();
        drop(queue);
        if is_ready {
            self.ready.notify_one();
        }
    }

    /// The gate is shut until then: nobody whose deadline is earlier need wait for it.
    pub(super) fn give_up_before(&self, until: Instant, why: &SegmentError) {
        let left = self.queue.lock().extract(|taken| taken.ticket.is_over_by(until));
        self.tell_failure(left, why);
    }

    /// Counts these calls and tells their callers `why`, or that the outcome is unknown where it is.
    pub(super) fn tell_failure(&self, calls: Vec<Taken>, why: &SegmentError) {
        for mut taken in calls {
            let is_unknown = taken.ticket.is_unknown();
            let counter = if is_unknown { &self.metrics.calls_unknown } else { &self.metrics.calls_failed };
            counter.inc();
            taken.ticket.give_up(why);
        }
    }

    /// A request was accepted. If many failed before, Segment works again, and whoever pauses need not do so any longer.
    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if self.failed_since.swap(0, Ordering::Relaxed) >= FAILURES_OF_AN_OUTAGE {
            tracing::info!("Segment works again");
            self.recovery.send_replace(());
        }
    }

    /// A request failed in a way that passes.
    pub(super) fn count_failed(&self, why: &SegmentError) {
        if self.failed_since.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES_OF_AN_OUTAGE {
            tracing::warn!(code = why.code.as_str(), "Segment fails; what waits is tried again");
        }
    }

    /// How many requests failed since one was accepted.
    pub(super) fn failed_in_a_row(&self) -> u32 {
        self.failed_since.load(Ordering::Relaxed)
    }

    /// Tells of the end of every outage.
    pub(super) fn recoveries(&self) -> watch::Receiver<()> {
        self.recovery.subscribe()
    }

    /// How many requests were accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().len()
    }
}
