//! State that the store's threads share: the statistics, whether the store has failed, and the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::Error;

use super::fault::{StoreFault, without_values};
use super::transaction::room;
use crate::metrics::Metrics;
use crate::outbox::OutboxStats;
use crate::supervisor::Supervisor;

pub(super) struct StoreState {
    stats: Mutex<OutboxStats>,
    has_failed: AtomicBool,
    pub(super) metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl StoreState {
    pub(super) fn new(metrics: Arc<Metrics>, supervisor: Supervisor) -> Self {
        Self { stats: Mutex::default(), has_failed: AtomicBool::new(false), metrics, supervisor }
    }

    pub(super) fn stats(&self) -> OutboxStats {
        *self.stats.lock()
    }

    /// Publishes the statistics after a commit, and the trouble that remains.
    pub(super) fn update(&self, stats: OutboxStats, trouble: Option<&'static str>) {
        let trouble = trouble.or_else(|| (room(&stats) == 0).then_some("the outbox is full"));
        let mut published = self.stats.lock();
        // A failure that another thread found stays.
        let trouble = if self.has_failed() { published.trouble } else { trouble };
        *published = OutboxStats { trouble, ..stats };
        drop(published);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.outbox_calls.set(gauge(stats.waiting));
        self.metrics.outbox_bytes.set(gauge(stats.bytes));
        self.metrics.dead_letters.set(gauge(stats.dead_letters));
    }

    /// Publishes why calls cannot be stored at the moment.
    pub(super) fn set_trouble(&self, trouble: &'static str) {
        self.stats.lock().trouble = Some(trouble);
    }

    /// Whether the store has failed: nothing may be written any more.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Ends the store, because the content of the disk is unknown or unreadable. The process drains, and the next start
    /// reads what is on the disk.
    pub(super) fn fail(&self, what: &'static str, error: &Error) {
        let error_text = without_values(error);
        tracing::error!(error = error_text, "the outbox failed: {what}; nothing more is stored until the next start");
        {
            // Under the lock, so that a concurrent `update` cannot clear the trouble.
            let mut stats = self.stats.lock();
            self.has_failed.store(true, Ordering::Release);
            stats.trouble = Some(StoreFault::Fatal.trouble());
        }
        self.supervisor.fail("outbox", what);
    }
}
