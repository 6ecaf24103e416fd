//! Storing a call: the call, and the record of its key, in one transaction.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Result, Row, params};
use tokio::sync::oneshot;

use super::command::ROW_OVERHEAD;
use super::transaction::Transaction;
use crate::outbox::{Append, Appended, CallId, KeyRecord, OutboxError, Outcome, Stored};
use crate::segment::Call;

/// What is said of a refused call whose dead letter was deleted, and Segment's words with it.
const LETTER_IS_GONE: &str = "Segment refused this call; its dead letter was discarded since";

/// A key's call, which is there already.
struct Known {
    body: Vec<u8>,
    call_id: CallId,
    dead_letter_id: Option<i64>,
}

impl Transaction<'_> {
    /// Stores a call, unless its key's call is there.
    pub(super) fn append(&mut self, append: &Append) -> Result<Result<Appended, OutboxError>> {
        if self.room == 0 {
            return match append.key.map(|key| self.known(&key)).transpose()?.flatten() {
                Some(known) => self.repeated(append, &known),
                None => Ok(Err(OutboxError::Full)),
            };
        }
        let id = self.counters.last_id + 1;
        if let Some(key) = &append.key
            && !self.remember(key, id)?
            && let Some(known) = self.known(key)?
        {
            return self.repeated(append, &known);
        }
        self.store(&append.call, append.key.as_ref().map(|key| key.key.as_slice()), self.now)?;
        // The last one may take more: the reserve is larger than any call.
        self.room = self.room.saturating_sub((ROW_OVERHEAD + append.call.json().len()) as u64);
        Ok(Ok(Appended { replayed: false, outcome: append.watch.then(|| self.watch(id)) }))
    }

    /// Puts a call behind all others.
    pub(super) fn store(&mut self, call: &Call, key: Option<&[u8]>, stored_at: i64) -> Result<CallId> {
        let id = self.counters.last_id + 1;
        self.conn
            .prepare_cached("INSERT INTO calls (id, user_id, stored_at, key, call) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, call.user_id(), stored_at, key, &call.json()[..]])?;
        self.counters.last_id = id;
        self.counters.waiting += 1;
        self.effects.stored += 1;
        self.effects.fresh.push(Stored { id, call: call.clone() });
        Ok(id)
    }

    /// Records a key for the call with this id. False if the key is there already.
    pub(super) fn remember(&mut self, key: &KeyRecord, call_id: CallId) -> Result<bool> {
        let added = self
            .conn
            .prepare_cached("INSERT INTO keys (key, body, call_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute(params![key.key, key.body, call_id])?;
        self.counters.keys += added as u64;
        Ok(added > 0)
    }

    fn known(&self, key: &KeyRecord) -> Result<Option<Known>> {
        let known = |row: &Row<'_>| Ok(Known { body: row.get(0)?, call_id: row.get(1)?, dead_letter_id: row.get(2)? });
        self.conn
            .prepare_cached("SELECT body, call_id, dead_letter_id FROM keys WHERE key = ?1")?
            .query_row([key.key], known)
            .optional()
    }

    /// Answers a request that was made before.
    fn repeated(&mut self, append: &Append, known: &Known) -> Result<Result<Appended, OutboxError>> {
        if append.key.is_some_and(|key| key.body[..] != known.body[..]) {
            return Ok(Err(OutboxError::KeyReused));
        }
        if !append.watch {
            return Ok(Ok(Appended { replayed: true, outcome: None }));
        }
        let outcome = match self.outcome(known)? {
            None => self.watch(known.call_id),
            Some(outcome) => {
                let (say, hear) = oneshot::channel();
                // The other end is in this hand.
                let _ = say.send(outcome);
                hear
            }
        };
        Ok(Ok(Appended { replayed: true, outcome: Some(outcome) }))
    }

    /// What became of a key's call; nothing yet while it waits.
    fn outcome(&self, known: &Known) -> Result<Option<Outcome>> {
        if let Some(id) = known.dead_letter_id {
            let words = self
                .conn
                .prepare_cached("SELECT reason FROM dead_letters WHERE id = ?1")?
                .query_row([id], |row| row.get::<_, String>(0))
                .optional()?;
            return Ok(Some(Outcome::Refused(words.unwrap_or_else(|| LETTER_IS_GONE.to_owned()))));
        }
        let waits = self.conn.prepare_cached("SELECT 1 FROM calls WHERE id = ?1")?.exists([known.call_id])?;
        Ok((!waits).then_some(Outcome::Accepted))
    }

    fn watch(&mut self, id: CallId) -> oneshot::Receiver<Outcome> {
        let (say, hear) = oneshot::channel();
        self.effects.watching.push((id, say));
        hear
    }
}

/// A call from its row.
pub(super) fn call(user_id: String, json: Vec<u8>) -> Call {
    Call::from_wire(Arc::from(user_id), json.into())
}
