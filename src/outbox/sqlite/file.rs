//! The database file: created if it is missing, locked against a second process, and opened only if it is what it must
//! be.
//!
//! Invariants: only the owner can read what is created, and its directory entry is synced; a file of another program is
//! never written. Nothing is repaired: damage is reported and left as it is.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use rustix::fs::statvfs;
use rustix::process::geteuid;

use super::header::{FileHeader, MAGIC};

/// How long a statement waits for a lock of another program, such as a shell that reads the file. Callers wait
/// meanwhile.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What SQLite adds to the file's name for the write-ahead log and for its shared memory.
pub(super) const WAL_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

const NOT_A_FILE: &str = "it is not a file; name a file in that place";

/// Pages of 4 KiB, SQLite's own default. With 16 KiB a call without a key takes 6 % less CPU and twice the bytes
/// written (`cargo bench`); a call with a key, which is on a page of its own, takes four times the bytes written.
pub(super) const PAGE_SIZE: i64 = 4 * 1024;

/// The writer's page cache, 8 MiB: the inner pages of the keys' tree, a different one of which each stored call needs,
/// for some tens of millions of keys. The rest is in the system's own cache.
const WRITER_CACHE_PAGES: i64 = 2048;

/// A reader's page cache: 2 MiB, SQLite's own default.
const READER_CACHE_PAGES: i64 = 512;

/// WAL pages that start a checkpoint: 16 MiB. SQLite's own default is 4 MiB. A longer log collects more changes of the
/// same page before it is copied once, and is still read back in a fraction of a second at the start.
const WAL_PAGES: i32 = 4096;

/// Bytes to which a log that grew longer is cut when it is restarted: four times its usual length.
pub(super) const WAL_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// Bytes that [`write_again`] writes at once: few system calls, and little memory.
const COPY_BYTES: usize = 1024 * 1024;

/// The database file, and how to open it.
#[derive(Clone)]
pub(super) struct DatabaseFile {
    pub(super) path: PathBuf,
    /// SQLite's file system layer. Tests use their own, which fails on request.
    pub(super) vfs: Option<&'static str>,
    /// WAL pages that start a checkpoint. Tests use few.
    pub(super) wal_pages: i32,
}

/// The file, open, and locked against other processes until this is dropped. It must outlive SQLite's connections.
pub(super) struct LockedFile {
    pub(super) file: Arc<File>,
    _lock_beside: Option<File>,
}

