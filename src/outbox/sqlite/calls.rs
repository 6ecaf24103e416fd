//! Storing and settling calls, each with the record of its key in the same transaction.
//!
//! Accepted calls are deleted, and the windows of their keys begin. Refused calls become dead letters, with which their
//! keys stay. Calls that fail on their own are kept apart (`parked`).

use std::sync::Arc;

use rusqlite::{Result, Row, params};
use tokio::sync::oneshot;

use super::parked::{LetterCause, Place};
use super::trace::trace_column;
use super::transaction::Transaction;
use crate::outbox::limits::row_bytes;
use crate::outbox::wishes::Wish;
use crate::outbox::{Append, Appended, CallId, DeliveryOutcome, KeyRecord, OutboxError, StoredCall};
use crate::segment::{Call, CallOutcome, Refusal, SettledCall};

/// A row of `keys`.
struct KnownKey {
    body: [u8; 16],
    call_id: CallId,
    dead_letter_id: Option<i64>,
}

/// A call that does not wait any more.
struct LeftCall {
    id: CallId,
    key: Option<Vec<u8>>,
    length: i64,
    source: Option<Arc<str>>,
}

impl Transaction<'_> {
    /// Stores a call, unless a call with its key was stored before.
    pub(super) fn append(&mut self, append: &Append) -> Result<Result<Appended, OutboxError>> {
        let id = self.effects.stats.last_id + 1;
        let place = self.place(&append.call)?;
        let full = if self.room == 0 { Some(OutboxError::Full) } else { self.used_up_share(&append.call, &place) };
        let known = match &append.key {
            Some(key) if full.is_some() || !self.insert_key(key, id)? => self.find_key(key)?,
            _ => None,
        };
        if let Some(known) = known {
            return self.answer_repeat(append, &known);
        }
        if let Some(error) = full {
            let shares = &mut self.effects.refused_for_shares;
            shares.user += u64::from(error == OutboxError::UserShare);
            shares.parked += u64::from(error == OutboxError::ParkedShare);
            shares.source += u64::from(error == OutboxError::SourceShare);
            return Ok(Err(error));
        }
        self.insert(&append.call, append.key.as_ref().map(|key| key.key.as_slice()), self.now, place)?;
        // The last call may exceed the room: `KEPT_FREE` is larger than any call.
        self.room = self.room.saturating_sub(row_bytes(append.call.json().len() as u64));
        Ok(Ok(Appended { replayed: false, outcome: append.watch.then(|| self.watch(id, None)) }))
    }

    /// Stores a call behind all others.
    pub(super) fn insert_call(&mut self, call: &Call, key: Option<&[u8]>, stored_at: i64) -> Result<()> {
        let place = self.place(call)?;
        self.insert(call, key, stored_at, place)
    }

    fn insert(&mut self, call: &Call, key: Option<&[u8]>, stored_at: i64, place: Place) -> Result<()> {
        let (id, bytes) = (self.effects.stats.last_id + 1, row_bytes(call.json().len() as u64));
        match place {
            Place::Apart(row) => self.insert_apart(call, key, stored_at, row)?,
            Place::Calls => {
                self.execute(
                    "INSERT INTO calls (id, user_id, stored_at, key, call, source, trace) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![id, call.user_id(), stored_at, key, &call.json()[..], call.source(), trace_column(call)],
                )?;
                self.memory.enter_calls(self.memory.hash(call.user_id()), bytes);
                self.effects.new_calls.push(StoredCall { id, call: call.clone(), is_parked: false });
            }
        }
        self.effects.stats.last_id = id;
        self.count_waiting(call.source(), bytes);
        self.effects.stored += 1;
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
        // Every caller is told of a dead letter; only those who wait are told of anything else.
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
            let sql = "SELECT why = 'refused', reason FROM dead_letters WHERE id = ?1";
            let (is_refused, reason) = self.first(sql, [id], |row| row.try_into())?.unwrap_or((true, String::new()));
            return Ok(Some(match is_refused {
                true => DeliveryOutcome::Refused(reason),
                false => DeliveryOutcome::GaveUp(reason),
            }));
        }
        let sql = "SELECT 1 FROM calls WHERE id = ?1 UNION ALL SELECT 1 FROM parked_calls WHERE id = ?1";
        let waits = self.first(sql, [known.call_id], |_| Ok(()))?.is_some();
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
            match outcome {
                CallOutcome::Accepted => {}
                _ if self.memory.wish_of(*id) == Some(Wish::Forget) => {
                    self.forget_call(*id)?;
                    self.memory.forgotten.insert(*id);
                }
                CallOutcome::Refused(Refusal { status, reason, attempts }) => {
                    self.make_dead_letter(
                        *id,
                        &LetterCause { why: "refused", status: *status, reason, attempts: *attempts },
                    )?;
                }
                CallOutcome::Parked(trouble) => self.park(*id, trouble)?,
                CallOutcome::Behind | CallOutcome::TakenBack => self.put_apart(*id)?,
            }
        }
        self.effects.returned.extend(delivered.iter().map(|settled| settled.id));
        Ok(())
    }

    /// Deletes the waiting calls from `first` to `last`, which have this outcome. Starts the windows of their keys if
    /// they are accepted: the key of a refused call is remembered for as long as its dead letter.
    pub(super) fn delete_calls(&mut self, first: CallId, last: CallId, outcome: &DeliveryOutcome) -> Result<()> {
        // The length and the source are mostly known: those of calls that are out are in memory.
        let memory = &*self.memory;
        let left = |row: &Row<'_>| {
            let id = row.get(0)?;
            let (length, source) = match memory.out_call(id) {
                Some(known) => known,
                None => (row.get(2)?, memory.sources.name(row.get_ref(3)?)?),
            };
            Ok(LeftCall { id, key: row.get(1)?, length, source })
        };
        let sql = match (first..=last).all(|id| memory.is_out(id)) {
            true => "DELETE FROM calls WHERE id BETWEEN ?1 AND ?2 RETURNING id, key",
            false => "DELETE FROM calls WHERE id BETWEEN ?1 AND ?2 RETURNING id, key, length(call), source",
        };
        let mut deleted: Vec<LeftCall> =
            self.conn.prepare_cached(sql)?.query_map([first, last], left)?.collect::<Result<_>>()?;
        if self.effects.stats.parked_calls > 0 && (deleted.len() as u64) <= last.abs_diff(first) {
            let sql = "DELETE FROM parked_calls WHERE id BETWEEN ?1 AND ?2
                       RETURNING id, key, length(call), source, user_id";
            let apart: Vec<(LeftCall, String)> = self
                .conn
                .prepare_cached(sql)?
                .query_map([first, last], |row| Ok((left(row)?, row.get(4)?)))?
                .collect::<Result<_>>()?;
            for (call, user_id) in apart {
                self.left_apart(&user_id, call.length)?;
                deleted.push(call);
            }
        }
        for LeftCall { id, key, length, source } in deleted {
            self.count_left(source.as_ref(), row_bytes(length.unsigned_abs()));
            if let (Some(key), DeliveryOutcome::Accepted) = (key, outcome) {
                self.begin_window(source, &key, id)?;
            }
            self.effects.outcomes.push((id, outcome.clone()));
        }
        Ok(())
    }

    /// Begins the window of an accepted call's key.
    fn begin_window(&mut self, source: Option<Arc<str>>, key: &[u8], id: CallId) -> Result<()> {
        let Some(name) = &source else {
            let sql = "INSERT INTO settled_keys (settled_at, key, call_id) VALUES (?1, ?2, ?3)";
            self.execute(sql, params![self.now, key, id])?;
            self.effects.settled_keys.insert(None);
            return Ok(());
        };
        let sql = "INSERT INTO settled_source_keys (source, seq, settled_at, key, call_id)
                   VALUES (?1, 1 + ifnull((SELECT max(seq) FROM settled_source_keys WHERE source = ?1), 0), ?2, ?3, ?4)";
        self.execute(sql, params![name, self.now, key, id])?;
        self.effects.settled_keys.insert(source);
        Ok(())
    }

    /// Makes a waiting call a dead letter, and records the dead letter with the call's key.
    pub(super) fn make_dead_letter(&mut self, id: CallId, cause: &LetterCause<'_>) -> Result<()> {
        let LetterCause { why, status, reason, attempts } = *cause;
        let values = params![id, self.now, status, attempts, reason, why];
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let sql =
            "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why, source)
             SELECT user_id, stored_at, ?2, ?3, ?4, calls.key, keys.body, ?5, call, ?6, source
             FROM calls LEFT JOIN keys ON keys.key = calls.key WHERE calls.id = ?1
             RETURNING id, length(call)";
        // The requests that held the call before it was parked count, too.
        let apart =
            "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why, source)
             SELECT waiting.user_id, stored_at, ?2, ?3,
                ?4 + ifnull((SELECT attempts FROM parked WHERE user_id = waiting.user_id AND since IS NOT NULL), 0),
                waiting.key, keys.body, ?5, call, ?6, source
             FROM parked_calls AS waiting LEFT JOIN keys ON keys.key = waiting.key WHERE waiting.id = ?1
             RETURNING id, length(call)";
        let mut added = self.first(sql, values, read)?;
        if added.is_none() && self.effects.stats.parked_calls > 0 {
            added = self.first(apart, values, read)?;
        }
        let Some((letter, length)) = added else { return Ok(()) };
        let stats = &mut self.effects.stats;
        stats.dead_letters += 1;
        stats.dead_letter_bytes += row_bytes(length.unsigned_abs() + reason.len() as u64);
        self.execute(
            "UPDATE keys SET dead_letter_id = ?2 WHERE call_id = ?1
             AND key = (SELECT key FROM calls WHERE id = ?1 UNION ALL SELECT key FROM parked_calls WHERE id = ?1)",
            [id, letter],
        )?;
        let is_refused = why == "refused";
        self.effects.refused += u64::from(is_refused);
        self.effects.given_up += u64::from(!is_refused);
        let outcome = if is_refused { DeliveryOutcome::Refused } else { DeliveryOutcome::GaveUp };
        self.delete_calls(id, id, &outcome(reason.to_owned()))
    }
}

/// A call from the columns of its row.
pub(super) fn call_from_row(user_id: String, source: Option<Arc<str>>, json: Vec<u8>) -> Call {
    Call::from_wire(Arc::from(user_id), source, json.into())
}
