//! Checkpoints: copying the write-ahead log (WAL) back into the database file, on a thread beside the writer.
//!
//! A checkpoint inside a commit makes callers wait: 8 to 60 ms at p99.9. So a second thread copies, with a connection
//! of its own. When nearly all is copied, the writer copies the rest between two commits, after which SQLite writes the
//! WAL from its start again. Without that last step a WAL that is never idle grows for ever.
//!
//! A checkpoint whose sync fails ends the store, as a commit's does: the next start copies the whole WAL again, because
//! it does not rely on the failed copy. A checkpoint that finds the disk full, or the WAL in use by a reader, is tried
//! again when the WAL has grown some more: the calls are safe in the WAL.
//!
//! The same thread is the store's clock: once a second it sends the writer a [`WriterCommand::Tick`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB, Result};
use tokio::sync::mpsc;

use super::command::WriterCommand;
use super::file::BUSY_TIMEOUT;
use super::state::{StoreFault, StoreState};
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
    /// The checkpointer has copied nearly all: the writer copies the rest.
    is_copied: Arc<AtomicBool>,
    /// WAL pages that start the first checkpoint.
    wal_pages: i32,
    /// WAL pages that start the next one.
    wake_at: i32,
    /// Disconnects when the checkpointer ends.
    ended: Receiver<()>,
}

impl CheckpointHandle {
    /// Starts the checkpointer's thread.
    pub(super) fn start(
        conn: Connection,
        wal_pages: i32,
        commands: mpsc::WeakSender<WriterCommand>,
        state: &Arc<StoreState>,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (ends, ended) = sync_channel(0);
        let is_copied = Arc::new(AtomicBool::new(false));
        let checkpointer =
            Checkpointer { wal_pages, conn, woken, commands, state: state.clone(), is_copied: is_copied.clone() };
        supervisor.thread("outbox-checkpoint", move || {
            checkpointer.run();
            drop(ends);
        })?;
        Ok(Self { wake, is_copied, wal_pages, wake_at: wal_pages, ended })
    }

    /// Starts a checkpoint of a WAL of any length. On a full disk the WAL cannot grow, and the space of a copied WAL
    /// can be used again.
    pub(super) fn checkpoint_now(&mut self, conn: &Connection, state: &StoreState) {
        if !self.restart_if_copied(conn, state) {
            self.wake();
        }
    }

    /// Call between two commits: copies the rest if the checkpointer has copied nearly all, or wakes it if the WAL is
    /// long.
    pub(super) fn after_commit(&mut self, conn: &Connection, state: &StoreState) {
        if self.restart_if_copied(conn, state) {
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

    fn restart_if_copied(&mut self, conn: &Connection, state: &StoreState) -> bool {
        let is_copied = self.is_copied.swap(false, Ordering::AcqRel);
        if is_copied {
            match checkpoint_restart(conn) {
                Ok(pages) => {
                    self.wake_at = self.wal_pages;
                    tracing::debug!(pages, "the write-ahead log was restarted");
                }
                Err(error) => checkpoint_failed(&error, state),
            }
        }
        is_copied
    }

    fn wake(&self) {
        // A full channel means that the checkpointer is about to look anyway.
        let _ = self.wake.try_send(());
    }

    /// Waits for the checkpointer's end, and copies the whole WAL. After a failure nothing is copied: it would rely on
    /// syncs that cannot be trusted any more.
    pub(super) fn close(self, conn: &Connection, state: &StoreState) {
        drop(self.wake);
        // Nothing is ever sent: this returns when the checkpointer ends.
        let _ = self.ended.recv();
        if !state.has_failed()
            && let Err(error) = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE)
        {
            checkpoint_failed(&error, state);
        }
    }
}

/// Copies the rest of the WAL, and lets SQLite write it from its start again. Returns the WAL's pages. Does not wait
/// for readers of the WAL, because every caller would wait too: the next checkpoint tries again.
fn checkpoint_restart(conn: &Connection) -> Result<i32> {
    conn.busy_timeout(Duration::ZERO)?;
    let restarted = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::RESTART);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    restarted.map(|(pages, _)| pages)
}

/// The thread beside the writer.
struct Checkpointer {
    wal_pages: i32,
    conn: Connection,
    woken: Receiver<()>,
    commands: mpsc::WeakSender<WriterCommand>,
    state: Arc<StoreState>,
    is_copied: Arc<AtomicBool>,
}

impl Checkpointer {
    fn run(&self) {
        let mut tick_at = Instant::now() + TICK_INTERVAL;
        loop {
            match self.woken.recv_timeout(tick_at.saturating_duration_since(Instant::now())) {
                Ok(()) if !self.state.has_failed() => self.checkpoint(),
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= tick_at {
                tick_at = Instant::now() + TICK_INTERVAL;
                if let Some(commands) = self.commands.upgrade() {
                    // A full queue needs no tick.
                    let _ = commands.try_send(WriterCommand::Tick);
                }
            }
        }
    }

    /// Copies the WAL until little is left of it.
    fn checkpoint(&self) {
        for _ in 0..MAX_ROUNDS {
            match self.checkpoint_passive() {
                Ok(rest) if rest <= RESTART_PAGES.min(self.wal_pages / 4) => break,
                Ok(_) => {}
                Err(error) => return checkpoint_failed(&error, &self.state),
            }
        }
        self.is_copied.store(true, Ordering::Release);
    }

    /// Copies what is in the WAL now. Returns the number of pages that were added meanwhile.
    fn checkpoint_passive(&self) -> Result<i32> {
        let started = Instant::now();
        let (_, copied) = self.conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE)?;
        let (pages, _) = self.conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP)?;
        let rest = pages - copied;
        tracing::debug!(copied, rest, took = ?started.elapsed(), "the write-ahead log was checkpointed");
        Ok(rest)
    }
}

/// A full disk or a busy WAL is tried again later. Any other error ends the store.
fn checkpoint_failed(error: &rusqlite::Error, state: &StoreState) {
    if StoreFault::from_error(error) == StoreFault::Fatal && !state.has_failed() {
        state.fail("could not copy its log", error);
    }
}
