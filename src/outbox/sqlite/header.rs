//! The header of an SQLite file (SQLite's page "Database File Format").

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The first bytes of every SQLite file.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The header up to the number of pages.
const HEADER_BYTES: usize = 32;

/// The length in bytes that the header of a file says. `None` if it cannot be read, or is not SQLite's.
pub(crate) fn file_length(file: &File) -> Option<u64> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).ok()?;
    // 1 stands for 65536.
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    header.starts_with(MAGIC).then_some(u64::from(pages) * page_size)
}
