//! Calls that leave: accepted, as dead letters, or deleted with their person. The statements find rows by their ids alone, in
//! both tables of calls.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database_error::DatabaseError;
use super::figures::UserKey;
use super::transaction::{Transaction, column};
use crate::outbox::{CallId, DeliveryOutcome};

/// What those hear who wait for the outcome of a deleted call.
const FORGOTTEN: &str = "the person was forgotten";

/// Accepted calls: the windows of their keys begin.
const ACCEPT: &str = "
    WITH c AS (DELETE FROM segment_relay.calls WHERE id = ANY($1)
            RETURNING id, NULL::bytea AS user_key, source, octet_length(call)::bigint + 128 AS bytes, key),
        a AS (DELETE FROM segment_relay.parked_calls WHERE id = ANY($1)
            RETURNING id, user_key, source, octet_length(call)::bigint + 128 AS bytes, key),
        l AS (SELECT id, user_key, source, bytes, key FROM c UNION ALL SELECT id, user_key, source, bytes, key FROM a),
        k AS (INSERT INTO segment_relay.settled_keys (source, key, call_id)
            SELECT coalesce(source, ''), key, id FROM l WHERE key IS NOT NULL ORDER BY id)
    SELECT id, user_key, source, bytes FROM l";

/// Calls of a forgotten person: their keys are deleted, so that a repeat is a new call.
const FORGET: &str = "
    WITH c AS (DELETE FROM segment_relay.calls WHERE id = ANY($1)
            RETURNING id, NULL::bytea AS user_key, source, octet_length(call)::bigint + 128 AS bytes, key),
        a AS (DELETE FROM segment_relay.parked_calls WHERE id = ANY($1)
            RETURNING id, user_key, source, octet_length(call)::bigint + 128 AS bytes, key),
        l AS (SELECT id, user_key, source, bytes, key FROM c UNION ALL SELECT id, user_key, source, bytes, key FROM a),
        k AS (DELETE FROM segment_relay.keys WHERE key = ANY(ARRAY(SELECT key FROM l WHERE key IS NOT NULL))
            AND call_id = ANY($1) RETURNING 1)
    SELECT id, user_key, source, bytes, (SELECT count(*) FROM k) FROM l";

/// Dead letters, in the order of the array, with their keys. An update of a key is written as an insert, because that finds the key
/// by its index whatever the planner knows. The requests that held a call before it was parked count, too.
const LETTERS: &str = "
    WITH i AS (SELECT id, status, attempts, reason, why, place FROM unnest($1::bigint[], $2::int[], $3::int[], $4::bytea[], $5::text[])
            WITH ORDINALITY AS i (id, status, attempts, reason, why, place)),
        c AS (DELETE FROM segment_relay.calls WHERE id = ANY($1)
            RETURNING id, NULL::bytea AS parked_key, user_id, stored_at, key, source, call),
        a AS (DELETE FROM segment_relay.parked_calls WHERE id = ANY($1)
            RETURNING id, user_key AS parked_key, user_id, stored_at, key, source, call),
        l AS (SELECT id, parked_key, user_id, stored_at, key, source, call FROM c
            UNION ALL SELECT id, parked_key, user_id, stored_at, key, source, call FROM a),
        ordered AS MATERIALIZED (
            SELECT l.id, l.parked_key, l.user_id, l.stored_at, l.key, l.source, l.call, i.status, i.reason, i.why,
                i.attempts + coalesce((SELECT p.attempts FROM segment_relay.parked p
                    WHERE p.user_key = l.parked_key AND p.since IS NOT NULL LIMIT 1), 0) AS attempts,
                (SELECT k.body FROM segment_relay.keys k WHERE k.key = l.key LIMIT 1) AS body
            FROM i JOIN l ON l.id = i.id ORDER BY i.place),
        numbered AS MATERIALIZED (
            SELECT nextval(pg_get_serial_sequence('segment_relay.dead_letters', 'id')) AS letter, id, parked_key, user_id, stored_at,
                key, source, call, status, reason, why, attempts, body FROM ordered),
        written AS (INSERT INTO segment_relay.dead_letters (id, user_id, stored_at, refused_at, status, attempts, key, body, reason, call,
                why, source) OVERRIDING SYSTEM VALUE
            SELECT letter, user_id, stored_at, clock_timestamp(), status, attempts, key, body, reason, call, why, source FROM numbered),
        k AS (INSERT INTO segment_relay.keys (key, body, call_id, dead_letter_id)
            SELECT key, body, id, letter FROM numbered WHERE key IS NOT NULL AND body IS NOT NULL ORDER BY key
            ON CONFLICT (key) DO UPDATE SET dead_letter_id = excluded.dead_letter_id WHERE keys.call_id = excluded.call_id)
    SELECT id, parked_key, source, octet_length(call)::bigint + 128,
        octet_length(call)::bigint + octet_length(reason) + 128 FROM numbered";

/// Deletes dead letters with their keys: a repeat is a new call. A key that belongs to another call by now stays.
const DELETE_LETTERS: &str = "
    WITH d AS (DELETE FROM segment_relay.dead_letters WHERE id = ANY($1) RETURNING id, key, source,
            octet_length(call)::bigint + octet_length(reason) + coalesce(octet_length(headers), 0) + 128 AS bytes),
        k AS (DELETE FROM segment_relay.keys WHERE key = ANY(ARRAY(SELECT key FROM d WHERE key IS NOT NULL))
            AND dead_letter_id = ANY($1) RETURNING 1)
    SELECT source, count(*), sum(bytes)::bigint, (SELECT count(*) FROM k) FROM d GROUP BY source";

