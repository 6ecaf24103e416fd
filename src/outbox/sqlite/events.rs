//! Events that make no customers, kept as dead letters: keeping, finding and replacing them.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::transaction::Transaction;
use crate::outbox::columns::{ANY_BODY, NO_CALL, event_bytes, headers_from_blob, headers_to_blob};
use crate::outbox::limits::{EVENT_FREE_DIVISOR, PARKED_DIVISOR, row_bytes};
use crate::outbox::{Append, Appended, KeptEvent, KeyRecord, LetterWhy, OutboxError};

/// The event of this dead letter, if it is one.
pub(super) fn find(conn: &Connection, id: i64) -> Result<Option<KeptEvent>> {
    let sql =
        "SELECT source, headers, call, stored_at, reason, key FROM dead_letters WHERE id = ?1 AND why = 'unmapped'";
    let event = |row: &Row<'_>| {
        Ok(KeptEvent {
            source: row.get::<_, Option<String>>(0)?.unwrap_or_default().into(),
            headers: headers_from_blob(&row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default()),
            body: row.get::<_, Vec<u8>>(2)?.into(),
            received_at: row.get(3)?,
            reason: row.get(4)?,
            key: row.get(5)?,
        })
    };
    conn.prepare_cached(sql)?.query_row([id], event).optional()
}

impl Transaction<'_> {
    /// Keeps an event, unless it is kept already.
    pub(super) fn keep(&mut self, event: &KeptEvent) -> Result<std::result::Result<(), OutboxError>> {
        let sql = "SELECT 1 FROM keys WHERE key = ?1 AND dead_letter_id IS NOT NULL";
        if let Some(key) = event.key
            && self.first(sql, [key], |_| Ok(()))?.is_some()
        {
            return Ok(Ok(()));
        }
        let (stats, bytes) = (&self.effects.stats, row_bytes(event_bytes(event)));
        if self.room < bytes + stats.max_bytes / EVENT_FREE_DIVISOR {
            return Ok(Err(OutboxError::Full));
        }
        // Dead letters go before it, parked calls do not.
        if stats.parked_bytes + bytes > stats.max_bytes / PARKED_DIVISOR {
            self.effects.refused_for_shares.parked += 1;
            return Ok(Err(OutboxError::ParkedShare));
        }
        self.room -= bytes;
        let sql = "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why, source, headers)
                   VALUES ('', ?1, ?2, 0, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.execute(
            sql,
            params![
                event.received_at,
                self.now,
                event.key,
                event.key.map(|_| ANY_BODY),
                event.reason,
                &event.body[..],
                LetterWhy::Unmapped.as_str(),
                event.source,
                headers_to_blob(&event.headers),
            ],
        )?;
        let letter = self.conn.last_insert_rowid();
        let stats = &mut self.effects.stats;
        (stats.dead_letters, stats.dead_letter_bytes) = (stats.dead_letters + 1, stats.dead_letter_bytes + bytes);
        if let Some(key) = event.key {
            self.insert_key(&KeyRecord { key, body: ANY_BODY }, NO_CALL)?;
            self.execute("UPDATE keys SET dead_letter_id = ?2 WHERE key = ?1", params![key, letter])?;
        }
        self.effects.kept_events += 1;
        Ok(Ok(()))
    }

    /// Stores the calls that an event makes now, all or none, and deletes its dead letter. `None` if it is gone.
    pub(super) fn replace(
        &mut self,
        id: i64,
        appends: &[Append],
    ) -> Result<std::result::Result<Option<Vec<Appended>>, OutboxError>> {
        if self.reason_length(id)?.is_none() {
            return Ok(Ok(None));
        }
        if self.is_of_forgotten(id, appends)? {
            self.discard(&[id])?;
            return Ok(Ok(None));
        }
        let appended = match self.append_all(appends)? {
            Ok(appended) => appended,
            Err(error) => return Ok(Err(error)),
        };
        self.delete_with_key(id)?;
        self.effects.replayed_events += 1;
        Ok(Ok(Some(appended)))
    }

    /// Whether the event of this dead letter, or a call that it makes, is of a person who is being forgotten.
    fn is_of_forgotten(&self, id: i64, appends: &[Append]) -> Result<bool> {
        if self.memory.forgetting.is_empty() {
            return Ok(false);
        }
        let event = find(self.conn, id)?;
        Ok(self.memory.is_forgetting(|person| {
            appends.iter().any(|append| **append.call.user_id() == *person.user_id)
                || event.as_ref().is_some_and(|event| {
                    person.is_in(&event.body) || event.headers.iter().any(|(_, value)| person.is_in(value))
                })
        }))
    }

    /// Notes why the event of this dead letter makes no customers now.
    pub(super) fn note_reason(&mut self, id: i64, reason: &str) -> Result<()> {
        let Some(length) = self.reason_length(id)? else { return Ok(()) };
        self.execute("UPDATE dead_letters SET reason = ?2 WHERE id = ?1", params![id, reason])?;
        let bytes = &mut self.effects.stats.dead_letter_bytes;
        *bytes = bytes.saturating_add(reason.len() as u64).saturating_sub(length);
        Ok(())
    }

    /// Bytes of the reason of this dead letter, if it is an event.
    fn reason_length(&self, id: i64) -> Result<Option<u64>> {
        let sql = "SELECT octet_length(reason) FROM dead_letters WHERE id = ?1 AND why = 'unmapped'";
        self.first(sql, [id], |row| row.get(0).map(i64::unsigned_abs))
    }
}
