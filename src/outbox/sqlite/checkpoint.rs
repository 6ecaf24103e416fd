//! Checkpoints: copying the write-ahead log (WAL) back into the database file, on a thread beside the writer.
//!
//! A checkpoint inside a commit makes callers wait: 8 to 60 ms at p99.9. So a second thread copies, with a connection
//! of its own. When nearly all is copied, the writer copies the rest between two commits, after which SQLite writes the
//! WAL from its start again. Without that last step a WAL that is never idle grows for ever.
//!
//! A reader of the file keeps the WAL from being written from its start, and what was written after the reader began from
//! being copied. While one does, the checkpoint is tried once a second, and what the WAL takes beyond its usual length
//! counts against the outbox's limit. Before a copy the disk's space for it is allocated: a full disk must not keep a
//! long WAL from being copied, because nothing else would make room again.
//!
//! A checkpoint whose sync fails ends the store, as a commit's does: the next start writes the whole WAL again, because
//! it does not rely on the failed sync. A checkpoint that finds the disk full, or the WAL in use by a reader, is tried
//! again when the WAL has grown some more: the calls are safe in the WAL.
//!
//! The same thread is the store's clock: once a second it sends the writer a [`WriterCommand::Tick`], or leaves word of it
//! if the queue is full.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, MAIN_DB, Result};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::command::WriterCommand;
use super::file::{BUSY_TIMEOUT, PAGE_SIZE, allocate, write_again};
use super::state::{StoreFault, StoreState};
use super::watch::FileWatch;
use crate::supervisor::Supervisor;

/// Pages that the WAL grows before an unfinished checkpoint is tried again: 4 MiB. Fewer would sync the file more
/// often, more would let the WAL grow further.
const RETRY_PAGES: i32 = 1024;

/// Pages that the writer may copy between two commits: 1 MiB, as much as a group may bring.
const RESTART_PAGES: i32 = 256;

/// Passive checkpoints in a row before the writer must copy the rest, however much it is. Under a load that writes as
/// fast as this thread copies, the waiting writer is what bounds the WAL.
const MAX_ROUNDS: usize = 4;

/// Interval of the ticks.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// The writer's side: wakes the [`Checkpointer`] and finishes its work.
pub(super) struct CheckpointHandle {
    wake: SyncSender<()>,
    flags: Arc<Flags>,
    /// A long WAL was logged.
    is_logged: bool,
    /// WAL pages that start the first checkpoint.
    wal_pages: i32,
    /// WAL pages that start the next one.
    wake_at: i32,
    /// Disconnects when the checkpointer ends.
    ended: Receiver<()>,
}

/// What the two threads tell each other.
#[derive(Default)]
struct Flags {
    /// The checkpointer has copied nearly all: the writer copies the rest.
    is_copied: AtomicBool,
    /// A reader kept the last checkpoint from its end.
    is_hindered: AtomicBool,
    /// The disk has no space for the copy.
    has_no_space: AtomicBool,
    /// A tick did not fit into the queue.
    missed_tick: AtomicBool,
}

impl CheckpointHandle {
    /// Starts the checkpointer's thread.
    pub(super) fn start(
        conn: Connection,
        file: Arc<File>,
        wal_pages: i32,
        commands: mpsc::WeakSender<WriterCommand>,
        state: &Arc<StoreState>,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (ends, ended) = sync_channel(0);
        let flags = Arc::new(Flags::default());
        let checkpointer =
            Checkpointer { wal_pages, conn, file, woken, commands, state: state.clone(), flags: flags.clone() };
        supervisor.thread("outbox-checkpoint", move || {
            checkpointer.run();
            // Its connection is closed, and nothing of it keeps the file locked, when the writer hears of the end.
            drop(checkpointer);
            drop(ends);
        })?;
        Ok(Self { wake, flags, is_logged: false, wal_pages, wake_at: wal_pages, ended })
    }

    /// Whether the clock could not send a tick since the last call.
    pub(super) fn missed_tick(&self) -> bool {
        self.flags.missed_tick.load(Ordering::Relaxed) && self.flags.missed_tick.swap(false, Ordering::Relaxed)
    }

