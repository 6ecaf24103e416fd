//! Settling calls: an accepted one is deleted, a refused one becomes a dead letter. Its key is remembered for a while yet.

use rusqlite::{Result, params};

use super::transaction::Transaction;
use crate::outbox::{CallId, Outcome};
use crate::segment::{Delivered, Refusal};

impl Transaction<'_> {
    /// Settles those of these calls that wait. Accepted ones mostly follow each other, and are deleted a run at a time.
    pub(super) fn settle(&mut self, delivered: &[Delivered]) -> Result<()> {
        let is_accepted = |delivered: &&Delivered| delivered.outcome.is_ok();
        let mut accepted: Vec<CallId> = delivered.iter().filter(is_accepted).map(|delivered| delivered.id).collect();
        accepted.sort_unstable();
        for run in accepted.chunk_by(|one, next| next - one <= 1) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            for id in self.delete(*first, *last)? {
                self.effects.delivered += 1;
                self.effects.told.push((id, Outcome::Accepted));
            }
        }
        for delivered in delivered {
            if let Err(refusal) = &delivered.outcome {
                self.refused(delivered.id, refusal)?;
            }
        }
        Ok(())
    }

    fn refused(&mut self, id: CallId, refusal: &Refusal) -> Result<()> {
        self.bury(id, refusal)?;
        for id in self.delete(id, id)? {
            self.effects.refused += 1;
            self.effects.told.push((id, Outcome::Refused(refusal.reason.clone())));
        }
        Ok(())
    }

    /// Deletes the calls that wait from `first` to `last`, and says which these were. The windows of their keys begin.
    fn delete(&mut self, first: CallId, last: CallId) -> Result<Vec<CallId>> {
        let gone: Vec<(CallId, Option<Vec<u8>>)> = self
            .conn
            .prepare_cached("DELETE FROM calls WHERE id BETWEEN ?1 AND ?2 RETURNING id, key")?
            .query_map([first, last], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        self.counters.waiting = self.counters.waiting.saturating_sub(gone.len() as u64);
        for (id, key) in &gone {
            if let Some(key) = key {
                self.forget_later(key, *id)?;
            }
        }
        Ok(gone.into_iter().map(|(id, _)| id).collect())
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
