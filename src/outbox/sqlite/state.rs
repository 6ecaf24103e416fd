//! State that the store's threads share: the statistics, the metrics, and whether a fault has ended the store.
//!
//! The store survives two kinds of SQLite's errors, because SQLite rolls back and no commit was written: a full disk (a
//! short write of the write-ahead log, so its last frame, which is the commit, is missing) and a database that another
//! program has locked. Any other error ends the store: after a failed sync the content of the disk is unknown, and a
//! second sync may report success for data that was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Error, ErrorCode};

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

    /// Publishes the statistics after the last commit, and why calls cannot be stored at the moment.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreFault {
    /// The disk is full. Nothing was changed.
    DiskFull,
    /// Another program, such as a shell, holds a lock. Nothing was changed.
    Locked,
    /// The content of the disk is unknown.
    Fatal,
    /// The store ended earlier. Nothing was changed.
    Closed,
}

impl StoreFault {
    pub(super) fn from_error(error: &Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseBusy) => Self::Locked,
            _ => Self::Fatal,
        }
    }

    /// The reason that `/readyz` shows.
    pub(super) fn trouble(self) -> &'static str {
        match self {
            Self::DiskFull => "the disk is full",
            Self::Locked => "another program holds a lock on the outbox",
            Self::Fatal | Self::Closed => "the outbox failed",
        }
    }
}

/// Whether the error means that the file is damaged.
pub(super) fn is_corruption(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// An error's text for the log: its code and SQLite's sentence for the code, never a value of the statement.
pub(super) fn without_values(error: &Error) -> String {
    match error {
        Error::SqliteFailure(failure, _) => format!("{failure} ({})", failure.extended_code),
        Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) => {
            "a row does not have the expected types".to_owned()
        }
        Error::QueryReturnedNoRows => "a row that must be there is missing".to_owned(),
        _ => "the statement could not be run".to_owned(),
    }
}
