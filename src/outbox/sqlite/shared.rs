//! What all parts of the store share: its contents, whether it is over, where it counts and whom it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::Error;

use super::fault::{Fault, without_values};
use super::transaction::{Counters, Measured};
use crate::metrics::Metrics;
use crate::outbox::Contents;
use crate::supervisor::Supervisor;

pub(super) struct Shared {
    contents: Mutex<Contents>,
    over: AtomicBool,
    pub(super) metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Shared {
    pub(super) fn new(max_bytes: u64, metrics: Arc<Metrics>, supervisor: Supervisor) -> Self {
        let contents = Mutex::new(Contents { max_bytes, ..Contents::default() });
        Self { contents, over: AtomicBool::new(false), metrics, supervisor }
    }

    pub(super) fn contents(&self) -> Contents {
        self.contents.lock().clone()
    }

    /// What is in it after a commit, and what trouble is left.
    pub(super) fn update(&self, counters: &Counters, measured: &Measured, trouble: Option<&'static str>) {
        let trouble = trouble.or_else(|| (measured.room == 0).then_some("the outbox is full"));
        let mut contents = self.contents.lock();
        let max_bytes = contents.max_bytes;
        // What another thread found to be the end stays so.
        let trouble = if self.is_over() { contents.trouble } else { trouble };
        *contents = Contents {
            waiting: counters.waiting,
            last_id: counters.last_id,
            oldest_stored_at: measured.oldest_stored_at,
            dead_letters: counters.dead_letters,
            keys: counters.keys,
            bytes: measured.bytes,
            max_bytes,
            trouble,
        };
        drop(contents);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.outbox_calls.set(gauge(counters.waiting));
        self.metrics.outbox_bytes.set(gauge(measured.bytes));
        self.metrics.dead_letters.set(gauge(counters.dead_letters));
    }

    /// Says why nothing more is stored at the moment.
    pub(super) fn trouble(&self, trouble: &'static str) {
        self.contents.lock().trouble = Some(trouble);
    }

    /// Whether the store failed: nothing may be written any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The end: what is on disk is unknown, or not to be read. The process drains; the next start reads what is there.
    pub(super) fn fail(&self, what: &'static str, error: &Error) {
        let error_text = without_values(error);
        tracing::error!(error = error_text, "the outbox failed: {what}; nothing more is stored until the next start");
        {
            // Under the lock, so that a commit that is being counted does not say that all is well.
            let mut contents = self.contents.lock();
            self.over.store(true, Ordering::Release);
            contents.trouble = Some(Fault::Fatal.trouble());
        }
        self.supervisor.fail("outbox", what);
    }
}
