//! The reserve: disk space that is kept for settling calls when the disk is full.
//!
//! Settling writes to the write-ahead log, and the log is copied into the file, which may grow. Without space for that,
//! a full disk would stay full. So a file beside the outbox holds allocated blocks and no content. It is deleted when
//! the disk is full, and allocated again when there is space. Until then calls are stored only in the unused part of
//! the file ([`Reserve::room`]).
//!
//! It is always a new file, so nothing is written through a link that somebody put in its place.
//!
//! On a file system that cannot allocate space ahead there is no reserve, and nothing waits for one.

use std::fs::{Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::file::{check_beside, free_disk_bytes, reserve_path};

/// Bytes of the reserve: twice the log, which is all that can be in progress.
pub(super) const MAX_RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// On a small disk the reserve is one part in this many of the free space: three quarters stay for calls.
const FREE_SPACE_DIVISOR: u64 = 4;

/// Fewer bytes than this, a few dozen pages, would not help.
const MIN_BYTES: u64 = 128 * 1024;

/// What the system counts a file's disk space in.
const BLOCK_BYTES: u64 = 512;

pub(super) struct Reserve {
    path: PathBuf,
    /// Size when it is allocated; 0 where the file system supports none.
    bytes: u64,
    is_held: bool,
}

impl Reserve {
    /// Takes over what an earlier process left beside the outbox, or allocates the reserve if there is space.
    ///
    /// # Errors
    /// If a link, or a file of another user, is in its place.
    pub(super) fn open(outbox: &Path) -> anyhow::Result<Self> {
        let path = reserve_path(outbox);
        check_beside(&path)?;
        if let Ok(existing) = path.symlink_metadata()
            && existing.len() >= MIN_BYTES
            && is_allocated(&existing)
        {
            return Ok(Self { path, bytes: existing.len(), is_held: true });
        }
        let share = free_disk_bytes(outbox).map_or(MAX_RESERVE_BYTES, |free| free / FREE_SPACE_DIVISOR);
        let bytes = share.clamp(MIN_BYTES, MAX_RESERVE_BYTES);
        let mut reserve = Self { path, bytes, is_held: false };
        reserve.allocate();
        Ok(reserve)
    }

    /// The length up to which a log can be copied into the space of the reserve.
    pub(super) fn wal_bytes(&self) -> u64 {
        if self.bytes == 0 { MAX_RESERVE_BYTES / 2 } else { self.bytes / 2 }
    }

    /// Whether it is allocated, or cannot exist on this file system.
    pub(super) fn is_held(&self) -> bool {
        self.is_held || self.bytes == 0
    }

    /// Notices that somebody else deleted it, or freed its space.
    pub(super) fn look(&mut self) {
        let is_whole = |found: Metadata| found.len() >= self.bytes && is_allocated(&found);
        self.is_held &= self.path.symlink_metadata().is_ok_and(is_whole);
    }

    /// Deletes it to free its space.
    pub(super) fn release(&mut self) {
        if self.is_held {
            self.is_held = false;
            // If it cannot be deleted no space is freed, and the next transaction reports that.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Allocates it; false if there is no space.
    pub(super) fn allocate(&mut self) -> bool {
        let create = || -> std::io::Result<()> {
            // What is there is not the reserve, or too small.
            let _ = std::fs::remove_file(&self.path);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
            fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?;
            // ZFS reports success, and allocates nothing.
            if is_allocated(&file.metadata()?) { Ok(()) } else { Err(ErrorKind::Unsupported.into()) }
        };
        let created = create();
        self.is_held = created.is_ok();
        if let Err(error) = created {
            let _ = std::fs::remove_file(&self.path);
            if error.kind() == ErrorKind::Unsupported {
                self.bytes = 0;
            }
        }
        self.is_held()
    }

    /// Bytes that may be stored, if the outbox's limit allows `room` and `free` bytes of the file are unused. Without
    /// the reserve the file must not grow, and the log must fit into the unused bytes.
    pub(super) fn room(&self, room: u64, free: u64) -> u64 {
        if self.is_held() { room } else { room.min(free.saturating_sub(self.wal_bytes())) }
    }
}

/// A file that was copied without its empty blocks has the length of the reserve and no space.
fn is_allocated(file: &Metadata) -> bool {
    file.blocks() * BLOCK_BYTES >= file.len()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::{BLOCK_BYTES, MIN_BYTES, Reserve};

    #[test]
    fn a_released_reserve_is_deleted_and_can_be_allocated_again() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = directory.path().join("outbox.db");
        let mut reserve = Reserve::open(&outbox).unwrap();
        assert!(reserve.is_held());
        assert_eq!(reserve.room(7, 0), 7);
        assert!(reserve.path.metadata().unwrap().len() >= MIN_BYTES);
        reserve.release();
        assert!(!reserve.path.exists() && !reserve.is_held());
        assert_eq!((reserve.room(7, 0), reserve.room(7, reserve.wal_bytes() + 3)), (0, 3));
        assert!(reserve.allocate());
        let again = Reserve::open(&outbox).unwrap();
        assert_eq!((again.is_held(), again.bytes), (true, reserve.bytes));
    }

    #[test]
    fn a_reserve_that_somebody_deleted_is_noticed_and_a_link_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::open(&directory.path().join("outbox.db")).unwrap();
        reserve.look();
        assert!(reserve.is_held());
        std::fs::remove_file(&reserve.path).unwrap();
        let other = directory.path().join("other");
        std::fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, &reserve.path).unwrap();
        reserve.look();
        assert!(!reserve.is_held() && reserve.allocate());
        assert!(reserve.path.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read(&other).unwrap(), b"somebody's");
    }

    #[test]
    fn a_reserve_without_disk_space_is_allocated_again() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = directory.path().join("outbox.db");
        let path = outbox.with_added_extension("reserve");
        // As a copy that leaves out empty blocks makes it.
        let make_sparse = |bytes| File::create(&path).unwrap().set_len(bytes).unwrap();
        let allocated = || path.metadata().unwrap().blocks() * BLOCK_BYTES;
        make_sparse(2 * MIN_BYTES);
        let mut reserve = Reserve::open(&outbox).unwrap();
        assert!(reserve.is_held() && allocated() >= reserve.bytes, "{} of {} bytes", allocated(), reserve.bytes);
        make_sparse(0);
        make_sparse(reserve.bytes);
        reserve.look();
        assert!(!reserve.is_held() && reserve.allocate());
        assert!(allocated() >= reserve.bytes);
        reserve.look();
        assert!(reserve.is_held());
    }
}
