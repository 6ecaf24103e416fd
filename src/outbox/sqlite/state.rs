//! State that the store's threads share: the statistics, the metrics, and whether a fault has ended the store.
//!
//! The store survives two kinds of SQLite's errors, because SQLite rolls back and no commit was written: a full disk (a
//! short write of the write-ahead log, so its last frame, which is the commit, is missing) and a database that another
//! program has locked. The shared memory is a file too: SQLite reports a full disk there as an error of its own, after the
//! call was synced. Any other error ends the store: after a failed sync the content of the disk is unknown, and a
//! second sync may report success for data that was lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Error, ErrorCode, ffi};

use super::sources::Sources;
use crate::metrics::Metrics;
use crate::outbox::limits::room;
use crate::outbox::parked_log::{ParkedChange, ParkedLog};
use crate::outbox::{OutboxStats, SourceStats};
use crate::supervisor::Supervisor;

pub(super) struct StoreState {
    stats: Mutex<OutboxStats>,
    has_failed: AtomicBool,
    is_unreadable: AtomicBool,
    parked_log: Mutex<ParkedLog>,
    /// As of the last commit.
    sources: Mutex<Sources>,
    /// New windows of the sources' keys, until the writer has taken them.
    key_windows: Mutex<Option<BTreeMap<Arc<str>, Duration>>>,
    pub(super) metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl StoreState {
    pub(super) fn new(metrics: Arc<Metrics>, supervisor: Supervisor) -> Self {
        Self {
            stats: Mutex::default(),
            has_failed: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            parked_log: Mutex::default(),
            sources: Mutex::default(),
            key_windows: Mutex::default(),
            metrics,
            supervisor,
        }
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
        self.metrics.parked_users.set(gauge(stats.parked_users));
        self.metrics.parked_calls.set(gauge(stats.parked_calls));
        self.log_parked(stats.parked_users);
    }

    pub(super) fn publish_sources(&self, sources: &Sources) {
        self.sources.lock().clone_from(sources);
    }

    pub(super) fn source_stats(&self) -> Vec<SourceStats> {
        let stats = self.stats();
        self.sources.lock().stats(&stats)
    }

    pub(super) fn set_key_windows(&self, windows: BTreeMap<Arc<str>, Duration>) {
        *self.key_windows.lock() = Some(windows);
    }

    pub(super) fn take_key_windows(&self) -> Option<BTreeMap<Arc<str>, Duration>> {
        self.key_windows.lock().take()
    }

    fn log_parked(&self, users: u64) {
        let total = self.metrics.users_parked.get();
        match self.parked_log.lock().change(users, total, Instant::now()) {
            None => {}
            Some(ParkedChange::Parked { count }) => {
                tracing::warn!(count, users, "users are parked: their calls fail while others are accepted");
            }
            Some(ParkedChange::NobodyParked) => tracing::info!("no user is parked any more"),
        }
    }

    /// Whether the store has failed: nothing may be written any more.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Whether a file was cut: what is read from it may be wrong, and must not be copied.
    pub(super) fn is_unreadable(&self) -> bool {
        self.is_unreadable.load(Ordering::Acquire)
    }

    pub(super) fn set_unreadable(&self) {
        self.is_unreadable.store(true, Ordering::Release);
    }

    /// Ends the process, which finishes what is in requests first.
    pub(super) fn end(&self, why: &'static str) {
        self.supervisor.fail("outbox", why);
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
            Some(_) if is_shared_memory_full(error) => Self::DiskFull,
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

/// Whether there was no space for SQLite's shared memory. A commit that ends so may be found by the next start.
pub(super) fn is_shared_memory_full(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
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

#[cfg(test)]
mod tests {
    use rusqlite::{Error, ffi};

    use super::{StoreFault, is_shared_memory_full};

    #[test]
    fn a_disk_without_space_for_the_shared_memory_is_full() {
        let error = |code| Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(StoreFault::from_error(&error(ffi::SQLITE_IOERR_SHMSIZE)), StoreFault::DiskFull);
        assert_eq!(StoreFault::from_error(&error(ffi::SQLITE_FULL)), StoreFault::DiskFull);
        assert_eq!(StoreFault::from_error(&error(ffi::SQLITE_IOERR_WRITE)), StoreFault::Fatal);
        assert!(is_shared_memory_full(&error(ffi::SQLITE_IOERR_SHMSIZE)));
        assert!(!is_shared_memory_full(&error(ffi::SQLITE_FULL)));
    }
}
