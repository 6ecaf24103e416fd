//! Replaying and discarding dead letters. A letter that two relays replay at once is locked by one of them, and gone for the other.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::counts::Counts;
use super::durable_commit::level;
use super::operators::column;
use super::shared::Shared;
use super::store::PostgresOutbox;
use crate::outbox::{DeadLetters, LetterFilter, LetterIds, LetterPage, OutboxError};

/// Letters that one transaction puts back or deletes.
const STEP_LETTERS: usize = 256;

/// Puts letters back as an append would store them, in the order of the array. A call keeps the time at which it was first stored, so
/// that the age of the oldest call stays true. Its key is that of the new call, unless it belongs to another one by now.
///
/// Letters are locked in the order of their ids, and keys are written in their own order, so that two transactions do not wait for each
/// other.
const REPLAY: &str = concat!(
    level!(),
    "locked AS MATERIALIZED (
        SELECT id FROM segment_relay.dead_letters WHERE id = ANY($1) AND why <> 'unmapped' AND (SELECT now FROM level) IS NOT NULL
        ORDER BY id FOR UPDATE
    ), taken AS (
        DELETE FROM segment_relay.dead_letters WHERE id = ANY(ARRAY(SELECT id FROM locked))
        RETURNING id, user_id, stored_at, key, body, source, call, octet_length(call)::bigint + octet_length(reason) + 128 AS bytes
    ), numbered AS MATERIALIZED (
        SELECT (((SELECT base FROM segment_relay.meta) + pg_current_xact_id()::text::bigint) << 16)
                + row_number() OVER (ORDER BY array_position($1, id)) AS call_id,
            id, user_id, stored_at, key, body, source, call, bytes
        FROM taken
    ), reclaimed AS (
        INSERT INTO segment_relay.keys AS k (key, body, call_id)
        SELECT DISTINCT ON (n.key) n.key, n.body, n.call_id FROM numbered n WHERE n.key IS NOT NULL AND n.body IS NOT NULL
        ORDER BY n.key,
            (SELECT o.dead_letter_id FROM segment_relay.keys o WHERE o.key = n.key LIMIT 1) IS NOT DISTINCT FROM n.id DESC
        ON CONFLICT (key) DO UPDATE SET call_id = excluded.call_id, dead_letter_id = NULL
            WHERE k.dead_letter_id = (SELECT n.id FROM numbered n WHERE n.call_id = excluded.call_id)
        RETURNING k.call_id, k.xmax = 0 AS is_new
    ), stored AS (
        INSERT INTO segment_relay.calls (id, user_key, user_id, stored_at, key, source, call)
        SELECT call_id, substr(sha256(user_id), 1, 16), user_id, stored_at,
            CASE WHEN call_id IN (SELECT call_id FROM reclaimed) THEN key END, source, call
        FROM numbered ORDER BY call_id
    ), changed AS MATERIALIZED (
        SELECT source, count(*) AS letters, sum(octet_length(call)::bigint + 128)::bigint AS waiting_bytes,
            sum(bytes)::bigint AS letter_bytes, 0::bigint AS keys
        FROM numbered GROUP BY source
        UNION ALL SELECT NULL, 0, 0, 0, count(*) FROM reclaimed WHERE is_new HAVING count(*) > 0
    ), counted AS (
        INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys)
        SELECT coalesce(source, ''), letters, waiting_bytes, -letters, -letter_bytes, keys FROM changed
    )
    SELECT source, letters, waiting_bytes, letter_bytes, keys, (SELECT max(call_id) FROM numbered) FROM changed"
);

