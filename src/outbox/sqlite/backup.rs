//! Backups: the writer copies its file with SQLite's backup interface, in steps between its commits.
//!
//! SQLite keeps such a copy up to date with what its own connection writes. A write on another connection would make it
//! start over. So the copy is made on the writer's connection, and ends under any load.
//!
//! The copy is a private file beside the outbox. Its name is deleted as soon as it is open, so its space is free again
//! when it is closed, however the process ends. The next start deletes a name that a kill left in between.
//!
//! The copy needs no write-ahead log. It gives up before it takes the space that the relay itself needs.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Result};

use super::command::{BackupJob, Reply};
use super::file::free_disk_bytes;
use super::header::{VERSIONS_OFFSET, WITHOUT_WAL};
use super::state::without_values;
use super::writer::Writer;
use crate::outbox::{BackupError, OutboxError, StoreCopy};

/// How long the callers of the next commit may wait for a step. With the commit's own time this is within what they wait
/// under load.
const STEP_TIME: Duration = Duration::from_millis(4);

/// Pages that are copied before the time is looked at: 128 KiB, a fraction of a millisecond from memory.
const STEP_PAGES: i32 = 32;

/// Bytes that stay free beside the copy: twice the length to which the write-ahead log usually grows.
const KEPT_FREE: u64 = 32 * 1024 * 1024;

/// The name of a copy while it is opened.
pub(super) fn path_beside(outbox: &Path) -> PathBuf {
    outbox.with_added_extension("backup-in-progress")
}

/// Deletes what a kill left. A link is deleted itself.
pub(super) fn remove_leftover(path: &Path) {
    // If it cannot be deleted, the next backup cannot create its file, and says so.
    let _ = fs::remove_file(path);
}

impl Writer {
    /// Replies with the copy, or why there is none.
    pub(super) fn back_up(
        &mut self,
        BackupJob { path, permit }: BackupJob,
        reply: Reply<std::result::Result<StoreCopy, BackupError>>,
    ) {
        let started = Instant::now();
        let copied = self.copy(&path, || reply.is_abandoned());
        match &copied {
            Ok((_, bytes)) => tracing::info!(bytes, took = ?started.elapsed(), "the outbox was copied for a backup"),
            Err(error) => tracing::warn!(%error, "the backup failed"),
        }
        reply.answer(Ok(copied.map(|(file, bytes)| StoreCopy { file, bytes, permit })));
    }

    /// Copies the file, and executes the groups that arrive meanwhile.
    fn copy(&mut self, path: &Path, is_abandoned: impl Fn() -> bool) -> std::result::Result<(File, u64), BackupError> {
        let conn = Rc::clone(&self.conn);
        let size = || Ok::<_, Error>(pragma(&conn, "page_count")?.saturating_mul(pragma(&conn, "page_size")?));
        require_space(path, size().map_err(failed)?.saturating_add(KEPT_FREE))?;
        let (file, mut copy) = create(path)?;
        let backup = Backup::new(&conn, &mut copy).map_err(failed)?;
        while !step(&backup)? {
            if let Some(group) = self.queue.group_that_waits() {
                self.run_group(group);
            }
            if self.state.has_failed() || self.queue.commands.is_closed() {
                return Err(OutboxError::Closed.into());
            }
            if self.fault.is_some() || is_abandoned() {
                return Err(BackupError::Failed);
            }
            require_space(path, KEPT_FREE / 2)?;
        }
        drop(backup);
        copy.close().map_err(|(_, error)| failed(error))?;
        let finish = || {
            file.write_all_at(&WITHOUT_WAL, VERSIONS_OFFSET)?;
            Ok(file.metadata()?.len())
        };
        let bytes = finish().map_err(cannot_write)?;
        Ok((file, bytes))
    }
}

/// Copies for the time of a step. True if all is copied.
fn step(backup: &Backup<'_, '_>) -> std::result::Result<bool, BackupError> {
    let until = Instant::now() + STEP_TIME;
    loop {
        match backup.step(STEP_PAGES).map_err(failed)? {
            StepResult::Done => return Ok(true),
            StepResult::More if Instant::now() >= until => return Ok(false),
            StepResult::More => {}
            // Another program holds a lock.
            _ => return Err(OutboxError::Busy.into()),
        }
    }
}

/// Creates the private file, opens it, and deletes its name.
fn create(path: &Path) -> std::result::Result<(File, Connection), BackupError> {
    remove_leftover(path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(cannot_write)?;
    let copy = open(path);
    fs::remove_file(path).map_err(cannot_write)?;
    Ok((file, copy.map_err(failed)?))
}

/// A file that is thrown away when anything fails needs no journal and no sync.
fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let copy = Connection::open_with_flags(path, flags)?;
    copy.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    Ok(copy)
}

fn pragma(conn: &Connection, name: &str) -> Result<u64> {
    conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// An error if the disk has fewer free bytes. A disk that does not say how many it has is tried.
fn require_space(path: &Path, needed: u64) -> std::result::Result<(), BackupError> {
    let free = free_disk_bytes(path).unwrap_or(u64::MAX);
    if free < needed { Err(BackupError::NoSpace { needed, free }) } else { Ok(()) }
}

fn cannot_write(error: std::io::Error) -> BackupError {
    tracing::warn!(%error, "a backup's file cannot be written");
    BackupError::Failed
}

fn failed(error: Error) -> BackupError {
    let is_full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    let why = if is_full { "the disk is full".to_owned() } else { without_values(&error) };
    tracing::warn!(error = why, "a backup's file cannot be written");
    BackupError::Failed
}
