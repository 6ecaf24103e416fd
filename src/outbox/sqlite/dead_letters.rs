//! Replaying and discarding dead letters.

use rusqlite::{Result, params};

use super::calls::call_from_row;
use super::transaction::{MAX_TRANSACTION_BYTES, ROW_OVERHEAD, Transaction, row_bytes};
use crate::outbox::KeyRecord;
use crate::segment::Call;

/// Dead letters that one transaction replays: other commands wait for it meanwhile.
const MAX_LETTERS: usize = 256;

/// Progress of the replay of all dead letters. It takes several transactions, and other commands run between them.
#[derive(Default)]
pub(super) struct ReplayAll {
    /// The greatest id when the replay began.
    last: Option<i64>,
    /// The lowest id that may be left.
    next: i64,
    replayed: u64,
    pub(super) is_finished: bool,
}

/// The columns of a dead letter that a replay needs.
struct ReplayRow {
    id: i64,
    call: Call,
    stored_at: i64,
    key: Option<KeyRecord>,
}

impl Transaction<'_> {
    /// Puts one dead letter back behind the waiting calls. False if there is none with this id.
    pub(super) fn replay(&mut self, id: i64) -> Result<bool> {
        let row = self.first_dead_letter(id, id)?;
        row.map_or(Ok(false), |row| self.put_back(&row).map(|()| true))
    }

    /// Puts back the next dead letters of those that existed when the replay began, and returns the number so far.
    pub(super) fn replay_next(&mut self, all: &mut ReplayAll) -> Result<u64> {
        let newest = "SELECT ifnull(max(id), 0) FROM dead_letters";
        let last = match all.last {
            Some(last) => last,
            None => *all.last.insert(self.conn.query_row(newest, [], |row| row.get(0))?),
        };
        let (mut letters, mut bytes) = (0, 0);
        while letters < MAX_LETTERS && bytes < MAX_TRANSACTION_BYTES {
            let Some(row) = self.first_dead_letter(all.next, last)? else {
                all.is_finished = true;
                break;
            };
            self.put_back(&row)?;
            letters += 1;
            bytes += ROW_OVERHEAD + row.call.json().len();
            all.next = row.id.saturating_add(1);
            all.replayed += 1;
        }
        Ok(all.replayed)
    }

    /// Deletes a dead letter with its key: a repeat is a new call. A key that belongs to another call by now stays.
    pub(super) fn discard(&mut self, id: i64) -> Result<bool> {
        let is_deleted = self.delete_with_key(id)?;
        self.effects.discarded += u64::from(is_deleted);
        Ok(is_deleted)
    }

    /// The same, for a dead letter that nobody discarded.
    pub(super) fn delete_with_key(&mut self, id: i64) -> Result<bool> {
        let sql = "DELETE FROM keys WHERE key = (SELECT key FROM dead_letters WHERE id = ?1) AND dead_letter_id = ?1";
        let deleted = self.execute(sql, [id])? as u64;
        self.effects.stats.keys = self.effects.stats.keys.saturating_sub(deleted);
        self.delete_dead_letter(id)
    }

    /// The first dead letter whose id is between these two.
    fn first_dead_letter(&self, from: i64, to: i64) -> Result<Option<ReplayRow>> {
        let sql = "SELECT id, user_id, call, stored_at, key, body FROM dead_letters
                   WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";
        self.first(sql, [from, to], |row| {
            let key = match (row.get(4)?, row.get(5)?) {
                (Some(key), Some(body)) => Some(KeyRecord { key, body }),
                _ => None,
            };
            Ok(ReplayRow {
                id: row.get(0)?,
                call: call_from_row(row.get(1)?, row.get(2)?),
                stored_at: row.get(3)?,
                key,
            })
        })
    }

    /// The call keeps the time at which it was first stored, so that the age of the oldest call stays true.
    fn put_back(&mut self, row: &ReplayRow) -> Result<()> {
        let id = self.effects.stats.last_id + 1;
        let key = match &row.key {
            Some(key) if self.reclaim_key(key, row.id, id)? => Some(key.key.as_slice()),
            _ => None,
        };
        self.insert_call(&row.call, key, row.stored_at)?;
        self.delete_dead_letter(row.id)?;
        self.effects.replayed += 1;
        Ok(())
    }

    /// Assigns a dead letter's key to the new call `id`. Files of version 1 forgot keys of dead letters: such a key is
    /// stored again. False if it belongs to another call by now.
    fn reclaim_key(&mut self, key: &KeyRecord, dead_letter: i64, id: i64) -> Result<bool> {
        let sql = "UPDATE keys SET call_id = ?3, dead_letter_id = NULL WHERE key = ?1 AND dead_letter_id = ?2";
        let updated = self.execute(sql, params![key.key, dead_letter, id])?;
        Ok(updated > 0 || self.insert_key(key, id)?)
    }

    /// Deletes a dead letter, but not its key. False if there is none with this id.
    pub(super) fn delete_dead_letter(&mut self, id: i64) -> Result<bool> {
        let sql = "DELETE FROM dead_letters WHERE id = ?1 RETURNING length(call), octet_length(reason)";
        let lengths = self.first(sql, [id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let Some((call, reason)) = lengths else { return Ok(false) };
        let stats = &mut self.effects.stats;
        stats.dead_letters = stats.dead_letters.saturating_sub(1);
        let bytes = row_bytes(call.unsigned_abs() + reason.unsigned_abs());
        stats.dead_letter_bytes = stats.dead_letter_bytes.saturating_sub(bytes);
        Ok(true)
    }
}