/// Deletes letters with their keys: a repeat is a new call. A key that belongs to another call by now stays.
pub(super) const DISCARD: &str = concat!(
    level!(),
    "locked AS MATERIALIZED (
        SELECT id FROM segment_relay.dead_letters WHERE id = ANY($1) AND (SELECT now FROM level) IS NOT NULL
        ORDER BY id FOR UPDATE
    ), deleted AS (
        DELETE FROM segment_relay.dead_letters WHERE id = ANY(ARRAY(SELECT id FROM locked))
        RETURNING key, source,
            octet_length(call)::bigint + octet_length(reason) + coalesce(octet_length(headers), 0) + 128 AS bytes
    ), forgotten AS (
        DELETE FROM segment_relay.keys WHERE key = ANY(ARRAY(SELECT key FROM deleted WHERE key IS NOT NULL))
            AND dead_letter_id = ANY($1) RETURNING 1
    ), changed AS MATERIALIZED (
        SELECT source, count(*) AS letters, sum(bytes)::bigint AS letter_bytes, 0::bigint AS keys FROM deleted GROUP BY source
        UNION ALL SELECT NULL, 0, 0, count(*) FROM forgotten HAVING count(*) > 0
    ), counted AS (
        INSERT INTO segment_relay.tallies (source, dead_letters, dead_letter_bytes, keys)
        SELECT coalesce(source, ''), -letters, -letter_bytes, -keys FROM changed
    )
    SELECT source, letters, letter_bytes, keys FROM changed"
);

#[async_trait]
impl DeadLetters for PostgresOutbox {
    async fn list(&self, limit: usize, filter: LetterFilter) -> Result<LetterPage, OutboxError> {
        self.shared.list_letters(limit, filter).await
    }

    async fn find(&self, from: i64, limit: usize, filter: LetterFilter) -> Result<LetterIds, OutboxError> {
        self.shared.find_letters(from, limit, &filter).await
    }

    async fn replay(&self, ids: Vec<i64>) -> Result<u64, OutboxError> {
        self.shared.replay_letters(&ids).await
    }

    async fn discard(&self, ids: Vec<i64>) -> Result<u64, OutboxError> {
        self.shared.discard_letters(&ids).await
    }
}

impl Shared {
    /// Puts those of these letters that exist, and are calls, back behind the waiting calls. Returns their number.
    pub(super) async fn replay_letters(&self, ids: &[i64]) -> Result<u64, OutboxError> {
        let mut replayed = 0;
        for ids in ids.chunks(STEP_LETTERS) {
            let rows = self.write_rows(REPLAY, &[(&ids, Type::INT8_ARRAY)]).await?;
            for row in &rows {
                let (letters, bytes): (i64, i64) = (column(row, 1)?, column(row, 3)?);
                let counts = Counts {
                    waiting: letters,
                    waiting_bytes: column(row, 2)?,
                    dead_letters: -letters,
                    dead_letter_bytes: -bytes,
                    keys: column(row, 4)?,
                    ..Counts::default()
                };
                let source = column::<Option<&str>>(row, 0)?.map(Into::into);
                let mut figures = self.figures.lock();
                figures.note(source.as_ref(), counts);
                column::<Option<i64>>(row, 5)?.into_iter().for_each(|id| figures.note_id(id));
                replayed += letters.unsigned_abs();
                self.metrics.dead_letters_replayed.inc_by(letters.unsigned_abs());
                self.metrics.outbox_stored.inc_by(letters.unsigned_abs());
            }
            self.wake.notify_one();
        }
        Ok(replayed)
    }

    /// Deletes those of these letters that exist, and returns their number.
    pub(super) async fn discard_letters(&self, ids: &[i64]) -> Result<u64, OutboxError> {
        let mut discarded = 0;
        for ids in ids.chunks(STEP_LETTERS) {
            let rows = self.write_rows(DISCARD, &[(&ids, Type::INT8_ARRAY)]).await?;
            let deleted = self.note_deleted(&rows)?;
            self.metrics.dead_letters_discarded.inc_by(deleted);
            discarded += deleted;
        }
        Ok(discarded)
    }

    /// Notes the letters that [`DISCARD`] deleted, after the commit. Returns their number.
    pub(super) fn note_deleted(&self, rows: &[Row]) -> Result<u64, OutboxError> {
        let mut deleted = 0;
        for row in rows {
            let (letters, bytes, keys): (i64, i64, i64) = (column(row, 1)?, column(row, 2)?, column(row, 3)?);
            let counts = Counts { dead_letters: -letters, dead_letter_bytes: -bytes, keys: -keys, ..Counts::default() };
            let source = column::<Option<&str>>(row, 0)?.map(Into::into);
            self.figures.lock().note(source.as_ref(), counts);
            deleted += letters.unsigned_abs();
        }
        Ok(deleted)
    }
}
