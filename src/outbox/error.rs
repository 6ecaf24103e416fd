//! Why an outbox could not do what it was asked.

use std::fmt;
use std::time::Duration;

/// What a caller is told to wait while there is no room: room comes with deliveries or with an operator, not at once.
pub const LATER: Duration = Duration::from_secs(10);

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxError {
    /// It holds as much as it may, or the disk is full. Nothing was changed; there may be room later.
    Full,
    /// It was not begun before the deadline. Nothing was changed.
    Busy,
    /// The key's call had another body. Nothing was changed.
    KeyReused,
    /// The commit was not confirmed in time, or failed: it may have happened.
    Unconfirmed,
    /// The store cannot be read.
    Unreadable,
    /// It is closed. Nothing was changed.
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
