//! The header of an SQLite file (SQLite's page "Database File Format").

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The first bytes of every SQLite file.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where the header says whether the file has a write-ahead log, and what it says.
pub(super) const VERSIONS_OFFSET: u64 = 18;
pub(super) const WITHOUT_WAL: [u8; 2] = [1, 1];
const WITH_WAL: [u8; 2] = [2, 2];

/// The header up to the number of pages.
const HEADER_BYTES: usize = 32;

/// What a file's header says of the file.
pub(super) struct FileHeader {
    pub(super) page_size: u64,
    pub(super) pages: u32,
    /// Whether the file has a write-ahead log. A backup has none.
    pub(super) has_wal: bool,
}

impl FileHeader {
    /// `None` if the header cannot be read, or is not SQLite's.
    pub(super) fn read(file: &File) -> Option<Self> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        // 1 stands for 65536.
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
        let has_wal = header[VERSIONS_OFFSET as usize..].starts_with(&WITH_WAL);
        header.starts_with(MAGIC).then_some(Self { page_size, pages, has_wal })
    }

    /// The length in bytes that the header gives the file.
    pub(super) fn file_length(&self) -> u64 {
        u64::from(self.pages) * self.page_size
    }
}

/// The length in bytes that the header of a file says. `None` if it cannot be read, or is not SQLite's.
pub(crate) fn file_length(file: &File) -> Option<u64> {
    FileHeader::read(file).map(|header| header.file_length())
}
