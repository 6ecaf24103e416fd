//! Which pages the last transactions changed: the write-ahead log holds each page that was written, with its number
//! (<https://sqlite.org/fileformat2.html>, section 4.1).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::ensure;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};

/// Bytes of the log's header, and of the header of each page in it.
const WAL_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// How far the log was read.
#[derive(Default)]
pub(super) struct LogPosition {
    frames: u64,
    /// They are in the log's header and with each page, and change when the log is written from its start.
    salts: [u8; 8],
}

impl LogPosition {
    /// The pages that were written to the log since the last call. The first call returns all that are in it. Call it after each
    /// transaction, and outside of one: what is not read by then may be written over.
    pub(super) fn changed_pages(&mut self, conn: &Connection, log: &File) -> anyhow::Result<Vec<u32>> {
        let (frames, _) = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP)?;
        let frames = u64::try_from(frames)?;
        if frames == 0 {
            return Ok(Vec::new());
        }
        let mut header = [0; WAL_HEADER as usize];
        log.read_exact_at(&mut header, 0)?;
        let page_size = u64::from(u32::from_be_bytes([header[8], header[9], header[10], header[11]]));
        if self.salts != header[16..24] {
            self.salts.copy_from_slice(&header[16..24]);
            self.frames = 0;
        }
        let mut pages = Vec::new();
        for frame in self.frames..frames {
            let mut header = [0; FRAME_HEADER as usize];
            log.read_exact_at(&mut header, WAL_HEADER + frame * (FRAME_HEADER + page_size))?;
            ensure!(header[8..16] == self.salts, "the log is not as its header says");
            pages.push(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        }
        self.frames = frames;
        Ok(pages)
    }
}
