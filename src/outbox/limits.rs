//! What a row counts as, how large a transaction is, and the shares of the outbox, of whatever kind its store is.
//!
//! The calls of parked users and dead letters take at most half of the outbox together, and the waiting calls of one user at most
//! an eighth. So what is refused or stuck never keeps other calls out. Once the outbox is half full, the waiting calls of one
//! source take at most a quarter. Events that make no customers leave an eighth to the calls of others.

use super::store::{Append, OutboxError, OutboxStats};

/// Bytes of a row beside its values, approximately: its entries in each table and index.
pub(super) const ROW_OVERHEAD: usize = 128;

/// Bytes of one transaction, approximately: a disk writes that much in a few milliseconds, and no caller waits longer.
pub(super) const MAX_TRANSACTION_BYTES: usize = 1024 * 1024;

/// Bytes of the calls of one group. A body has 1 MiB at most. What a filter makes of it may have more, and each call gets an
/// envelope. One transaction stores all, and other callers wait for it.
const MAX_GROUP_BYTES: usize = 4 * MAX_TRANSACTION_BYTES;

/// Bytes of `max_bytes` that stay free: the pages of one more call of the largest size, and of its key.
const KEPT_FREE: u64 = 64 * 1024;

/// Bytes of one user among the waiting calls, beyond which further calls are kept apart: a full request to Segment. A smaller
/// outbox allows [a part](MANY_DIVISOR) of it.
const MANY_BYTES: u64 = 512 * 1024;

/// Half of a user's share of the outbox, which is an eighth.
const MANY_DIVISOR: u64 = 16;

/// The calls of parked users and dead letters take at most one part in this many of the outbox.
pub(super) const PARKED_DIVISOR: u64 = 2;

/// The waiting calls of a user take at most one part in this many of it.
pub(super) const USER_DIVISOR: u64 = 8;

/// While the outbox is filled to one part in this many at most, a source may take all of that.
pub(super) const FREE_DIVISOR: u64 = 2;

/// Then the waiting calls of a source take at most one part in this many of it.
pub(super) const SOURCE_DIVISOR: u64 = 4;

/// One part in this many of the outbox stays free of events: one source whose calls take half of it cannot fill the rest with
/// events that make no customers. It is room for the calls of others until the source's own are sent.
pub(super) const EVENT_FREE_DIVISOR: u64 = 8;

/// What a row counts as in the shares of the outbox: its call and its reason, and what it takes beside them.
pub(super) fn row_bytes(values: u64) -> u64 {
    values + ROW_OVERHEAD as u64
}

/// Bytes beyond which a user has many calls, in an outbox of this size.
pub(super) fn many_bytes(max_bytes: u64) -> u64 {
    MANY_BYTES.min(max_bytes / MANY_DIVISOR)
}

/// Bytes of these calls in a transaction.
pub(super) fn group_bytes(appends: &[Append]) -> usize {
    appends.iter().map(|append| row_bytes(append.call.json().len() as u64) as usize).sum()
}

/// The error of a group that takes more than a transaction may.
pub(super) fn check_size(appends: &[Append]) -> Result<(), OutboxError> {
    if group_bytes(appends) > MAX_GROUP_BYTES { Err(OutboxError::TooLarge) } else { Ok(()) }
}

/// Bytes that appends may still add, according to the outbox's limit.
pub(super) fn room(stats: &OutboxStats) -> u64 {
    stats.max_bytes.saturating_sub(stats.bytes.saturating_add(KEPT_FREE))
}

/// Whether the calls of parked users and dead letters take more than their share, and there is a dead letter that can go.
pub(super) fn is_over_share(stats: &OutboxStats) -> bool {
    stats.dead_letters > 0 && stats.parked_bytes + stats.dead_letter_bytes > stats.max_bytes / PARKED_DIVISOR
}
