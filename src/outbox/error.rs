//! The errors of an outbox.

use std::fmt;
use std::time::Duration;

/// `Retry-After` while there is no room: deliveries or an operator have to make room first.
pub const STORE_RETRY_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxError {
    /// The outbox is at its limit, or the disk is full. Nothing was changed; a later attempt may work.
    Full,
    /// The command was not started before its deadline. Nothing was changed.
    Busy,
    /// The key was used with another body. Nothing was changed.
    KeyReused,
    /// The commit failed, or was not confirmed in time: it may have happened.
    Unconfirmed,
    /// The store cannot be read.
    Unreadable,
    /// The store is closed. Nothing was changed.
    Closed,
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the outbox is full",
            Self::Busy => "the outbox is busy",
            Self::KeyReused => "the key was used for another payload",
            Self::Unconfirmed => "the commit was not confirmed",
            Self::Unreadable => "the outbox could not be read",
            Self::Closed => "the outbox is closed",
        })
    }
}

impl std::error::Error for OutboxError {}
