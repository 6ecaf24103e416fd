//! Events that make no customers, kept as dead letters: keeping and finding them, and replacing them by calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::types::Type;

use super::counts::Counts;
use super::durable_commit::level;
use super::operators::{Param, column, text};
use super::shared::Shared;
use super::store::PostgresOutbox;
use crate::outbox::columns::{ANY_BODY, NO_CALL, event_bytes, headers_from_blob, headers_to_blob};
use crate::outbox::limits::{EVENT_FREE_DIVISOR, PARKED_DIVISOR, room, row_bytes};
use crate::outbox::{Append, Appended, Events, KeptEvent, OutboxError, OutboxStats};

/// The pause before an event with a key is kept again whose commit was not confirmed.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps an event, unless its key belongs to a dead letter. If two relays keep it at once, the second one waits for the key. A repeat
/// writes the key again, so that its commit waits for a synchronous standby, which then has the first one, too.
const KEEP: &str = concat!(
    level!(),
    "letter AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('segment_relay.dead_letters', 'id')) AS id FROM level WHERE now IS NOT NULL
    ), claimed AS (
        INSERT INTO segment_relay.keys AS k (key, body, call_id, dead_letter_id) SELECT $1::bytea, $2, $3, id FROM letter
        WHERE $1::bytea IS NOT NULL
        ON CONFLICT (key) DO UPDATE SET dead_letter_id = coalesce(k.dead_letter_id, excluded.dead_letter_id)
        RETURNING k.dead_letter_id, k.xmax = 0 AS is_new
    ), kept AS (
        INSERT INTO segment_relay.dead_letters (id, stored_at, status, attempts, key, body, reason, call, why, source, headers)
        OVERRIDING SYSTEM VALUE
        SELECT id, 'epoch'::timestamptz + $4::bigint * interval '1 millisecond', 0, 0, $1::bytea,
            CASE WHEN $1::bytea IS NOT NULL THEN $2::bytea END, $5, $6, 'unmapped', $7::text, $8
        FROM letter WHERE $1::bytea IS NULL OR id = (SELECT dead_letter_id FROM claimed) RETURNING 1
    ), counted AS (
        INSERT INTO segment_relay.tallies (source, dead_letters, dead_letter_bytes, keys)
        SELECT $7::text, 1, $9, (SELECT count(*) FROM claimed WHERE is_new) FROM kept
    )
    SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM claimed WHERE is_new)"
);

/// Writes a key again that belongs to a dead letter, without a change.
const KNOWN: &str = concat!(
    level!(),
    "known AS (UPDATE segment_relay.keys SET dead_letter_id = dead_letter_id
        WHERE key = $1 AND dead_letter_id IS NOT NULL AND (SELECT now FROM level) IS NOT NULL RETURNING 1)
    SELECT 1 FROM known"
);

const FIND: &str = "
    SELECT source, headers, call, (extract(epoch FROM stored_at) * 1000)::bigint, reason, key
    FROM segment_relay.dead_letters WHERE id = $1 AND why = 'unmapped'";

const NOTE_REASON: &str = concat!(
    level!(),
    "noted AS MATERIALIZED (
        SELECT id, source, octet_length($2::bytea)::bigint - octet_length(reason) AS bytes FROM segment_relay.dead_letters
        WHERE id = $1 AND why = 'unmapped' AND (SELECT now FROM level) IS NOT NULL FOR UPDATE
    ), written AS (
        UPDATE segment_relay.dead_letters SET reason = $2 WHERE id = ANY(ARRAY(SELECT id FROM noted))
    ), counted AS (
        INSERT INTO segment_relay.tallies (source, dead_letter_bytes) SELECT coalesce(source, ''), bytes FROM noted
    )
    SELECT source, bytes FROM noted"
);

#[async_trait]
impl Events for PostgresOutbox {
    async fn keep(&self, event: KeptEvent, deadline: Instant) -> Result<(), OutboxError> {
        self.shared.keep_event(&event, deadline).await
    }

    async fn find(&self, id: i64) -> Result<Option<KeptEvent>, OutboxError> {
        self.shared.find_event(id).await
    }

    async fn replace(&self, id: i64, calls: Vec<Append>) -> Result<Option<Vec<Appended>>, OutboxError> {
        self.shared.replace_event(id, calls).await
    }

