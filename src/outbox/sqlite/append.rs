//! Storing a call and the record of its key, in one transaction.

use std::sync::Arc;

use rusqlite::{Result, params};
use tokio::sync::oneshot;

use super::transaction::{ROW_OVERHEAD, Transaction};
use crate::outbox::error::OutboxError;
use crate::outbox::store::{Append, Appended, CallId, DeliveryOutcome, KeyRecord, StoredCall};
use crate::segment::Call;

/// The reason of a refused call whose dead letter, which held Segment's message, was deleted.
const LETTER_IS_GONE: &str = "Segment refused this call; its dead letter was discarded since";

/// A row of `keys`.
struct KnownKey {
    body: [u8; 16],
    call_id: CallId,
    dead_letter_id: Option<i64>,
}

impl Transaction<'_> {
    /// Stores a call, unless a call with its key was stored before.
    pub(super) fn append(&mut self, append: &Append) -> Result<Result<Appended, OutboxError>> {
        if self.room == 0 {
            return match append.key.map(|key| self.find_key(&key)).transpose()?.flatten() {
                Some(known) => self.answer_repeat(append, &known),
                None => Ok(Err(OutboxError::Full)),
            };
        }
        let id = self.counters.last_id + 1;
        if let Some(key) = &append.key
            && !self.insert_key(key, id)?
            && let Some(known) = self.find_key(key)?
        {
            return self.answer_repeat(append, &known);
        }
        self.insert_call(&append.call, append.key.as_ref().map(|key| key.key.as_slice()), self.now)?;
        // The last call may exceed the room: `KEPT_FREE` is larger than any call.
        self.room = self.room.saturating_sub((ROW_OVERHEAD + append.call.json().len()) as u64);
        Ok(Ok(Appended { replayed: false, outcome: append.watch.then(|| self.watch(id)) }))
    }

    /// Stores a call behind all others.
    pub(super) fn insert_call(&mut self, call: &Call, key: Option<&[u8]>, stored_at: i64) -> Result<()> {
        let id = self.counters.last_id + 1;
        self.execute(
            "INSERT INTO calls (id, user_id, stored_at, key, call) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, call.user_id(), stored_at, key, &call.json()[..]],
        )?;
        self.counters.last_id = id;
        self.counters.waiting += 1;
        self.effects.stored += 1;
        self.effects.new_calls.push(StoredCall { id, call: call.clone() });
        Ok(())
    }

    /// Stores a key for the call with this id. False if the key is known already.
    pub(super) fn insert_key(&mut self, key: &KeyRecord, call_id: CallId) -> Result<bool> {
        let sql = "INSERT INTO keys (key, body, call_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let added = self.execute(sql, params![key.key, key.body, call_id])?;
        self.counters.keys += added as u64;
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
        if !append.watch {
            return Ok(Ok(Appended { replayed: true, outcome: None }));
        }
        let outcome = match self.outcome(known)? {
            None => self.watch(known.call_id),
            Some(outcome) => {
                let (sender, receiver) = oneshot::channel();
                // This cannot fail: the receiver still exists.
                let _ = sender.send(outcome);
                receiver
            }
        };
        Ok(Ok(Appended { replayed: true, outcome: Some(outcome) }))
    }

    /// The outcome of a key's call; `None` while the call waits.
    fn outcome(&self, known: &KnownKey) -> Result<Option<DeliveryOutcome>> {
        if let Some(id) = known.dead_letter_id {
            let reason = self.first("SELECT reason FROM dead_letters WHERE id = ?1", [id], |row| row.get(0))?;
            return Ok(Some(DeliveryOutcome::Refused(reason.unwrap_or_else(|| LETTER_IS_GONE.to_owned()))));
        }
        let waits = self.first("SELECT 1 FROM calls WHERE id = ?1", [known.call_id], |_| Ok(()))?.is_some();
        Ok((!waits).then_some(DeliveryOutcome::Accepted))
    }

    fn watch(&mut self, id: CallId) -> oneshot::Receiver<DeliveryOutcome> {
        let (sender, receiver) = oneshot::channel();
        self.effects.watchers.push((id, sender));
        receiver
    }
}

/// A call from the columns of its row.
pub(super) fn call_from_row(user_id: String, json: Vec<u8>) -> Call {
    Call::from_wire(Arc::from(user_id), json.into())
}