/// Why a call becomes a dead letter.
#[derive(Clone, Debug)]
pub(super) struct LetterCause {
    pub(super) id: CallId,
    pub(super) why: &'static str,
    /// 0: there was no answer.
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) attempts: u32,
}

/// A call that left those that are kept apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftApart {
    pub(super) user: UserKey,
    pub(super) bytes: i64,
}

impl Transaction<'_> {
    /// Deletes accepted calls. Those that were kept apart are returned.
    pub(super) async fn accept(&mut self, ids: &[CallId]) -> Result<Vec<LeftApart>, DatabaseError> {
        let mut apart = Vec::new();
        if ids.is_empty() {
            return Ok(apart);
        }
        for row in self.query(ACCEPT, &[(&ids, Type::INT8_ARRAY)]).await? {
            self.note_left(&row, &mut apart)?;
            self.effects.accepted += 1;
        }
        // Those whose rows are gone were accepted by a commit of which nothing was heard.
        self.effects.outcomes.extend(ids.iter().map(|id| (*id, DeliveryOutcome::Accepted)));
        Ok(apart)
    }

    /// Deletes calls of a forgotten person.
    pub(super) async fn forget(&mut self, ids: &[CallId]) -> Result<Vec<LeftApart>, DatabaseError> {
        let (mut apart, mut keys) = (Vec::new(), 0);
        if ids.is_empty() {
            return Ok(apart);
        }
        for row in self.query(FORGET, &[(&ids, Type::INT8_ARRAY)]).await? {
            self.note_left(&row, &mut apart)?;
            let id = column(&row, 0)?;
            self.effects.outcomes.push((id, DeliveryOutcome::GaveUp(FORGOTTEN.to_owned())));
            self.effects.forgotten.push(id);
            keys = column(&row, 4)?;
        }
        self.effects.tallies.of(None).keys -= keys;
        Ok(apart)
    }

    /// Makes calls dead letters.
    pub(super) async fn make_letters(&mut self, causes: &[LetterCause]) -> Result<Vec<LeftApart>, DatabaseError> {
        let mut apart = Vec::new();
        if causes.is_empty() {
            return Ok(apart);
        }
        let ids: Vec<CallId> = causes.iter().map(|cause| cause.id).collect();
        let statuses: Vec<i32> = causes.iter().map(|cause| cause.status.into()).collect();
        let attempts: Vec<i32> =
            causes.iter().map(|cause| i32::try_from(cause.attempts).unwrap_or(i32::MAX / 2)).collect();
        let reasons: Vec<&[u8]> = causes.iter().map(|cause| cause.reason.as_bytes()).collect();
        let whys: Vec<&str> = causes.iter().map(|cause| cause.why).collect();
        let rows = self
            .query(
                LETTERS,
                &[
                    (&ids, Type::INT8_ARRAY),
                    (&statuses, Type::INT4_ARRAY),
                    (&attempts, Type::INT4_ARRAY),
                    (&reasons, Type::BYTEA_ARRAY),
                    (&whys, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        for row in &rows {
            self.note_left(row, &mut apart)?;
            let (id, source): (CallId, Option<&str>) = (column(row, 0)?, column(row, 2)?);
            let counts = self.effects.tallies.of(source);
            counts.dead_letters += 1;
            counts.dead_letter_bytes += column::<i64>(row, 4)?;
            let Some(cause) = causes.iter().find(|cause| cause.id == id) else { continue };
            let is_refused = cause.why == "refused";
            self.effects.refused += u64::from(is_refused);
            self.effects.given_up += u64::from(!is_refused);
        }
        for LetterCause { id, why, reason, .. } in causes {
            let outcome = if *why == "refused" { DeliveryOutcome::Refused } else { DeliveryOutcome::GaveUp };
            self.effects.outcomes.push((*id, outcome(reason.clone())));
        }
        Ok(apart)
    }

    /// Deletes dead letters with their keys, and returns their number.
    pub(super) async fn delete_letters(&mut self, ids: &[i64]) -> Result<u64, DatabaseError> {
        let (mut deleted, mut keys) = (0, 0);
        if ids.is_empty() {
            return Ok(0);
        }
        for row in self.query(DELETE_LETTERS, &[(&ids, Type::INT8_ARRAY)]).await? {
            let (letters, bytes): (i64, i64) = (column(&row, 1)?, column(&row, 2)?);
            let counts = self.effects.tallies.of(column(&row, 0)?);
            (counts.dead_letters, counts.dead_letter_bytes) =
                (counts.dead_letters - letters, counts.dead_letter_bytes - bytes);
            (deleted, keys) = (deleted + letters.unsigned_abs(), column(&row, 3)?);
        }
        self.effects.tallies.of(None).keys -= keys;
        Ok(deleted)
    }

    /// Counts a call that left: its id, its user if it was kept apart, its source and its bytes.
    fn note_left(&mut self, row: &Row, apart: &mut Vec<LeftApart>) -> Result<(), DatabaseError> {
        let (user, source, bytes): (Option<&[u8]>, Option<&str>, i64) =
            (column(row, 1)?, column(row, 2)?, column(row, 3)?);
        self.effects.tallies.left(source, bytes);
        if let Some(user) = user.and_then(|user| user.try_into().ok()) {
            apart.push(LeftApart { user, bytes });
        }
        Ok(())
    }
}
