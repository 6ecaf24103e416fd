//! Scrubbing: clears every byte of the file that belongs to no row, so that nothing of deleted rows is left in it.
//!
//! SQLite's own `secure_delete` would make every settlement write a little more (1 to 3 % of the log), and it does not clear what is
//! left between the cells of a page that SQLite builds anew. So a deletion costs nothing more, and whoever must leave nothing behind
//! scrubs the file afterwards.
//!
//! Pages are read and written through SQLite itself, by its virtual table `sqlite_dbpage`: what is cleared is logged and committed as
//! any change, and is in the cache of the connection that writes. A scrub goes over the pages in the order of their numbers, in many
//! short transactions, between which other commands run. Meanwhile `secure_delete` clears pages that become free.
//!
//! When SQLite balances a b-tree, it exchanges the numbers of pages, so old bytes between cells come to pages that were visited. A row
//! with an uncleared end may move to such a page, too. Every page that a transaction changes is in the write-ahead log, so after each
//! transaction the scrub reads there which pages it has to visit once more ([`LogPosition`]).

use std::collections::{BTreeSet, HashSet};
use std::fs::File;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::changed_pages::LogPosition;
use super::page_format::{
    Malformed, OverflowChain, clear_btree, clear_tail, clear_trunk, first_trunk, is_btree, next_overflow,
    overflow_room, trunk,
};

/// Pages that one transaction looks at: 2 MiB, in some milliseconds. Callers wait for it.
const STEP_PAGES: u32 = if cfg!(test) { 16 } else { 512 };

/// Pages that one transaction writes, approximately: 1 MiB, as much as any other.
const STEP_WRITES: usize = 256;

/// From this number on the first byte of an overflow page can look like that of a b-tree page: 128 GiB.
const MAX_PAGES: u32 = 1 << 25;

/// The page at this byte of the file is SQLite's for its locks, and never used (section 1.4 of the file format).
const LOCK_BYTE: u64 = 1 << 30;

/// Progress of a scrub. It takes many transactions, each of which begins with a step.
#[derive(Default)]
pub(super) struct Scrub {
    /// The last page that was visited.
    visited: u32,
    /// The last page when it began. Later ones hold old bytes only if they are in the log.
    last: Option<u32>,
    /// Pages that were changed after they were visited.
    changed: BTreeSet<u32>,
    log: LogPosition,
    /// The log could not be read, so it is unknown which pages were changed.
    has_lost_log: bool,
    pub(super) is_finished: bool,
}

/// Why a scrub did not reach its end.
#[derive(Debug)]
pub(super) enum ScrubError {
    Sqlite(rusqlite::Error),
    /// Nothing more is changed, and the store goes on: what was cleared belonged to no row.
    Unable(&'static str),
}

impl From<rusqlite::Error> for ScrubError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Malformed> for ScrubError {
    fn from(_: Malformed) -> Self {
        Self::Unable("a page is not as the format of SQLite's files says")
    }
}

impl Scrub {
    /// Clears some more pages, in the open write transaction.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is not as expected.
    pub(super) fn step(&mut self, conn: &Connection) -> std::result::Result<(), ScrubError> {
        let done = self.clear_pages(conn);
        if self.is_finished || done.is_err() {
            set_secure_delete(conn, false)?;
        }
        done
    }

    fn clear_pages(&mut self, conn: &Connection) -> std::result::Result<(), ScrubError> {
        let is_able = "SELECT 1 FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
        if !conn.prepare_cached(is_able)?.exists([])? {
            return Err(ScrubError::Unable("SQLite was built without SQLITE_ENABLE_DBPAGE_VTAB"));
        }
        let pages = Pages { conn, count: conn.pragma_query_value(None, "page_count", |row| row.get(0))? };
        if pages.count >= MAX_PAGES {
            return Err(ScrubError::Unable("the file has 128 GiB or more"));
        }
        if self.has_lost_log {
            return Err(ScrubError::Unable("the write-ahead log cannot be read"));
        }
        set_secure_delete(conn, true)?;
        let last = *self.last.get_or_insert(pages.count);
        let changed = std::mem::take(&mut self.changed);
        let next = self.visited + 1..=last.min(self.visited.saturating_add(STEP_PAGES));
        let free = pages.free(|number| next.contains(&number) || changed.contains(&number))?;
        // All of these: no more than one transaction changed.
        for number in changed.into_iter().filter(|number| *number <= pages.count) {
            pages.clear(number, &free)?;
        }
        let mut written = 0;
        for number in next {
            if written >= STEP_WRITES {
                break;
            }
            if number <= pages.count {
                written += pages.clear(number, &free)?;
            }
            self.visited = number;
        }
        self.is_finished = self.visited >= last;
        Ok(())
    }

