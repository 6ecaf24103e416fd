//! Space on the disk that is kept for the worst moment: when the disk is full, and what was delivered must be settled.
//!
//! Settling writes: to the log, and the log is copied into the file, which may grow by that. Without room for it a disk that
//! a backlog has filled would stay full, though Segment took everything. So a file lies beside the outbox whose blocks are
//! allocated and which holds nothing. It is deleted when the disk is full, and made again when there is room for it; until
//! then calls are stored only in what is free within the file ([`Reserve::room`]).
//!
//! On a file system that cannot allocate space ahead there is no reserve, and nothing waits for one.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// How large it is, in bytes: twice the log, which is all that can be under way.
const MOST: u64 = 32 * 1024 * 1024;

/// On a small disk it is this part of what is free.
const SHARE: u64 = 4;

/// Less than this does not help, in bytes: a few dozen pages.
const LEAST: u64 = 128 * 1024;

pub(super) struct Reserve {
    path: PathBuf,
    /// How large it is when it is there; 0 where there can be none.
    bytes: u64,
    is_held: bool,
}

impl Reserve {
    /// Takes it, if there is room; what an earlier process left is taken over.
    pub(super) fn beside(outbox: &Path) -> Self {
        let mut path = outbox.to_owned().into_os_string();
        path.push(".reserve");
        let path = PathBuf::from(path);
        if let Ok(there) = path.metadata()
            && there.len() >= LEAST
        {
            return Self { path, bytes: there.len(), is_held: true };
        }
        let free =
            outbox.parent().and_then(|directory| statvfs(directory).ok()).map(|disk| disk.f_bavail * disk.f_frsize);
        let bytes = free.map_or(MOST, |free| free / SHARE).clamp(LEAST, MOST);
        let mut reserve = Self { path, bytes, is_held: false };
        reserve.take();
        reserve
    }

    /// How many bytes the log may have, so that it can be copied out of the reserve.
    pub(super) fn log_bytes(&self) -> u64 {
        if self.bytes == 0 { MOST / 2 } else { self.bytes / 2 }
    }

    /// Whether nothing need be done about it.
    pub(super) fn is_held(&self) -> bool {
        self.is_held || self.bytes == 0
    }

    /// Deletes it, so that there is room for what must be written.
    pub(super) fn give_up(&mut self) {
        if self.is_held {
            self.is_held = false;
            // If it cannot be deleted there is no more room, and the next attempt will say so.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Makes it anew; false if there is no room.
    pub(super) fn take(&mut self) -> bool {
        match self.allocate() {
            Ok(()) => self.is_held = true,
            Err(error) => {
                let _ = std::fs::remove_file(&self.path);
                if error.kind() == ErrorKind::Unsupported {
                    self.bytes = 0;
                }
            }
        }
        self.is_held()
    }

    fn allocate(&self) -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?)
    }

    /// What may be stored while `room` is allowed and `free` bytes within the file are not in use: without the reserve the
    /// file must not grow, and the log must fit into what is free.
    pub(super) fn room(&self, room: u64, free: u64) -> u64 {
        if self.is_held() { room } else { room.min(free.saturating_sub(self.log_bytes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST, Reserve};

    #[test]
    fn it_is_there_until_it_is_given_up_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = directory.path().join("outbox.db");
        let mut reserve = Reserve::beside(&outbox);
        assert!(reserve.is_held());
        assert_eq!(reserve.room(7, 0), 7);
        assert!(reserve.path.metadata().unwrap().len() >= LEAST);
        reserve.give_up();
        assert!(!reserve.path.exists() && !reserve.is_held());
        assert_eq!((reserve.room(7, 0), reserve.room(7, reserve.log_bytes() + 3)), (0, 3));
        assert!(reserve.take());
        let again = Reserve::beside(&outbox);
        assert_eq!((again.is_held(), again.bytes), (true, reserve.bytes));
    }
}
