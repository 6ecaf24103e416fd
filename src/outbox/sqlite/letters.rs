//! What an operator does to dead letters: replay and discard.

use rusqlite::{OptionalExtension, Result, Row, params};

use super::append::call;
use super::command::{Done, ROW_OVERHEAD, ReplayAll};
use super::inbox::GROUP_BYTES;
use super::transaction::Transaction;
use crate::outbox::KeyRecord;
use crate::segment::Call;

/// How many dead letters one transaction replays: other commands wait for it meanwhile.
const LETTERS_AT_ONCE: usize = 256;

/// What of a dead letter becomes a call again.
struct Letter {
    id: i64,
    call: Call,
    stored_at: i64,
    key: Option<KeyRecord>,
}

impl Transaction<'_> {
    /// Puts one dead letter back behind the waiting calls.
    pub(super) fn replay(&mut self, id: i64) -> Result<bool> {
        let letter = self
            .conn
            .prepare_cached("SELECT id, user_id, call, stored_at, key, body FROM dead_letters WHERE id = ?1")?
            .query_row([id], Letter::read)
            .optional()?;
        letter.map_or(Ok(false), |letter| self.put_back(&letter).map(|()| true))
    }

    /// Puts the next few back, of those that were there when it began.
    pub(super) fn replay_some(&mut self, all: &mut ReplayAll) -> Result<Done> {
        let up_to = match all.up_to {
            Some(up_to) => up_to,
            None => *all.up_to.insert(self.newest_letter()?),
        };
        let mut bytes = 0;
        for _ in 0..LETTERS_AT_ONCE {
            // As much as a whole group may bring.
            if bytes >= GROUP_BYTES {
                return Ok(Done::Again);
            }
            let letter = self
                .conn
                .prepare_cached(
                    "SELECT id, user_id, call, stored_at, key, body FROM dead_letters
                     WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1",
                )?
                .query_row([all.after, up_to], Letter::read)
                .optional()?;
            let Some(letter) = letter else { return Ok(Done::Count(all.replayed)) };
            self.put_back(&letter)?;
            bytes += ROW_OVERHEAD + letter.call.json().len();
            all.after = letter.id;
            all.replayed += 1;
        }
        Ok(Done::Again)
    }

    /// Deletes a dead letter. Its key goes on saying that the call was refused, until its window is over.
    pub(super) fn discard(&mut self, id: i64) -> Result<bool> {
        let was = self.delete_letter(id)?;
        self.effects.discarded += u64::from(was);
        Ok(was)
    }

    fn newest_letter(&self) -> Result<i64> {
        self.conn.query_row("SELECT ifnull(max(id), 0) FROM dead_letters", [], |row| row.get(0))
    }

    /// The call keeps the time when it was first stored: the oldest one that waits is the one that waited longest.
    fn put_back(&mut self, letter: &Letter) -> Result<()> {
        let id = self.counters.last_id + 1;
        let key = match letter.key {
            Some(key) if self.take_over(&key, letter.id, id)? => Some(key),
            _ => None,
        };
        self.store(&letter.call, key.as_ref().map(|key| key.key.as_slice()), letter.stored_at)?;
        self.delete_letter(letter.id)?;
        // It was stored before.
        self.effects.stored -= 1;
        self.effects.replayed += 1;
        Ok(())
    }

    /// Lets a dead letter's key wait again, with the call `id`; one that was forgotten is remembered anew. False if it
    /// belongs to another call by now.
    fn take_over(&mut self, key: &KeyRecord, letter: i64, id: i64) -> Result<bool> {
        let own = self
            .conn
            .prepare_cached(
                "UPDATE keys SET call_id = ?3, dead_letter_id = NULL WHERE key = ?1 AND dead_letter_id = ?2",
            )?
            .execute(params![key.key, letter, id])?;
        Ok(own > 0 || self.remember(key, id)?)
    }

    fn delete_letter(&mut self, id: i64) -> Result<bool> {
        let deleted = self.conn.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id])? as u64;
        self.counters.dead_letters = self.counters.dead_letters.saturating_sub(deleted);
        Ok(deleted > 0)
    }
}

impl Letter {
    fn read(row: &Row<'_>) -> Result<Self> {
        let key = match (row.get(4)?, row.get(5)?) {
            (Some(key), Some(body)) => Some(KeyRecord { key, body }),
            _ => None,
        };
        Ok(Self { id: row.get(0)?, call: call(row.get(1)?, row.get(2)?), stored_at: row.get(3)?, key })
    }
}
