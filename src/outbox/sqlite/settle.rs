//! Settling a call: an accepted one is deleted, a refused one becomes a dead letter. Its key is remembered for a while yet.

use rusqlite::{OptionalExtension, Result, params};

use super::transaction::Transaction;
use crate::outbox::{CallId, Outcome};
use crate::segment::{Delivered, Refusal};

impl Transaction<'_> {
    /// Settles one call, if it waits.
    pub(super) fn settle(&mut self, delivered: &Delivered) -> Result<()> {
        if let Err(refusal) = &delivered.outcome {
            self.bury(delivered.id, refusal)?;
        }
        let key = self
            .conn
            .prepare_cached("DELETE FROM calls WHERE id = ?1 RETURNING key")?
            .query_row([delivered.id], |row| row.get::<_, Option<Vec<u8>>>(0))
            .optional()?;
        let Some(key) = key else { return Ok(()) };
        self.counters.waiting = self.counters.waiting.saturating_sub(1);
        if let Some(key) = key {
            self.forget_later(&key, delivered.id)?;
        }
        let outcome = match &delivered.outcome {
            Ok(()) => {
                self.effects.delivered += 1;
                Outcome::Accepted
            }
            Err(refusal) => {
                self.effects.refused += 1;
                Outcome::Refused(refusal.reason.clone())
            }
        };
        self.effects.told.push((delivered.id, outcome));
        Ok(())
    }

    /// Copies a waiting call to the dead letters; its key says so from now on.
    fn bury(&mut self, id: CallId, refusal: &Refusal) -> Result<()> {
        let added = self
            .conn
            .prepare_cached(
                "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call)
                 SELECT user_id, stored_at, ?2, ?3, ?4, calls.key, keys.body, ?5, call
                 FROM calls LEFT JOIN keys ON keys.key = calls.key WHERE calls.id = ?1",
            )?
            .execute(params![id, self.now, refusal.status, refusal.attempts, refusal.reason])?;
        if added == 0 {
            return Ok(());
        }
        let letter = self.conn.last_insert_rowid();
        self.counters.dead_letters += 1;
        self.conn
            .prepare_cached(
                "UPDATE keys SET dead_letter_id = ?2
                 WHERE key = (SELECT key FROM calls WHERE id = ?1) AND call_id = ?1",
            )?
            .execute([id, letter])?;
        Ok(())
    }

    /// Lets the window of a settled call's key begin.
    fn forget_later(&mut self, key: &[u8], call_id: CallId) -> Result<()> {
        self.conn
            .prepare_cached("INSERT INTO settled_keys (settled_at, key, call_id) VALUES (?1, ?2, ?3)")?
            .execute(params![self.now, key, call_id])?;
        self.effects.settled_keys = true;
        Ok(())
    }
}
