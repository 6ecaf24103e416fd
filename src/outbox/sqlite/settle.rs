//! Settling calls: accepted calls are deleted, refused calls become dead letters. The windows of their keys begin.

use rusqlite::{Result, params};

use super::transaction::Transaction;
use crate::outbox::store::{CallId, DeliveryOutcome};
use crate::segment::{Delivered, Refusal};

impl Transaction<'_> {
    /// Settles those of these calls that are waiting. The ids of accepted calls are mostly consecutive: each run of
    /// them is deleted by one statement.
    pub(super) fn settle(&mut self, delivered: &[Delivered]) -> Result<()> {
        let is_accepted = |delivered: &&Delivered| delivered.outcome.is_ok();
        let mut accepted: Vec<CallId> = delivered.iter().filter(is_accepted).map(|delivered| delivered.id).collect();
        accepted.sort_unstable();
        for run in accepted.chunk_by(|one, next| next - one <= 1) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            for id in self.delete_calls(*first, *last)? {
                self.effects.delivered += 1;
                self.effects.outcomes.push((id, DeliveryOutcome::Accepted));
            }
        }
        for Delivered { id, outcome } in delivered {
            let Err(refusal) = outcome else { continue };
            self.insert_dead_letter(*id, refusal)?;
            for id in self.delete_calls(*id, *id)? {
                self.effects.refused += 1;
                self.effects.outcomes.push((id, DeliveryOutcome::Refused(refusal.reason.clone())));
            }
        }
        Ok(())
    }

    /// Deletes the waiting calls from `first` to `last`, starts the windows of their keys, and returns their ids.
    fn delete_calls(&mut self, first: CallId, last: CallId) -> Result<Vec<CallId>> {
        let deleted: Vec<(CallId, Option<Vec<u8>>)> = self
            .conn
            .prepare_cached("DELETE FROM calls WHERE id BETWEEN ?1 AND ?2 RETURNING id, key")?
            .query_map([first, last], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        self.counters.waiting = self.counters.waiting.saturating_sub(deleted.len() as u64);
        for (id, key) in &deleted {
            let Some(key) = key else { continue };
            let sql = "INSERT INTO settled_keys (settled_at, key, call_id) VALUES (?1, ?2, ?3)";
            self.execute(sql, params![self.now, key, id])?;
            self.effects.settled_keys = true;
        }
        Ok(deleted.into_iter().map(|(id, _)| id).collect())
    }

    /// Copies a waiting call to the dead letters, and records the dead letter with the call's key.
    fn insert_dead_letter(&mut self, id: CallId, refusal: &Refusal) -> Result<()> {
        let added = self.execute(
            "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call)
             SELECT user_id, stored_at, ?2, ?3, ?4, calls.key, keys.body, ?5, call
             FROM calls LEFT JOIN keys ON keys.key = calls.key WHERE calls.id = ?1",
            params![id, self.now, refusal.status, refusal.attempts, refusal.reason],
        )?;
        if added > 0 {
            self.counters.dead_letters += 1;
            self.execute(
                "UPDATE keys SET dead_letter_id = ?2
                 WHERE key = (SELECT key FROM calls WHERE id = ?1) AND call_id = ?1",
                [id, self.conn.last_insert_rowid()],
            )?;
        }
        Ok(())
    }
}