    /// Whether the disk has no space for what must be copied.
    pub(super) fn has_no_space(&self) -> bool {
        self.flags.has_no_space.load(Ordering::Acquire)
    }

    /// Bytes of a WAL of this length that count against the outbox's limit.
    pub(super) fn counted_bytes(&self, wal_bytes: u64) -> u64 {
        if self.is_hindered() { wal_bytes.saturating_sub(self.usual_bytes()) } else { 0 }
    }

    /// Whether the WAL is so long that its space should be given back.
    pub(super) fn is_long(&self, wal_bytes: u64) -> bool {
        wal_bytes > 2 * self.usual_bytes()
    }

    fn is_hindered(&self) -> bool {
        self.flags.is_hindered.load(Ordering::Acquire)
    }

    /// Length of the WAL that starts a checkpoint.
    fn usual_bytes(&self) -> u64 {
        u64::from(self.wal_pages.unsigned_abs()) * PAGE_SIZE.unsigned_abs()
    }

    /// Call once a second: tries again what a reader or a full disk hinders, and logs a long WAL once. On a full disk
    /// the WAL cannot grow, and the space of a copied WAL can be used again.
    pub(super) fn tick(&mut self, conn: &Connection, state: &StoreState, watch: &FileWatch, is_disk_full: bool) {
        let is_hindered = self.is_hindered();
        if (is_hindered || is_disk_full) && !self.restart_if_copied(conn, state, true) {
            self.wake();
        }
        let log_bytes = watch.wal_bytes();
        if is_hindered && !self.is_logged && self.is_long(log_bytes) {
            self.log_reader(watch);
        } else if !is_hindered && self.is_logged && !self.is_long(log_bytes) {
            self.is_logged = false;
            tracing::info!(log_bytes, "the reader has gone; the write-ahead log of the outbox is emptied again");
        }
    }

    /// Call if a reader kept the log from being copied at the start. The ticks try again.
    pub(super) fn start_hindered(&mut self, watch: &FileWatch) {
        self.flags.is_hindered.store(true, Ordering::Release);
        self.log_reader(watch);
    }

    fn log_reader(&mut self, watch: &FileWatch) {
        self.is_logged = true;
        tracing::warn!(
            pid = watch.reader(),
            log_bytes = watch.wal_bytes(),
            "a reader keeps the write-ahead log of the outbox from being emptied; the log grows until it ends"
        );
    }

    /// Call between two commits: copies the rest if the checkpointer has copied nearly all, or wakes it if the WAL is
    /// long. `truncates` gives the disk space of the WAL back.
    pub(super) fn after_commit(&mut self, conn: &Connection, state: &StoreState, truncates: bool) {
        if self.restart_if_copied(conn, state, truncates) {
            return;
        }
        match conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP) {
            Ok((pages, _)) if pages >= self.wake_at => {
                self.wake_at = pages.saturating_add(RETRY_PAGES.min(self.wal_pages / 4));
                self.wake();
            }
            Ok(_) => {}
            Err(error) => checkpoint_failed(&error, state),
        }
    }

    /// Copies the whole WAL, and cuts it to nothing; false if a reader or the other thread is in the way now, or the file is lost.
    pub(super) fn empty(&self, conn: &Connection, state: &StoreState) -> bool {
        !state.is_unreadable()
            && checkpoint_restart(conn, true).inspect_err(|error| checkpoint_failed(error, state)).is_ok()
    }

    fn restart_if_copied(&mut self, conn: &Connection, state: &StoreState, truncates: bool) -> bool {
        let is_copied = self.flags.is_copied.swap(false, Ordering::AcqRel);
        if is_copied {
            match checkpoint_restart(conn, truncates) {
                Ok(pages) => {
                    self.wake_at = self.wal_pages;
                    self.flags.is_hindered.store(false, Ordering::Release);
                    tracing::debug!(pages, truncates, "the write-ahead log was restarted");
                }
                Err(error) => {
                    let is_busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
                    self.flags.is_hindered.store(is_busy, Ordering::Release);
                    checkpoint_failed(&error, state);
                }
            }
        }
        is_copied
    }

    fn wake(&self) {
        // A full channel means that the checkpointer is about to look anyway.
        let _ = self.wake.try_send(());
    }

    /// Waits for the checkpointer's end, and copies the whole WAL; false if that failed. After a failure nothing is
    /// copied: it would rely on syncs that cannot be trusted any more.
    pub(super) fn close(self, conn: &Connection, state: &StoreState) -> bool {
        drop(self.wake);
        // Nothing is ever sent: this returns when the checkpointer ends.
        let _ = self.ended.recv();
        if state.has_failed() || state.is_unreadable() {
            return false;
        }
        let copied = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE);
        if let Err(error) = &copied {
            checkpoint_failed(error, state);
        }
        copied.is_ok() || is_copied(conn)
    }
}

