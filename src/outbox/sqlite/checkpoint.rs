//! Copying the log (WAL) back into the database file, aside from the writer.
//!
//! A checkpoint inside a commit would make somebody wait for it: 8 to 60 ms at p99.9. So a second thread copies, with a
//! connection of its own; when nearly all is copied the writer copies the little rest between two commits, after which
//! SQLite writes the log from its beginning again. Without that last step a log that is never idle grows for ever.
//!
//! A checkpoint whose sync fails is the end of the store, as a commit's is: the next start copies the whole log again,
//! because it counts on nothing that was said about the copy. One that finds the disk full, or the log in use by a
//! reader, is tried again when the log has grown some more: the calls are safe in the log.
//!
//! The same thread is the store's clock: each second it sends the writer a [`Command::Tick`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB, Result};
use tokio::sync::mpsc;

use super::command::Command;
use super::fault::Fault;
use super::file::BUSY;
use super::shared::Shared;
use crate::supervisor::Supervisor;

/// How much it grows before a checkpoint that could not finish is tried again: 4 MiB.
const MORE_PAGES: i32 = 1024;

/// What the writer may copy between two commits: 1 MiB, as much as a group may bring.
const REST_PAGES: i32 = 256;

/// How often the log is copied in a row before the writer must take the rest, however much it is: under a load that
/// writes as fast as this copies, the writer waiting is what bounds the log.
const ROUNDS: usize = 4;

/// How often the writer looks for something to do unasked.
const TICK: Duration = Duration::from_secs(1);

/// The writer's side.
pub(super) struct Checkpoints {
    /// Wakes the other thread.
    wake: SyncSender<()>,
    /// The other thread copied nearly all: the rest is the writer's.
    copied: Arc<AtomicBool>,
    /// At how many pages in the log it is woken: first at so many.
    log_pages: i32,
    /// And next.
    wake_at: i32,
    /// Ends when the other thread has.
    other_ends: Receiver<()>,
}

impl Checkpoints {
    /// Starts the other thread.
    pub(super) fn start(
        conn: Connection,
        log_pages: i32,
        commands: mpsc::WeakSender<Command>,
        shared: &Arc<Shared>,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (ends, other_ends) = sync_channel(0);
        let copied = Arc::new(AtomicBool::new(false));
        let aside = Aside { log_pages, conn, woken, commands, shared: shared.clone(), copied: copied.clone() };
        supervisor.thread("outbox-checkpoint", move || {
            aside.run();
            drop(ends);
        })?;
        Ok(Self { wake, copied, log_pages, wake_at: log_pages, other_ends })
    }

    /// While the disk is full: copies a log that cannot grow, however short it is. Its own space can be used again then.
    pub(super) fn make_room(&mut self, conn: &Connection, shared: &Shared) {
        if !self.finish(conn, shared) {
            // If it is awake already it will look again.
            let _ = self.wake.try_send(());
        }
    }

    /// Takes the rest, if the other thread has copied nearly all.
    fn finish(&mut self, conn: &Connection, shared: &Shared) -> bool {
        let is_time = self.copied.swap(false, Ordering::AcqRel);
        if is_time {
            match take_the_rest(conn) {
                Ok(()) => self.wake_at = self.log_pages,
                Err(error) => judge(&error, shared),
            }
        }
        is_time
    }

    /// Between two commits: sees how long the log is, and takes the rest if it is time.
    pub(super) fn after_commit(&mut self, conn: &Connection, shared: &Shared) {
        if self.finish(conn, shared) {
            return;
        }
        match conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP) {
            Ok((pages, _)) if pages >= self.wake_at => {
                self.wake_at = pages.saturating_add(MORE_PAGES.min(self.log_pages / 4));
                // If it is awake already it will look again.
                let _ = self.wake.try_send(());
            }
            Ok(_) => {}
            Err(error) => judge(&error, shared),
        }
    }

    /// Waits for the other thread, and copies everything. After a failure nothing is copied: it would need the syncs that
    /// nobody can trust any more.
    pub(super) fn end(self, conn: &Connection, shared: &Shared) {
        drop(self.wake);
        // It never sends; this is how its end is noticed.
        let _ = self.other_ends.recv();
        if shared.is_over() {
            return;
        }
        if let Err(error) = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE) {
            judge(&error, shared);
        }
    }
}

/// Copies what is left, and lets the log begin anew. If somebody reads from it just now, that is for another time: every
/// caller would wait for that reader.
fn take_the_rest(conn: &Connection) -> Result<()> {
    conn.busy_timeout(Duration::ZERO)?;
    let rest = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::RESTART);
    conn.busy_timeout(BUSY)?;
    rest.map(drop)
}

/// The other thread's side.
struct Aside {
    log_pages: i32,
    conn: Connection,
    woken: Receiver<()>,
    commands: mpsc::WeakSender<Command>,
    shared: Arc<Shared>,
    copied: Arc<AtomicBool>,
}

impl Aside {
    fn run(&self) {
        let mut tick_at = Instant::now() + TICK;
        loop {
            match self.woken.recv_timeout(tick_at.saturating_duration_since(Instant::now())) {
                Ok(()) if !self.shared.is_over() => self.copy(),
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= tick_at {
                tick_at = Instant::now() + TICK;
                if let Some(commands) = self.commands.upgrade() {
                    // A full inbox needs no tick.
                    let _ = commands.try_send(Command::Tick);
                }
            }
        }
    }

    /// Copies the log until little is left of it.
    fn copy(&self) {
        for _ in 0..ROUNDS {
            match self.round() {
                Ok(rest) if rest <= REST_PAGES.min(self.log_pages / 4) => break,
                Ok(_) => {}
                Err(error) => return judge(&error, &self.shared),
            }
        }
        self.copied.store(true, Ordering::Release);
    }

    /// Copies what is in the log now; how many pages came to it meanwhile.
    fn round(&self) -> Result<i32> {
        let (_, copied) = self.conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE)?;
        let (pages, _) = self.conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP)?;
        Ok(pages - copied)
    }
}

/// A full disk or a busy log is for another time; everything else is the end.
fn judge(error: &rusqlite::Error, shared: &Shared) {
    if Fault::of(error) == Fault::Fatal && !shared.is_over() {
        shared.fail("could not copy its log", error);
    }
}
