//! The files: made where they are missing, locked against a second process, opened as what they must be.
//!
//! Invariants: what is created can be read by its owner alone, and its entry in the directory is synced; a file that is
//! not ours is never written. Nothing is repaired: whoever finds damage says so and leaves everything as it is.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

/// How long a lock of another program, such as a shell that looks at the file, is waited for. Callers wait meanwhile.
pub(super) const BUSY: Duration = Duration::from_secs(1);

/// How every SQLite file begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Pages of 4 KiB, SQLite's own default. With 16 a call without a key takes 6 % less CPU and twice the writing (`cargo
/// bench`); one with a key, which stands on a page of its own, four times the writing.
const PAGE_SIZE: i64 = 4 * 1024;

/// What the writer keeps of the file in memory, in pages, 8 MiB: the inner pages of the keys, of which every stored call
/// asks for another place, for some tens of millions of keys. The rest is in the system's own cache.
const WRITER_CACHE_PAGES: i64 = 2048;

/// The same for a connection that reads: 2 MiB, SQLite's own default.
const READER_CACHE_PAGES: i64 = 512;

/// At how many pages the log is copied: 16 MiB. SQLite's own bound is 4 MiB; a log of 16 collects more changes of the same
/// page before it is copied once, and is read back in a fraction of a second at the start.
const LOG_PAGES: i32 = 4096;

/// To what the log is cut when it begins anew after it grew beyond, in bytes: four times what it usually has.
const LOG_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// Where the database is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// SQLite's way to the files. Tests have their own, which fails when it is told to.
    pub(super) vfs: Option<&'static str>,
    /// At how many pages the log is copied into the file. Tests have few.
    pub(super) log_pages: i32,
}

impl Place {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), vfs: None, log_pages: LOG_PAGES }
    }

    /// The directory and the file are there, and nobody else uses them while what is returned is held.
    pub(super) fn prepare(&self) -> anyhow::Result<File> {
        let directory = self.directory();
        make_directory(directory)?;
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = private().create_new(true).open(&self.path).context("cannot create the file")?;
                file.sync_all()?;
                file
            }
            Err(error) => return Err(error).context("cannot open the file"),
        };
        self.check_header(&file)?;
        let lock = self.lock(file)?;
        sync_directory(directory)?;
        Ok(lock)
    }

    /// A path without a directory is in the current one.
    fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Locks the file itself, whatever name led to it. SQLite's own locks are of another kind, which on Linux do not see
    /// this one; elsewhere they do, and a file beside it is locked.
    fn lock(&self, file: File) -> anyhow::Result<File> {
        let lock = if cfg!(target_os = "linux") {
            file
        } else {
            let mut beside = self.path.canonicalize()?.into_os_string();
            beside.push(".lock");
            private().create(true).truncate(false).open(&beside).context("cannot create the lock file beside it")?
        };
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => bail!("another process uses this outbox; only one may"),
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the file"),
        }
    }

    fn check_header(&self, mut file: &File) -> anyhow::Result<()> {
        ensure!(file.metadata()?.is_file(), "it is not a file; name a file in that place");
        let mut head = [0; MAGIC.len()];
        match file.read_exact(&mut head) {
            Ok(()) => ensure!(head == *MAGIC, "the file is not an SQLite database; move it away, or name another file"),
            // An empty file is what a process leaves that died while it made one.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && file.metadata()?.len() == 0 => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bail!("the file is damaged: it ends within its header; restore it from a backup, or move it away")
            }
            Err(error) => return Err(error).context("cannot read the file"),
        }
        Ok(())
    }

    /// A connection that writes, as durable as it gets, which leaves checkpoints to whoever asks for them. It changes
    /// nothing in the file yet.
    pub(super) fn writing(&self) -> anyhow::Result<Connection> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // SQLite opens what it may not write for reading, without a word.
        ensure!(!conn.is_readonly(MAIN_DB)?, "the file may not be written by this user");
        conn.pragma_update(None, "synchronous", "FULL")?;
        // Where fsync does not reach the disk (macOS) this does; elsewhere it changes nothing.
        conn.pragma_update(None, "fullfsync", true)?;
        conn.pragma_update(None, "checkpoint_fullfsync", true)?;
        conn.pragma_update(None, "wal_autocheckpoint", 0)?;
        conn.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        conn.pragma_update(None, "cache_size", WRITER_CACHE_PAGES)?;
        let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        // 2 is FULL.
        ensure!(synchronous == 2, "this SQLite does not sync each commit; the relay cannot promise anything on it");
        Ok(conn)
    }

    /// Sets what is kept in the file itself: the page size of a new one, and the log beside it.
    pub(super) fn set_log(&self, conn: &Connection) -> anyhow::Result<()> {
        conn.pragma_update(None, "page_size", PAGE_SIZE)?;
        let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        ensure!(mode == "wal", "SQLite cannot keep a write-ahead log there (journal mode {mode}); use a local disk");
        Ok(())
    }

    /// Whether the file itself says that it has a log. SQLite does not tell of every sync that fails while it makes one,
    /// and without the log a commit is not what it is taken for.
    pub(super) fn check_log(&self, conn: &Connection) -> anyhow::Result<()> {
        let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        ensure!(
            mode == "wal",
            "its write-ahead log could not be set up (journal mode {mode}); try again, or use another disk"
        );
        Ok(())
    }

    /// The log is there by now: so are the entries of all files in the directory, for good.
    pub(super) fn sync_entries(&self) -> anyhow::Result<()> {
        sync_directory(self.directory())
    }

    /// A connection that reads.
    pub(super) fn reading(&self) -> anyhow::Result<Connection> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        conn.pragma_update(None, "cache_size", READER_CACHE_PAGES)?;
        Ok(conn)
    }

    fn connect(&self, access: OpenFlags) -> anyhow::Result<Connection> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let conn = match self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs)?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        conn.busy_timeout(BUSY)?;
        // A close after a failed sync must not copy the log: that would count on the sync after all.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Every statement of the store is there once; all of them stay prepared.
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    }
}

/// So many bytes in pages.
pub(super) fn pages(bytes: u64) -> i32 {
    i32::try_from(bytes / PAGE_SIZE.unsigned_abs()).unwrap_or(i32::MAX)
}

/// A new file is its owner's alone: calls are personal.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Creates a directory and what is missing above it, each for its owner alone, each entry synced.
fn make_directory(directory: &Path) -> anyhow::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(above)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => sync_directory(above),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create the directory {}", directory.display())),
    }
}

fn sync_directory(directory: &Path) -> anyhow::Result<()> {
    let sync = || File::open(directory)?.sync_all();
    sync().with_context(|| format!("cannot sync the directory {}", directory.display()))
}
