//! The interface of a store that can be copied while it is in use.

use std::fmt;
use std::fs::File;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::store::OutboxError;

/// Copies of a whole store.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Makes a consistent copy of everything that is stored, while calls are stored and settled. It holds what was
    /// stored before it was asked for, and not settled before it is finished. If the caller leaves, the copy is given up.
    ///
    /// # Errors
    /// There is no copy. The store is as before.
    async fn back_up(&self) -> Result<StoreCopy, BackupError>;
}

/// A finished copy: a file without a name, whose space is free again when it is closed.
#[derive(Debug)]
pub struct StoreCopy {
    pub file: File,
    pub bytes: u64,
    /// The right to the one copy that may exist. Held until the file is closed.
    pub permit: OwnedSemaphorePermit,
}

/// Why there is no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupError {
    /// Another copy is being made, or is not closed.
    InProgress,
    /// The disk of the outbox has too few free bytes.
    NoSpace { needed: u64, free: u64 },
    /// The copy could not be written. The log says why.
    Failed,
    /// The store took no command.
    Store(OutboxError),
}

impl From<OutboxError> for BackupError {
    fn from(error: OutboxError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProgress => f.write_str("another backup is being made or sent; try again when it has ended"),
            Self::NoSpace { needed, free } => {
                write!(f, "a backup needs {needed} free bytes on the disk of the outbox for a copy, and has {free}")
            }
            Self::Failed => f.write_str("the backup could not be written; the relay's log says why"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackupError {}