    /// Notes which pages must be visited again. Call after each commit, before the log can be written from its start.
    pub(super) fn committed(&mut self, conn: &Connection, log: &File) {
        let last = self.last.unwrap_or(0);
        let is_again = |number: &u32| *number <= self.visited || *number > last;
        match self.log.changed_pages(conn, log) {
            Ok(pages) => self.changed.extend(pages.into_iter().filter(is_again)),
            Err(_) => self.has_lost_log = true,
        }
    }
}

/// What is free of some pages.
#[derive(Default)]
struct Free {
    trunks: HashSet<u32>,
    leaves: HashSet<u32>,
}

/// The pages of the file in the open transaction.
struct Pages<'c> {
    conn: &'c Connection,
    count: u32,
}

impl Pages<'_> {
    fn read(&self, number: u32) -> std::result::Result<Vec<u8>, ScrubError> {
        let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
        let page = self.conn.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?;
        Ok(page.ok_or(Malformed)?)
    }

    /// Writes a page if it was changed. Returns the number of pages that were written.
    fn write(&self, number: u32, old: &[u8], new: &[u8]) -> Result<usize> {
        if old == new {
            return Ok(0);
        }
        self.conn.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?.execute(params![number, new])
    }

    /// Which of the wanted pages are free.
    fn free(&self, is_wanted: impl Fn(u32) -> bool) -> std::result::Result<Free, ScrubError> {
        let mut free = Free::default();
        let mut next = first_trunk(&self.read(1)?)?;
        let mut left = self.count;
        while next != 0 {
            let (following, leaves) = trunk(&self.read(next)?)?;
            free.leaves.extend(leaves.into_iter().filter(|leaf| is_wanted(*leaf)));
            free.trunks.extend(is_wanted(next).then_some(next));
            // A list that leads back to itself has no end.
            left = left.checked_sub(1).ok_or(Malformed)?;
            next = following;
        }
        Ok(free)
    }

    /// Clears a page. Returns the number of pages that were written.
    fn clear(&self, number: u32, free: &Free) -> std::result::Result<usize, ScrubError> {
        let old = self.read(number)?;
        if u64::from(number - 1) * old.len() as u64 == LOCK_BYTE {
            return Ok(0);
        }
        let (mut new, mut written) = (old.clone(), 0);
        if free.leaves.contains(&number) {
            new.fill(0);
        } else if free.trunks.contains(&number) {
            clear_trunk(&mut new)?;
        } else if is_btree(number, &old) {
            for chain in clear_btree(number, &mut new)? {
                written += self.clear_end_of_row(chain)?;
            }
        }
        Ok(written + self.write(number, &old, &new)?)
    }

    /// Clears what is behind the end of a row.
    fn clear_end_of_row(&self, chain: OverflowChain) -> std::result::Result<usize, ScrubError> {
        let OverflowChain { first_page: mut number, mut bytes } = chain;
        for _ in 0..self.count {
            let old = self.read(number)?;
            if is_btree(number, &old) {
                return Err(Malformed.into());
            }
            let (next, room) = (next_overflow(&old)?, overflow_room(old.len()));
            if bytes > room {
                (number, bytes) = (next, bytes - room);
                continue;
            }
            if next != 0 {
                return Err(Malformed.into());
            }
            let mut new = old.clone();
            clear_tail(&mut new, bytes)?;
            return Ok(self.write(number, &old, &new)?);
        }
        // A row that has more pages than the file.
        Err(Malformed.into())
    }
}

/// Ends what a scrub sets for its time.
pub(super) fn end(conn: &Connection) -> Result<()> {
    set_secure_delete(conn, false)
}

fn set_secure_delete(conn: &Connection, is_on: bool) -> Result<()> {
    conn.pragma_update_and_check(None, "secure_delete", is_on, |_| Ok(()))
}

#[cfg(test)]
mod tests;
