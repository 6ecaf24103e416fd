//! Replaying and discarding dead letters.

use rusqlite::{Result, params};

use super::calls::call_from_row;
use super::transaction::Transaction;
use crate::outbox::KeyRecord;
use crate::outbox::limits::row_bytes;
use crate::segment::Call;

/// The columns of a dead letter that a replay needs.
struct ReplayRow {
    id: i64,
    call: Call,
    stored_at: i64,
    key: Option<KeyRecord>,
}

impl Transaction<'_> {
    /// Puts those of these dead letters that exist, and are calls, back behind the waiting calls, and returns their number.
    pub(super) fn replay(&mut self, ids: &[i64]) -> Result<u64> {
        let mut replayed = 0;
        for id in ids {
            if let Some(row) = self.dead_letter(*id)? {
                if self.memory.is_forgetting(|person| **row.call.user_id() == *person.user_id) {
                    self.discard(&[*id])?;
                    continue;
                }
                self.put_back(&row)?;
                replayed += 1;
            }
        }
        self.effects.replayed += replayed;
        Ok(replayed)
    }

    /// Deletes those of these dead letters that exist, and returns their number.
    pub(super) fn discard(&mut self, ids: &[i64]) -> Result<u64> {
        let mut discarded = 0;
        for id in ids {
            discarded += u64::from(self.delete_with_key(*id)?);
        }
        self.effects.discarded += discarded;
        Ok(discarded)
    }

    /// Deletes a dead letter with its key: a repeat is a new call. A key that belongs to another call by now stays.
    pub(super) fn delete_with_key(&mut self, id: i64) -> Result<bool> {
        let sql = "DELETE FROM keys WHERE key = (SELECT key FROM dead_letters WHERE id = ?1) AND dead_letter_id = ?1";
        let deleted = self.execute(sql, [id])? as u64;
        self.effects.stats.keys = self.effects.stats.keys.saturating_sub(deleted);
        self.delete_dead_letter(id)
    }

    fn dead_letter(&self, id: i64) -> Result<Option<ReplayRow>> {
        let sql = "SELECT id, user_id, call, stored_at, key, body, source FROM dead_letters
                   WHERE id = ?1 AND why <> 'unmapped'";
        self.first(sql, [id], |row| {
            let key = match (row.get(4)?, row.get(5)?) {
                (Some(key), Some(body)) => Some(KeyRecord { key, body }),
                _ => None,
            };
            Ok(ReplayRow {
                id: row.get(0)?,
                call: call_from_row(row.get(1)?, self.memory.sources.name(row.get_ref(6)?)?, row.get(2)?),
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
        self.delete_dead_letter(row.id).map(drop)
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
        let sql = "DELETE FROM dead_letters WHERE id = ?1 RETURNING length(call) + octet_length(reason) + ifnull(length(headers), 0)";
        let Some(length) = self.first(sql, [id], |row| row.get::<_, i64>(0))? else { return Ok(false) };
        let stats = &mut self.effects.stats;
        stats.dead_letters = stats.dead_letters.saturating_sub(1);
        let bytes = row_bytes(length.unsigned_abs());
        stats.dead_letter_bytes = stats.dead_letter_bytes.saturating_sub(bytes);
        Ok(true)
    }
}
