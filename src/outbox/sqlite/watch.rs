//! Watches the outbox's files: whether the next start would find what is written now.
//!
//! SQLite goes on writing to a file that was deleted, moved or replaced, and into a log that was cut, and reports no
//! error. So the writer looks before each transaction, and again after its sync, before it answers: what is gone by then
//! is not called stored. A look is six system calls: two looks take about a hundredth of a sync.
//!
//! The files are found by their paths, and compared with descriptors that stay open. A descriptor of the file or of the
//! shared memory must not be closed while SQLite uses them: that would drop SQLite's locks in this process.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::file::{WAL_SUFFIXES, beside};
use super::header::FileHeader;

/// Bytes of the log's header, and of the header of each page in it.
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The first bytes of a log, but for the last bit.
const WAL_MAGIC: [u8; 4] = 0x377f_0682_u32.to_be_bytes();

/// The bytes of the shared memory that SQLite locks for readers of the log.
const READ_LOCKS: (u64, u64) = (123, 5);

/// What became of a file whose content is another one.
const OVERWRITTEN: &str = "was truncated or overwritten";

pub(super) struct FileWatch {
    /// The outbox's file, its log, its shared memory.
    files: [WatchedFile; 3],
    /// Length of the file at the last look.
    file_bytes: u64,
    /// Length of the log at the last look.
    wal_bytes: u64,
    /// Pages in the log at the last look, and the salts that were in its header: they change when it is restarted.
    frames: u64,
    salts: [u8; 8],
}

struct WatchedFile {
    path: PathBuf,
    open: Arc<File>,
    /// Device and inode.
    id: (u64, u64),
}

/// What happened to a file.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) path: PathBuf,
    pub(super) what: &'static str,
    /// Where the file is now, as far as the system tells.
    pub(super) now: Option<PathBuf>,
    pub(super) extent: LossExtent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossExtent {
    /// The outbox's file. Only this process can still read it.
    File,
    /// A file beside it. All calls can still be copied into the outbox's file.
    Beside,
    /// Bytes are missing, and what is read may be wrong.
    Content,
}

impl FileWatch {
    /// Starts watching the files, which SQLite has opened. `path` is the configured one, `real` the one without links.
    ///
    /// # Errors
    /// If a file is not the one that was opened and locked.
    pub(super) fn start(path: &Path, real: &Path, file: Arc<File>) -> anyhow::Result<Self> {
        let open = |suffix| -> anyhow::Result<WatchedFile> {
            let path = beside(real, suffix);
            let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            Ok(WatchedFile::new(path, file.into())?)
        };
        let [wal, shm] = WAL_SUFFIXES;
        let files = [WatchedFile::new(path.to_owned(), file)?, open(wal)?, open(shm)?];
        let mut watch = Self { files, file_bytes: 0, wal_bytes: 0, frames: 0, salts: [0; 8] };
        match watch.look_at_paths() {
            Ok((_, length)) => Ok(Self { file_bytes: length, ..watch }),
            Err(loss) => bail!("{} {} while it was opened", loss.path.display(), loss.what),
        }
    }

