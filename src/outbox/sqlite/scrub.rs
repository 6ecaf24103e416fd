//! Scrubbing: clears every byte of the file that belongs to no row, so that nothing of deleted rows is left in it.
//!
//! SQLite's own `secure_delete` would write more at every settlement, and would still leave copies of rows that it has moved within a
//! page. So a deletion costs nothing more, and whoever must leave nothing behind scrubs the file afterwards.
//!
//! Pages are read and written through SQLite itself, by its virtual table `sqlite_dbpage`: what is cleared is logged and committed as
//! any change, and is in the cache of the connection that writes. A scrub goes over the pages in the order of their numbers, in many
//! short transactions, between which other commands run. A page that was visited holds no old byte afterwards: SQLite moves whole cells
//! of rows, and no other bytes, from page to page. The tail of a row's last overflow page is cleared when the row's own page is
//! visited. That page may have been visited before the row came into it: such a tail is looked for in another round. Meanwhile
//! `secure_delete` keeps pages clean that become free.

use std::collections::{BTreeSet, HashSet};

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::page_format::{
    Malformed, OverflowChain, clear_btree, clear_tail, clear_trunk, first_trunk, is_btree, next_overflow,
    overflow_room, trunk,
};

/// Pages that one transaction looks at: 8 MiB, which are read in some milliseconds.
const STEP_PAGES: u32 = if cfg!(test) { 16 } else { 2048 };

/// Pages that one transaction writes, approximately: 1 MiB, as much as any other.
const STEP_WRITES: usize = 256;

/// Rounds at most. From the second one on free pages are clean, so nothing is added to what is looked for.
const MAX_ROUNDS: u32 = 16;

/// Above this the first byte of an overflow page can look like that of a b-tree page: 128 GiB.
const MAX_PAGES: u32 = 1 << 25;

/// The page at this byte of the file is SQLite's for its locks, and never used (section 1.4 of the file format).
const LOCK_BYTE: u64 = 1 << 30;

/// Progress of a scrub. It takes many transactions.
#[derive(Default)]
pub(super) struct Scrub {
    /// The last page that was visited in this round.
    visited: u32,
    rounds: u32,
    /// Last overflow pages that were seen, and whose row was not.
    unclear: BTreeSet<u32>,
    /// Last overflow pages whose row was seen before them.
    cleared: HashSet<u32>,
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
        if pages.count > MAX_PAGES {
            return Err(ScrubError::Unable("the file has more than 128 GiB"));
        }
        set_secure_delete(conn, true)?;
        let last = pages.count.min(self.visited.saturating_add(STEP_PAGES));
        let free = pages.free(self.visited + 1, last)?;
        let mut written = 0;
        while self.visited < last && written < STEP_WRITES {
            written += pages.clear(self.visited + 1, &free, self)?;
            self.visited += 1;
        }
        if self.visited >= pages.count { self.end_round(&pages) } else { Ok(()) }
    }

    fn end_round(&mut self, pages: &Pages<'_>) -> std::result::Result<(), ScrubError> {
        self.rounds += 1;
        let free = pages.free(1, pages.count)?;
        let mut unclear = BTreeSet::new();
        for number in std::mem::take(&mut self.unclear) {
            // What became free meanwhile was cleared then.
            if number <= pages.count && !free.has(number) && pages.is_last_of_row(number)? {
                unclear.insert(number);
            }
        }
        self.is_finished = unclear.is_empty();
        if !self.is_finished && self.rounds == MAX_ROUNDS {
            return Err(ScrubError::Unable("rows moved faster than they were found"));
        }
        (self.unclear, self.visited) = (unclear, 0);
        self.cleared.clear();
        Ok(())
    }
}

/// What is free of some pages.
#[derive(Default)]
struct Free {
    trunks: HashSet<u32>,
    leaves: HashSet<u32>,
}

impl Free {
    fn has(&self, number: u32) -> bool {
        self.trunks.contains(&number) || self.leaves.contains(&number)
    }
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

    /// Which of these pages are free.
    fn free(&self, first: u32, last: u32) -> std::result::Result<Free, ScrubError> {
        let mut free = Free::default();
        let mut next = first_trunk(&self.read(1)?)?;
        let mut left = self.count;
        while next != 0 {
            let (following, leaves) = trunk(&self.read(next)?)?;
            free.leaves.extend(leaves.into_iter().filter(|leaf| (first..=last).contains(leaf)));
            free.trunks.extend((first..=last).contains(&next).then_some(next));
            // A list that leads back to itself has no end.
            left = left.checked_sub(1).ok_or(Malformed)?;
            next = following;
        }
        Ok(free)
    }

    /// Whether a page that is not free is an overflow page, and the last one of a row.
    fn is_last_of_row(&self, number: u32) -> std::result::Result<bool, ScrubError> {
        let page = self.read(number)?;
        Ok(!is_btree(number, &page) && next_overflow(&page)? == 0)
    }

    /// Clears a page. Returns the number of pages that were written.
    fn clear(&self, number: u32, free: &Free, scrub: &mut Scrub) -> std::result::Result<usize, ScrubError> {
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
                written += self.clear_end_of_row(chain, scrub)?;
            }
        } else if next_overflow(&old)? == 0 && !scrub.cleared.remove(&number) && scrub.rounds == 0 {
            scrub.unclear.insert(number);
        }
        Ok(written + self.write(number, &old, &new)?)
    }

    /// Clears what is behind the end of a row.
    fn clear_end_of_row(&self, chain: OverflowChain, scrub: &mut Scrub) -> std::result::Result<usize, ScrubError> {
        let OverflowChain { first_page: mut number, mut bytes } = chain;
        loop {
            let old = self.read(number)?;
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
            if !scrub.unclear.remove(&number) && number > scrub.visited {
                scrub.cleared.insert(number);
            }
            return Ok(self.write(number, &old, &new)?);
        }
    }
}

fn set_secure_delete(conn: &Connection, is_on: bool) -> Result<()> {
    conn.pragma_update_and_check(None, "secure_delete", is_on, |_| Ok(()))
}

#[cfg(test)]
mod tests;
