//! Events of sources that are kept as dead letters: the trait [`Events`], with which `sources` keeps and replays them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::store::{Append, Appended, OutboxError};

/// A genuine event that makes no customers: its source's filter fails on it, or makes what breaks a rule.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptEvent {
    /// The name of the source.
    pub source: Arc<str>,
    /// The headers that the filter may read, in lower case: not those that hold secrets.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
    /// In milliseconds since 1970.
    pub received_at: i64,
    /// Why it makes no customers. It may hold a part of the event.
    pub reason: String,
    /// Digest of the source, the event's key and its body: a repeat is not kept twice, and another event under the key is kept.
    pub key: Option<[u8; 16]>,
}

/// Where events are kept. An event is a dead letter, `unmapped`.
#[async_trait]
pub trait Events: Send + Sync {
    /// Keeps an event. One whose `key` belongs to a dead letter is there already. Returns after the sync.
    ///
    /// # Errors
    /// As [`Outbox::append`](super::Outbox::append).
    async fn keep(&self, event: KeptEvent, deadline: Instant) -> Result<(), OutboxError>;

    /// The event of this dead letter. `None` if there is none with this id, or if it is a call.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn find(&self, id: i64) -> Result<Option<KeptEvent>, OutboxError>;

    /// Stores the calls that the event of this dead letter makes now, and deletes the dead letter, in one transaction. `None` if
    /// it is gone, and nothing is stored.
    ///
    /// # Errors
    /// As [`Outbox::append_group`](super::Outbox::append_group), all or nothing: the dead letter stays.
    async fn replace(&self, id: i64, calls: Vec<Append>) -> Result<Option<Vec<Appended>>, OutboxError>;

    /// Notes why the event of this dead letter makes no customers now.
    ///
    /// # Errors
    /// If the store cannot be written.
    async fn note_reason(&self, id: i64, reason: String) -> Result<(), OutboxError>;
}

impl fmt::Debug for KeptEvent {
    /// Leaves out headers, body and reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptEvent").field("source", &self.source).finish_non_exhaustive()
    }
}