impl DatabaseFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), vfs: None, wal_pages: WAL_PAGES }
    }

    /// Creates the directory and the file if they are missing. No other process can use them while the returned lock is
    /// held. Refuses a file that other users can change, or that has other names.
    pub(super) fn create_and_lock(&self) -> anyhow::Result<LockedFile> {
        create_directory(parent_or_current(&self.path))?;
        let file = match open_existing(&self.path)? {
            Some(file) => file,
            None => {
                let file = private().create_new(true).open(&self.path).context("cannot create the file")?;
                file.sync_all()?;
                file
            }
        };
        let real = self.path.canonicalize()?;
        // The file itself is locked, whatever its name, which may be a link. On Linux SQLite's own locks are of another
        // kind, and do not conflict with this one. On other systems they do, so a file beside it is locked.
        let lock_beside = if cfg!(target_os = "linux") {
            None
        } else {
            let path = real.with_added_extension("lock");
            Some(private().create(true).truncate(false).open(&path).context("cannot create the lock file beside it")?)
        };
        match lock_beside.as_ref().unwrap_or(&file).try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another process uses this outbox; only one may"),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the file"),
        }
        let metadata = file.metadata()?;
        check_access(&self.path, &metadata)?;
        // Kubernetes' fsGroup sets this.
        if metadata.mode() & 0o020 != 0 {
            tracing::warn!(file = %self.path.display(), "the outbox's file can be written by its group");
        }
        check_wal_files(&real)?;
        check_log(&file, &beside(&real, WAL_SUFFIXES[0]))?;
        sync_directory_of(&self.path)?;
        Ok(LockedFile { file: Arc::new(file), _lock_beside: lock_beside })
    }

    /// Opens a connection that writes, syncs each commit, and makes no checkpoint by itself. Changes nothing in the
    /// file.
    pub(super) fn open_writer(&self) -> anyhow::Result<Connection> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // SQLite opens a file that it may not write as read-only, without an error.
        ensure!(!conn.is_readonly(MAIN_DB)?, "the file may not be written by this user");
        conn.pragma_update(None, "synchronous", "FULL")?;
        // On macOS fsync does not reach the disk, and fullfsync does. Elsewhere it changes nothing.
        conn.pragma_update(None, "fullfsync", true)?;
        conn.pragma_update(None, "checkpoint_fullfsync", true)?;
        // What undoes a part of a transaction is in memory: there may be no other writable directory.
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "wal_autocheckpoint", 0)?;
        conn.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        conn.pragma_update(None, "cache_size", WRITER_CACHE_PAGES)?;
        let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        // 2 is FULL.
        ensure!(synchronous == 2, "this SQLite does not sync each commit; the relay cannot promise anything on it");
        Ok(conn)
    }

    /// Sets what the file itself keeps: the page size of a new file, and the write-ahead log.
    pub(super) fn enable_wal(&self, conn: &Connection) -> anyhow::Result<()> {
        conn.pragma_update(None, "page_size", PAGE_SIZE)?;
        let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        ensure!(mode == "wal", "SQLite cannot keep a write-ahead log there (journal mode {mode}); use a local disk");
        Ok(())
    }

    /// Opens a read-only connection, and checks that the file itself says that it has a write-ahead log. SQLite does
    /// not report every sync that fails while it sets the log up, and without the log a commit is not durable.
    pub(super) fn open_reader(&self) -> anyhow::Result<Connection> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        conn.pragma_update(None, "cache_size", READER_CACHE_PAGES)?;
        let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        ensure!(
            mode == "wal",
            "its write-ahead log could not be set up (journal mode {mode}); try again, or use another disk"
        );
        Ok(conn)
    }

    /// Opens a read-only connection to a file of any version, which may be a backup.
    pub(super) fn open_reading(&self) -> anyhow::Result<Connection> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn connect(&self, access: OpenFlags) -> anyhow::Result<Connection> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let conn = match self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs)?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        conn.busy_timeout(BUSY_TIMEOUT)?;
        // A close after a failed sync must not copy the log: that would rely on the failed sync.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // More than the store has statements, so that all of them stay prepared.
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    }
}

/// Allocates the disk space of a file of this many pages, without making it longer; false if the disk is full.
pub(super) fn allocate(file: &File, pages: i64) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let bytes = pages.saturating_mul(PAGE_SIZE).unsigned_abs();
        // Any other error means that the file system cannot do this.
        !matches!(fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes), Err(Errno::NOSPC | Errno::DQUOT))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, pages);
        true
    }
}

/// Opens the file if it is there, and refuses what is no outbox.
fn open_existing(path: &Path) -> anyhow::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => check_header(&file).map(|()| Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::IsADirectory => bail!("{NOT_A_FILE}"),
        Err(error) => Err(error).context("cannot open the file for writing"),
    }
}

/// Looks for what would keep a relay of this user from using the outbox. Returns whether the file is there. It takes no lock,
/// opens no database and leaves nothing behind, so a relay that uses the outbox is not disturbed.
///
/// # Errors
/// If the file or one beside it is refused, or if no file can be made in the directory.
pub fn check_file(path: &Path) -> anyhow::Result<bool> {
    let file = open_existing(path)?;
    match &file {
        Some(file) => {
            check_access(path, &file.metadata()?)?;
            let real = path.canonicalize()?;
            check_wal_files(&real)?;
            check_log(file, &beside(&real, WAL_SUFFIXES[0]))?;
            check_beside(&reserve_path(&real))?;
        }
        None => ensure!(path.symlink_metadata().is_err(), "it is a link to a file that does not exist"),
    }
    let directory = directory_of(&path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let probe = directory.join(format!(".segment-relay-check-{}", std::process::id()));
    let make = || {
        let made = private().create_new(true).open(&probe)?;
        // A sync that fails would end the relay.
        let synced = made.sync_all();
        fs::remove_file(&probe)?;
        synced
    };
    make().with_context(|| format!("cannot make a file in {}", directory.display()))?;
    Ok(file.is_some())
}

/// The directory of this path, or the one in which the missing ones are made.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    let existing = path.ancestors().skip(1).find(|parent| parent.symlink_metadata().is_ok());
    existing.unwrap_or(Path::new("/")).to_owned()
}

/// Writes the file's content once more, in its place, and syncs it. SQLite's locks on it stay: it has none on a log.
pub(super) fn write_again(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&buffer[..read], offset)?;
        offset += read as u64;
    }
}

