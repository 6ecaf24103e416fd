//! Storing and settling calls, each with the record of its key in the same transaction.
//!
//! Accepted calls are deleted, and the windows of their keys begin. Refused calls become dead letters, with which their
//! keys stay.

use std::sync::Arc;

use rusqlite::{Result, params};
use tokio::sync::oneshot;

use super::transaction::{Transaction, row_bytes};
use crate::outbox::{Append, Appended, CallId, DeliveryOutcome, KeyRecord, OutboxError, StoredCall};
use crate::segment::{Call, CallOutcome, Refusal, SettledCall};

/// A row of `keys`.
struct KnownKey {
    body: [u8; 16],
    call_id: CallId,
    dead_letter_id: Option<i64>,
}

impl Transaction<'_> {
    /// Stores a call, unless a call with its key was stored before.
    pub(super) fn append(&mut self, append: &Append) -> Result<Result<Appended, OutboxError>> {
        let (id, is_full) = (self.effects.stats.last_id + 1, self.room == 0);
        let known = match &append.key {
            Some(key) if is_full || !self.insert_key(key, id)? => self.find_key(key)?,
            _ => None,
        };
        if let Some(known) = known {
            return self.answer_repeat(append, &known);
        }
        if is_full {
            return Ok(Err(OutboxError::Full));
        }
        self.insert_call(&append.call, append.key.as_ref().map(|key| key.key.as_slice()), self.now)?;
        // The last call may exceed the room: `KEPT_FREE` is larger than any call.
        self.room = self.room.saturating_sub(row_bytes(append.call.json().len() as u64));
        Ok(Ok(Appended { replayed: false, outcome: append.watch.then(|| self.watch(id, None)) }))
    }

    /// Stores a call behind all others.
    pub(super) fn insert_call(&mut self, call: &Call, key: Option<&[u8]>, stored_at: i64) -> Result<()> {
        let id = self.effects.stats.last_id + 1;
        self.execute(
            "INSERT INTO calls (id, user_id, stored_at, key, call) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, call.user_id(), stored_at, key, &call.json()[..]],
        )?;
        self.effects.stats.last_id = id;
        self.effects.stats.waiting += 1;
        self.effects.new_calls.push(StoredCall { id, call: call.clone(), is_parked: false });
        Ok(())
    }

    /// Stores a key for the call with this id. False if the key is known already.
    pub(super) fn insert_key(&mut self, key: &KeyRecord, call_id: CallId) -> Result<bool> {
        let sql = "INSERT INTO keys (key, body, call_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let added = self.execute(sql, params![key.key, key.body, call_id])?;
        self.effects.stats.keys += added as u64;
        Ok(added > 0)
    }

    fn find_key(&self, key: &KeyRecord) -> Result<Option<KnownKey>> {
        self.first("SELECT body, call_id, dead_letter_id FROM keys WHERE key = ?1", [key.key], |row| {
            Ok(KnownKey { body: row.get(0)?, call_id: row.get(1)?, dead_letter_id: row.get(2)? })
        })
    }

    /// The result for a request whose key is known.
    fn answer_repeat(&mut self, append: &Append, known: &KnownKey) -> Result<Result<Appended, OutboxError>> {
        if append.key.is_some_and(|key| key.body != known.body) {
            return Ok(Err(OutboxError::KeyReused));
        }
        // Every caller is told of a refusal; only those who wait are told of anything else.
        if !append.watch && known.dead_letter_id.is_none() {
            return Ok(Ok(Appended { replayed: true, outcome: None }));
        }
        let outcome = self.outcome(known)?;
        Ok(Ok(Appended { replayed: true, outcome: Some(self.watch(known.call_id, outcome)) }))
    }

    /// The outcome of a key's call; `None` while the call waits.
    fn outcome(&self, known: &KnownKey) -> Result<Option<DeliveryOutcome>> {
        if let Some(id) = known.dead_letter_id {
            // The dead letter is there: its key is deleted with it.
            let reason = self.first("SELECT reason FROM dead_letters WHERE id = ?1", [id], |row| row.get(0))?;
            return Ok(Some(DeliveryOutcome::Refused(reason.unwrap_or_default())));
        }
        let waits = self.first("SELECT 1 FROM calls WHERE id = ?1", [known.call_id], |_| Ok(()))?.is_some();
        Ok((!waits).then_some(DeliveryOutcome::Accepted))
    }

    /// Receives the outcome of a call: at once, if it is known.
    fn watch(&mut self, id: CallId, outcome: Option<DeliveryOutcome>) -> oneshot::Receiver<DeliveryOutcome> {
        let (sender, receiver) = oneshot::channel();
        match outcome {
            // This cannot fail: the receiver still exists.
            Some(outcome) => drop(sender.send(outcome)),
            None => self.effects.watchers.push((id, sender)),
        }
        receiver
    }

    /// Settles those of these calls that are waiting. The ids of accepted calls are mostly consecutive: each run of
    /// them is deleted by one statement.
    pub(super) fn settle(&mut self, delivered: &[SettledCall]) -> Result<()> {
        let is_accepted = |delivered: &&SettledCall| delivered.outcome == CallOutcome::Accepted;
        let mut accepted: Vec<CallId> = delivered.iter().filter(is_accepted).map(|delivered| delivered.id).collect();
        accepted.sort_unstable();
        for run in accepted.chunk_by(|one, next| next - one <= 1) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.delete_calls(*first, *last, &DeliveryOutcome::Accepted)?;
            }
        }
        for SettledCall { id, outcome } in delivered {
            if let CallOutcome::Refused(refusal) = outcome {
                self.insert_dead_letter(*id, refusal)?;
                self.delete_calls(*id, *id, &DeliveryOutcome::Refused(refusal.reason.clone()))?;
            }
        }
        Ok(())
    }

    /// Deletes the waiting calls from `first` to `last`, which have this outcome. Starts the windows of their keys if
    /// they are accepted: the key of a refused call is remembered for as long as its dead letter.
    fn delete_calls(&mut self, first: CallId, last: CallId, outcome: &DeliveryOutcome) -> Result<()> {
        let deleted: Vec<(CallId, Option<Vec<u8>>)> = self
            .conn
            .prepare_cached("DELETE FROM calls WHERE id BETWEEN ?1 AND ?2 RETURNING id, key")?
            .query_map([first, last], |row| row.try_into())?
            .collect::<Result<_>>()?;
        self.effects.stats.waiting = self.effects.stats.waiting.saturating_sub(deleted.len() as u64);
        for (id, key) in deleted {
            if let (Some(key), DeliveryOutcome::Accepted) = (key, outcome) {
                let sql = "INSERT INTO settled_keys (settled_at, key, call_id) VALUES (?1, ?2, ?3)";
                self.execute(sql, params![self.now, key, id])?;
                self.effects.settled_keys = true;
            }
            self.effects.outcomes.push((id, outcome.clone()));
        }
        Ok(())
    }

    /// Copies a waiting call to the dead letters, and records the dead letter with the call's key.
    fn insert_dead_letter(&mut self, id: CallId, refusal: &Refusal) -> Result<()> {
        let sql = "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call)
             SELECT user_id, stored_at, ?2, ?3, ?4, calls.key, keys.body, ?5, call
             FROM calls LEFT JOIN keys ON keys.key = calls.key WHERE calls.id = ?1
             RETURNING id, length(call)";
        let values = params![id, self.now, refusal.status, refusal.attempts, refusal.reason];
        let added = self.first(sql, values, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        if let Some((letter, length)) = added {
            let stats = &mut self.effects.stats;
            stats.dead_letters += 1;
            stats.dead_letter_bytes += row_bytes(length.unsigned_abs() + refusal.reason.len() as u64);
            self.effects.refused += 1;
            self.execute(
                "UPDATE keys SET dead_letter_id = ?2
                 WHERE key = (SELECT key FROM calls WHERE id = ?1) AND call_id = ?1",
                [id, letter],
            )?;
        }
        Ok(())
    }
}

/// A call from the columns of its row.
pub(super) fn call_from_row(user_id: String, json: Vec<u8>) -> Call {
    Call::from_wire(Arc::from(user_id), json.into())
}