    async fn note_reason(&self, id: i64, reason: String) -> Result<(), OutboxError> {
        self.shared.note_event_reason(id, &reason).await
    }
}

impl Shared {
    /// Keeps an event, unless it is kept already.
    pub(super) async fn keep_event(&self, event: &KeptEvent, deadline: Instant) -> Result<(), OutboxError> {
        if deadline <= Instant::now() {
            return Err(OutboxError::Busy);
        }
        let kept = async {
            loop {
                match self.try_to_keep(event).await {
                    // Without a key it would be kept twice.
                    Err(OutboxError::Unconfirmed) if event.key.is_some() => sleep(PAUSE).await,
                    result => return result,
                }
            }
        };
        timeout_at(deadline, kept).await.unwrap_or(Err(OutboxError::Unconfirmed))
    }

    async fn try_to_keep(&self, event: &KeptEvent) -> Result<(), OutboxError> {
        let key = event.key.as_ref().map(<[u8; 16]>::as_slice);
        let bytes = row_bytes(event_bytes(event));
        let refused = refusal(&self.figures.lock().stats(), bytes);
        if let Some(error) = refused {
            if let Some(key) = key
                && !self.write_rows(KNOWN, &[(&key, Type::BYTEA)]).await?.is_empty()
            {
                return Ok(());
            }
            if error == OutboxError::ParkedShare {
                self.metrics.share_exhausted_parked.inc();
            }
            return Err(error);
        }
        let params: [Param<'_>; 9] = [
            (&key, Type::BYTEA),
            (&ANY_BODY.as_slice(), Type::BYTEA),
            (&NO_CALL, Type::INT8),
            (&event.received_at, Type::INT8),
            (&event.reason.as_bytes(), Type::BYTEA),
            (&&event.body[..], Type::BYTEA),
            (&&*event.source, Type::TEXT),
            (&headers_to_blob(&event.headers), Type::BYTEA),
            (&bytes.cast_signed(), Type::INT8),
        ];
        let rows = self.write_rows(KEEP, &params).await?;
        let Some(row) = rows.first() else { return Err(OutboxError::Unconfirmed) };
        let (kept, keys): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        if kept > 0 {
            let counts = Counts { dead_letters: 1, dead_letter_bytes: bytes.cast_signed(), keys, ..Counts::default() };
            self.figures.lock().note(Some(&event.source), counts);
            tracing::warn!(events = kept, "events made no valid customers; they are dead letters now");
        }
        Ok(())
    }

    /// The event of this dead letter, if it is one.
    pub(super) async fn find_event(&self, id: i64) -> Result<Option<KeptEvent>, OutboxError> {
        let rows = self.read_rows(FIND, &[(&id, Type::INT8)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(KeptEvent {
            source: column::<Option<&str>>(row, 0)?.unwrap_or_default().into(),
            headers: headers_from_blob(column::<Option<&[u8]>>(row, 1)?.unwrap_or_default()),
            body: column::<Vec<u8>>(row, 2)?.into(),
            received_at: column(row, 3)?,
            reason: text(row, 4)?,
            key: column::<Option<&[u8]>>(row, 5)?.and_then(|key| key.try_into().ok()),
        }))
    }

    /// Notes why the event of this dead letter makes no customers now.
    pub(super) async fn note_event_reason(&self, id: i64, reason: &str) -> Result<(), OutboxError> {
        let rows = self.write_rows(NOTE_REASON, &[(&id, Type::INT8), (&reason.as_bytes(), Type::BYTEA)]).await?;
        for row in &rows {
            let source: Option<Arc<str>> = column::<Option<&str>>(row, 0)?.map(Into::into);
            let counts = Counts { dead_letter_bytes: column(row, 1)?, ..Counts::default() };
            self.figures.lock().note(source.as_ref(), counts);
        }
        Ok(())
    }
}

/// Why there is no room for an event with this many bytes. Dead letters go before it, parked calls do not.
fn refusal(stats: &OutboxStats, bytes: u64) -> Option<OutboxError> {
    if room(stats) < bytes + stats.max_bytes / EVENT_FREE_DIVISOR {
        return Some(OutboxError::Full);
    }
    (stats.parked_bytes + bytes > stats.max_bytes / PARKED_DIVISOR).then_some(OutboxError::ParkedShare)
}