fn check_header(mut file: &File) -> anyhow::Result<()> {
    ensure!(file.metadata()?.is_file(), "{NOT_A_FILE}");
    let mut head = [0; MAGIC.len()];
    match file.read_exact(&mut head) {
        Ok(()) => ensure!(head == *MAGIC, "the file is not an SQLite database; move it away, or name another file"),
        // A process that died while it created the file leaves an empty one.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && file.metadata()?.len() == 0 => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            bail!("the file is damaged: it ends within its header; restore it from a backup, or move it away")
        }
        Err(error) => return Err(error).context("cannot read the file"),
    }
    Ok(())
}

/// Refuses a log beside a file that has none: the file is a restored backup, and SQLite would apply the log to it.
fn check_log(file: &File, log: &Path) -> anyhow::Result<()> {
    let has_log = FileHeader::read(file).is_none_or(|header| header.has_wal);
    ensure!(
        has_log || log.metadata().map_or(0, |found| found.len()) == 0,
        "{} belongs to another file, which a backup has replaced; move it away, and the -shm file beside it",
        log.display()
    );
    Ok(())
}

/// Refuses the files that SQLite keeps beside the outbox, as [`check_beside`] does.
fn check_wal_files(outbox: &Path) -> anyhow::Result<()> {
    WAL_SUFFIXES.into_iter().try_for_each(|suffix| check_beside(&beside(outbox, suffix)))
}

/// Refuses a file that is a link, as [`check_access`] does. It need not exist.
pub(super) fn check_beside(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Ok(found) => {
            ensure!(found.is_file(), "{} is a link, or no file; delete it, or move it away", path.display());
            check_access(path, &found)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Refuses a file that others can change. Under a second name a file has another log, and a log that belongs to an older
/// state of the file destroys calls.
fn check_access(path: &Path, found: &Metadata) -> anyhow::Result<()> {
    let (path, owner, own) = (path.display(), found.uid(), geteuid().as_raw());
    ensure!(
        found.nlink() == 1,
        "{path} has a second name, a hard link, under which its log would not be found; delete one"
    );
    ensure!(
        owner == own,
        "{path} belongs to another user ({owner}) than the one who runs this ({own}); run it as that user, or change the owner"
    );
    ensure!(found.mode() & 0o002 == 0, "{path} can be written by everybody; take that right away (chmod o-w)");
    Ok(())
}

/// Converts bytes to pages.
pub(super) fn pages(bytes: u64) -> i32 {
    i32::try_from(bytes / PAGE_SIZE.unsigned_abs()).unwrap_or(i32::MAX)
}

/// Only the owner may read a new file, because calls are personal.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// The path of a file that SQLite keeps beside a database: its name has no dot before the suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The path of the reserve beside the outbox.
pub(super) fn reserve_path(outbox: &Path) -> PathBuf {
    outbox.with_added_extension("reserve")
}

/// A path without a directory is in the current one.
fn parent_or_current(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory and its missing parents, each for its owner alone, each entry synced.
fn create_directory(directory: &Path) -> anyhow::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = parent_or_current(directory);
    create_directory(parent)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => sync_directory(parent),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create the directory {}", directory.display())),
    }
}

/// Free bytes of the disk that holds this file, as far as the disk says.
pub(super) fn free_disk_bytes(file: &Path) -> Option<u64> {
    let disk = statvfs(parent_or_current(file)).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Makes the entries of all files in this file's directory durable.
pub(crate) fn sync_directory_of(file: &Path) -> anyhow::Result<()> {
    sync_directory(parent_or_current(file))
}

fn sync_directory(directory: &Path) -> anyhow::Result<()> {
    let sync = || File::open(directory)?.sync_all();
    sync().with_context(|| format!("cannot sync the directory {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::{COPY_BYTES, write_again};

    #[test]
    fn every_byte_of_a_log_is_written_again_and_none_is_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outbox.db-wal");
        let file = File::create(&path).unwrap();
        let length = 2 * COPY_BYTES as u64 + 7;
        file.set_len(length).unwrap();
        file.write_all_at(b"a page", COPY_BYTES as u64 - 3).unwrap();
        let before = fs::read(&path).unwrap();
        // A hole has no disk space until it is written.
        assert!(file.metadata().unwrap().blocks() * 512 < length);
        write_again(&path).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= length);
        assert!(fs::read(&path).unwrap() == before);
    }
}
