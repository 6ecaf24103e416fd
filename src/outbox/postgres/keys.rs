//! What is known of idempotency keys: their calls, and the outcomes of these.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

use super::connect::Connection;
use super::database_error::DatabaseError;
use crate::outbox::{CallId, DeliveryOutcome};

/// A digest, as it is stored.
pub(super) type Digest = [u8; 16];

/// What is known of a key.
pub(super) struct KnownKey {
    pub(super) body: Digest,
    pub(super) call_id: CallId,
    pub(super) is_dead_letter: bool,
    /// `None` while the call waits.
    pub(super) outcome: Option<DeliveryOutcome>,
}

/// Reads what is known of these keys, in one snapshot.
pub(super) async fn look_up(
    connection: &Connection,
    keys: &[Digest],
) -> Result<HashMap<Digest, KnownKey>, DatabaseError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT known.key, known.body, known.call_id, known.dead_letter_id IS NOT NULL,
            (SELECT l.why = 'refused' FROM segment_relay.dead_letters l WHERE l.id = known.dead_letter_id LIMIT 1),
            (SELECT l.reason FROM segment_relay.dead_letters l WHERE l.id = known.dead_letter_id LIMIT 1),
            (SELECT true FROM segment_relay.calls c WHERE c.id = known.call_id LIMIT 1) IS NOT NULL
            OR (SELECT true FROM segment_relay.parked_calls p WHERE p.id = known.call_id LIMIT 1) IS NOT NULL
        FROM unnest($1::bytea[]) AS wanted (key) CROSS JOIN LATERAL (
            SELECT k.key, k.body, k.call_id, k.dead_letter_id FROM segment_relay.keys k WHERE k.key = wanted.key
            ORDER BY k.key LIMIT 1
        ) AS known";
    let wanted: Vec<&[u8]> = keys.iter().map(<[u8; 16]>::as_slice).collect();
    let rows = connection.query(sql, &[(&wanted, Type::BYTEA_ARRAY)]).await?;
    rows.iter().map(known_key).collect::<Result<_, _>>().map_err(|error| DatabaseError::of_statement(&error))
}

fn known_key(row: &Row) -> Result<(Digest, KnownKey), Error> {
    let digest = |column: usize| row.try_get(column).map(|bytes: &[u8]| bytes.try_into().unwrap_or_default());
    let (is_dead_letter, waits): (bool, bool) = (row.try_get(3)?, row.try_get(6)?);
    let outcome = if is_dead_letter {
        // The dead letter is there: its key is deleted with it.
        let (is_refused, reason): (Option<bool>, Option<&[u8]>) = (row.try_get(4)?, row.try_get(5)?);
        let reason = String::from_utf8_lossy(reason.unwrap_or_default()).into_owned();
        let outcome = if is_refused.unwrap_or(true) { DeliveryOutcome::Refused } else { DeliveryOutcome::GaveUp };
        Some(outcome(reason))
    } else {
        (!waits).then_some(DeliveryOutcome::Accepted)
    };
    Ok((digest(0)?, KnownKey { body: digest(1)?, call_id: row.try_get(2)?, is_dead_letter, outcome }))
}