    /// Looks whether everything is in its place. Returns the number of pages in the log.
    pub(super) fn look(&mut self, conn: &Connection) -> Result<i32, Loss> {
        let (header, length) = self.look_at_paths()?;
        // Another program may restart or empty the log between the two reads. Then the second try agrees.
        for _ in 0..2 {
            // An error here says nothing about the files, and comes again in the transaction.
            let Ok((frames, copied)) = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP) else {
                return Ok(0);
            };
            let [frame_count, copied] = [frames, copied].map(|count| u64::try_from(count).unwrap_or(0));
            if self.has_frames(frame_count) {
                if length < self.file_bytes
                    && (header.file_length() > length || !self.is_vacuumed(conn, &header, copied))
                {
                    return Err(self.files[0].loss(OVERWRITTEN, LossExtent::Content));
                }
                self.file_bytes = length;
                return Ok(frames);
            }
        }
        Err(self.files[1].loss("was truncated", LossExtent::Content))
    }

    /// What is lost by now, if more is.
    pub(super) fn look_again(&self, loss: Loss) -> Loss {
        let file = (loss.extent == LossExtent::Beside).then(|| self.files[0].find(LossExtent::File).err()).flatten();
        file.unwrap_or(loss)
    }

    /// Whether the outbox's file is in its place.
    pub(super) fn has_file(&self) -> bool {
        self.files[0].find(LossExtent::File).is_ok()
    }

    /// The header of the outbox's file, and the file's length.
    fn look_at_paths(&mut self) -> Result<(FileHeader, u64), Loss> {
        let [file, wal, shm] = &self.files;
        let length = file.find(LossExtent::File)?.len();
        let header = FileHeader::read(&file.open).filter(|header| header.has_wal);
        let header = header.ok_or_else(|| file.loss(OVERWRITTEN, LossExtent::Content))?;
        self.wal_bytes = wal.find(LossExtent::Beside)?.len();
        shm.find(LossExtent::Beside)?;
        Ok((header, length))
    }

    /// Whether a file that became shorter has as many pages as the database has since another program vacuumed it. This process may have added pages since, so a commit in the log that was copied last, or later, is
    /// enough.
    fn is_vacuumed(&self, conn: &Connection, header: &FileHeader, copied: u64) -> bool {
        let commit_has_pages = |frame| {
            let mut bytes = [0; FRAME_HEADER];
            let read = self.files[1].open.read_exact_at(&mut bytes, frame_offset(frame, header.page_size));
            read.is_ok() && bytes[4..8] == header.pages.to_be_bytes()
        };
        let counted = conn.pragma_query_value(None, "page_count", |row| row.get(0));
        counted.is_ok_and(|count: u32| count == header.pages) || (copied.max(1)..=self.frames).any(commit_has_pages)
    }

    /// Whether the log holds the pages that it held at the last look, unless it was restarted since.
    fn has_frames(&mut self, frames: u64) -> bool {
        let wal = &self.files[1].open;
        let mut header = [0; WAL_HEADER];
        let is_whole = frames == 0
            || wal.read_exact_at(&mut header, 0).is_ok_and(|()| {
                let page_size = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
                let is_restarted = self.frames == 0 || header[16..24] != self.salts;
                let last = if is_restarted { frames } else { self.frames };
                let mut frame = [0; FRAME_HEADER];
                header[..3] == WAL_MAGIC[..3]
                    && wal.read_exact_at(&mut frame, frame_offset(last, page_size.into())).is_ok()
                    && frame[8..16] == header[16..24]
            });
        if is_whole {
            self.frames = frames;
            self.salts.copy_from_slice(&header[16..24]);
        }
        is_whole
    }

    /// The log, for reading.
    pub(super) fn log(&self) -> &File {
        &self.files[1].open
    }

    /// Length of the log at the last look.
    pub(super) fn wal_bytes(&self) -> u64 {
        self.wal_bytes
    }

    /// A process that reads the log, other than this one.
    pub(super) fn reader(&self) -> Option<u32> {
        let (start, length) = READ_LOCKS;
        let lock = Flock { start, length, ..FlockType::WriteLock.into() };
        let found = fcntl_getlk(&*self.files[2].open, &lock).ok().flatten()?;
        u32::try_from(found.pid?.as_raw_nonzero().get()).ok()
    }
}

impl WatchedFile {
    fn new(path: PathBuf, open: Arc<File>) -> io::Result<Self> {
        let id = id(&open.metadata()?);
        Ok(Self { path, open, id })
    }

    /// Finds the file by its path, or says why it is lost.
    fn find(&self, extent: LossExtent) -> Result<Metadata, Loss> {
        match self.path.metadata() {
            Ok(found) if id(&found) != self.id => Err(self.loss("was replaced by another file", extent)),
            // The name is a mount point, or the file system keeps it.
            Ok(found) if found.nlink() == 0 => Err(self.loss("was deleted", extent)),
            Ok(found) => Ok(found),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(self.loss("can no longer be reached", extent))
            }
            Err(_) if self.open.metadata().is_ok_and(|open| open.nlink() > 0) => Err(self.loss("was moved", extent)),
            Err(_) => Err(self.loss("was deleted", extent)),
        }
    }

    fn loss(&self, what: &'static str, extent: LossExtent) -> Loss {
        let now = format!("/proc/self/fd/{}", self.open.as_raw_fd());
        Loss { path: self.path.clone(), what, now: Path::new(&now).read_link().ok(), extent }
    }
}

impl Loss {
    /// The reason that `/readyz` shows.
    pub(super) fn trouble(&self) -> &'static str {
        match self.extent {
            LossExtent::Content => "a file of the outbox was truncated or overwritten",
            LossExtent::File | LossExtent::Beside => "a file of the outbox was deleted, moved or replaced",
        }
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Where a page begins in the log, with its header. The first one is number 1.
fn frame_offset(number: u64, page_size: u64) -> u64 {
    WAL_HEADER as u64 + (number - 1) * (FRAME_HEADER as u64 + page_size)
}