/// Copies the rest of the WAL, and lets SQLite write it from its start again. Returns the WAL's pages. Does not wait
/// for readers of the WAL, because every caller would wait too: the next checkpoint tries again.
fn checkpoint_restart(conn: &Connection, truncates: bool) -> Result<i32> {
    let mode = if truncates { CheckpointMode::TRUNCATE } else { CheckpointMode::RESTART };
    checkpoint_within(conn, mode, Duration::ZERO).map(|(pages, _)| pages)
}

/// Copies the whole WAL, and waits so long for readers; false if that failed.
pub(super) fn copy_whole(conn: &Connection, wait: Duration) -> bool {
    checkpoint_within(conn, CheckpointMode::FULL, wait).is_ok() || is_copied(conn)
}

fn checkpoint_within(conn: &Connection, mode: CheckpointMode, wait: Duration) -> Result<(i32, i32)> {
    conn.busy_timeout(wait)?;
    let done = conn.wal_checkpoint_v2(Some(MAIN_DB), mode);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    done
}

/// Whether the whole WAL is in the file, and synced: SQLite counts a page as copied after the sync.
fn is_copied(conn: &Connection) -> bool {
    conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP).is_ok_and(|(pages, copied)| pages == copied)
}

/// The thread beside the writer.
struct Checkpointer {
    wal_pages: i32,
    conn: Connection,
    file: Arc<File>,
    woken: Receiver<()>,
    commands: mpsc::WeakSender<WriterCommand>,
    state: Arc<StoreState>,
    flags: Arc<Flags>,
}

impl Checkpointer {
    fn run(&self) {
        let mut tick_at = Instant::now() + TICK_INTERVAL;
        loop {
            match self.woken.recv_timeout(tick_at.saturating_duration_since(Instant::now())) {
                Ok(()) if !self.state.has_failed() && !self.state.is_unreadable() => self.checkpoint(),
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= tick_at {
                tick_at = Instant::now() + TICK_INTERVAL;
                self.tick();
            }
        }
    }

    fn tick(&self) {
        // A full queue keeps the writer awake, so it finds the flag.
        if let Some(commands) = self.commands.upgrade()
            && let Err(TrySendError::Full(_)) = commands.try_send(WriterCommand::Tick)
        {
            self.flags.missed_tick.store(true, Ordering::Relaxed);
        }
    }

    /// Copies the WAL until little is left of it.
    fn checkpoint(&self) {
        for _ in 0..MAX_ROUNDS {
            match self.checkpoint_passive() {
                // The writer would have to copy what is left when the reader has gone.
                Ok(PassiveCheckpoint { is_hindered: true, .. }) => {
                    return self.flags.is_hindered.store(true, Ordering::Release);
                }
                Ok(PassiveCheckpoint { rest, .. }) if rest <= RESTART_PAGES.min(self.wal_pages / 4) => break,
                Ok(_) => {}
                Err(error) => return checkpoint_failed(&error, &self.state),
            }
        }
        self.flags.is_copied.store(true, Ordering::Release);
    }

    /// Copies what is in the WAL now.
    fn checkpoint_passive(&self) -> Result<PassiveCheckpoint> {
        let started = Instant::now();
        let pages = self.conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
        self.flags.has_no_space.store(!allocate(&self.file, pages), Ordering::Release);
        let (before, copied) = self.conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE)?;
        let (pages, _) = self.conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP)?;
        let rest = pages - copied;
        tracing::debug!(copied, rest, took = ?started.elapsed(), "the write-ahead log was checkpointed");
        Ok(PassiveCheckpoint { rest, is_hindered: copied < before })
    }
}

