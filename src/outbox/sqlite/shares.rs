//! Shares of the outbox: the calls of parked users and dead letters take at most half of it together, and the waiting calls of
//! one user at most an eighth. So what is refused or stuck never keeps other calls out. Once the outbox is half full, the waiting
//! calls of one source take at most a quarter. Events that make no customers leave an eighth to the calls of others.

use rusqlite::Result;

use super::parked::Place;
use super::transaction::{Transaction, row_bytes};
use crate::outbox::{OutboxError, OutboxStats};
use crate::segment::Call;

/// The calls of parked users and dead letters take at most one part in this many of the outbox.
pub(super) const PARKED_DIVISOR: u64 = 2;

/// The waiting calls of a user take at most one part in this many of it.
const USER_DIVISOR: u64 = 8;

/// While the outbox is filled to one part in this many at most, a source may take all of that.
const FREE_DIVISOR: u64 = 2;

/// Then the waiting calls of a source take at most one part in this many of it.
const SOURCE_DIVISOR: u64 = 4;

/// One part in this many of the outbox stays free of events: one source whose calls take half of it cannot fill the rest with
/// events that make no customers. It is room for the calls of others until the source's own are sent.
pub(super) const EVENT_FREE_DIVISOR: u64 = 8;

/// Dead letters that one transaction deletes: other commands wait for it meanwhile. One transaction adds fewer on average.
const MAX_PUSHED_OUT: u64 = 256;

/// Whether the calls of parked users and dead letters take more than their share, and there is a dead letter that can go.
pub(super) fn is_over_share(stats: &OutboxStats) -> bool {
    stats.dead_letters > 0 && stats.parked_bytes + stats.dead_letter_bytes > stats.max_bytes / PARKED_DIVISOR
}

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
