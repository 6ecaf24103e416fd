//! Refuses calls whose share of the outbox is used up, and deletes the dead letters that exceed theirs.

use rusqlite::Result;

use super::parked::Place;
use super::transaction::Transaction;
use crate::outbox::OutboxError;
use crate::outbox::limits::{FREE_DIVISOR, PARKED_DIVISOR, SOURCE_DIVISOR, USER_DIVISOR, is_over_share, row_bytes};
use crate::segment::Call;

/// Dead letters that one transaction deletes: other commands wait for it meanwhile. One transaction adds fewer on average.
const MAX_PUSHED_OUT: u64 = 256;

impl Transaction<'_> {
    /// The error if a share is used up that this call would add to.
    pub(super) fn used_up_share(&self, call: &Call, place: &Place) -> Option<OutboxError> {
        let (stats, bytes) = (&self.effects.stats, row_bytes(call.json().len() as u64));
        if stats.bytes > stats.max_bytes / FREE_DIVISOR
            // Where there is no source, `POST /customers` may take all: there is nobody to keep room for.
            && (self.memory.has_sources || self.memory.sources.has_calls())
            && self.source_bytes(call.source().map(|name| &**name)) + bytes > stats.max_bytes / SOURCE_DIVISOR
        {
            return Some(OutboxError::SourceShare);
        }
        // Other users have few calls.
        let Place::Apart(Some(row)) = place else { return None };
        let waiting = row.bytes.unsigned_abs() + self.memory.waiting_bytes(self.memory.hash(call.user_id()));
        if waiting + bytes > stats.max_bytes / USER_DIVISOR {
            return Some(OutboxError::UserShare);
        }
        // Dead letters go before a call is refused.
        let is_used_up = stats.parked_bytes + bytes > stats.max_bytes / PARKED_DIVISOR;
        (row.since.is_some() && is_used_up).then_some(OutboxError::ParkedShare)
    }

    /// Deletes the oldest dead letters, with their keys, while the share is exceeded.
    pub(super) fn push_out(&mut self) -> Result<()> {
        while is_over_share(&self.effects.stats) && self.effects.pushed_out < MAX_PUSHED_OUT {
            let oldest = self.first("SELECT id FROM dead_letters ORDER BY id LIMIT 1", [], |row| row.get(0))?;
            let Some(oldest) = oldest else { break };
            self.delete_with_key(oldest)?;
            self.effects.pushed_out += 1;
        }
        Ok(())
    }
}