struct PassiveCheckpoint {
    /// Pages that are not copied.
    rest: i32,
    /// Some of them were in the WAL before, and a reader kept them from being copied.
    is_hindered: bool,
}

/// What became of the log of an earlier process.
#[derive(PartialEq, Eq)]
pub(super) enum StartCopy {
    Copied,
    /// A reader keeps it from being copied.
    Hindered,
}

/// Makes the log of an earlier process durable, and copies it into the file.
///
/// The log may rest on a sync that failed in that process: then the system has its content in memory, and not on the
/// disk. A second sync alone succeeds and writes nothing. So the log is written once more, in its place and with the same
/// bytes, before it is synced. After that it does not matter whether a reader keeps it from being copied.
pub(super) fn copy_at_start(conn: &Connection, log: &Path) -> anyhow::Result<StartCopy> {
    // No other program may append to the log, or begin it anew, meanwhile.
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let written = write_again(log);
    conn.execute_batch("ROLLBACK")?;
    written?;
    match conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE) {
        Ok(_) => Ok(StartCopy::Copied),
        Err(error) if StoreFault::from_error(&error) == StoreFault::Locked => Ok(StartCopy::Hindered),
        Err(error) => Err(error.into()),
    }
}

/// Whether [`copy_at_start`] failed because the disk is full.
pub(super) fn is_disk_full(error: &anyhow::Error) -> bool {
    let is_full = |error: &io::Error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    error.downcast_ref().is_some_and(is_full)
        || error.downcast_ref().is_some_and(|error| StoreFault::from_error(error) == StoreFault::DiskFull)
}

/// A full disk or a busy WAL is tried again later. Any other error ends the store.
fn checkpoint_failed(error: &rusqlite::Error, state: &StoreState) {
    if StoreFault::from_error(error) == StoreFault::Fatal && !state.has_failed() {
        state.fail("could not copy its log", error);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tokio::sync::mpsc;

    use super::CheckpointHandle;
    use crate::metrics::Metrics;
    use crate::outbox::sqlite::command::WriterCommand;
    use crate::outbox::sqlite::file::DatabaseFile;
    use crate::outbox::sqlite::state::StoreState;
    use crate::supervisor::Supervisor;

    #[test]
    fn a_tick_that_finds_the_queue_full_is_not_lost() {
        let directory = tempfile::tempdir().unwrap();
        let database = DatabaseFile::new(&directory.path().join("outbox.db"));
        let lock = database.create_and_lock().unwrap();
        let (conn, supervisor) = (database.open_writer().unwrap(), Supervisor::new());
        database.enable_wal(&conn).unwrap();
        let state = Arc::new(StoreState::new(Metrics::new().unwrap().into(), supervisor.clone()));
        let (commands, mut received) = mpsc::channel(1);
        commands.try_send(WriterCommand::Close).unwrap();
        let beside = database.open_writer().unwrap();
        let handle =
            CheckpointHandle::start(beside, lock.file.clone(), 8, commands.downgrade(), &state, &supervisor).unwrap();
        let started = Instant::now();
        while !handle.missed_tick() {
            assert!(started.elapsed() < Duration::from_secs(60), "the tick is lost");
            std::thread::yield_now();
        }
        // With room in the queue ticks go through it again.
        assert!(matches!(received.blocking_recv(), Some(WriterCommand::Close)));
        while !matches!(received.blocking_recv(), Some(WriterCommand::Tick)) {}
        handle.close(&conn, &state);
    }
}
