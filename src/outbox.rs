//! The outbox: calls on disk, from the answer 202 until Segment took them or refused them.
//!
//! [`OutboxClients`] is the injected seam's other side: a client whose flush returns when its call is synced. Behind it is
//! an [`Outbox`], the store, of which [`sqlite`] is one; `delivery` empties it. What cannot be delivered ends among the
//! [`DeadLetters`].
//!
//! Invariants: a call, and the record of its idempotency key, are stored in one transaction; nothing is called stored that
//! is not synced; a call leaves by being accepted or by becoming a dead letter.

mod client;
mod error;
pub mod sqlite;
#[cfg(test)]
mod suite;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::segment::{Call, Delivered};

pub use client::OutboxClients;
pub use error::{LATER, OutboxError};

/// A call's place among all that were stored: a later call has a greater id, and none is used twice while calls of the
/// same user wait.
pub type CallId = i64;

/// A store of calls. Every method returns when what it did is synced.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Stores a call, and the record of its key if it has one, unless the key's call is there already.
    ///
    /// Calls are stored in the order in which this was first polled.
    ///
    /// # Errors
    /// [`OutboxError::Full`] and [`OutboxError::Busy`]: certainly not stored. [`OutboxError::Unconfirmed`]: it may have
    /// been. [`OutboxError::KeyReused`]: the key's call had another body.
    async fn append(&self, append: Append, deadline: Instant) -> Result<Appended, OutboxError>;

    /// Settles calls, all in one transaction: accepted ones are deleted, refused ones become dead letters, their keys
    /// remember which. Ids that do not wait are passed over. Then whoever watches them is told.
    ///
    /// # Errors
    /// [`OutboxError::Full`]: nothing was settled, and may be later. Any other: whether it was is unknown.
    async fn settle(&self, delivered: Arc<[Delivered]>) -> Result<(), OutboxError>;

    /// At most `limit` waiting calls from `from` on, in order, of the users that are asked for. Bounded in bytes and work
    /// too: it may be empty and yet not the last one. No transaction is open between pages.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn page(&self, from: CallId, whose: UserFilter, limit: usize) -> Result<Page, OutboxError>;

    /// What is in it now, without asking the disk.
    fn contents(&self) -> Contents;

    /// Ends it: what was begun is finished, later calls of any method fail.
    async fn close(&self);
}

/// A call to be stored.
#[derive(Clone, Debug)]
pub struct Append {
    pub call: Call,
    /// By what a repeated request is recognised, if it has a key.
    pub key: Option<KeyRecord>,
    /// Whether the caller wants to hear the outcome.
    pub watch: bool,
}

/// What is remembered of a key. Digests, so that it has one size: the first 16 bytes of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Of the `messageId`, which is the key, or is made from it and the user.
    pub key: [u8; 16],
    /// Of the request's body: the same key with another body is a mistake.
    pub body: [u8; 16],
}

/// A call that is stored.
#[derive(Debug)]
pub struct Appended {
    /// The key's call was there already: nothing was added.
    pub replayed: bool,
    /// Hears the outcome, if that was asked for; at once if it is known.
    pub outcome: Option<oneshot::Receiver<Outcome>>,
}

/// What became of a stored call.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// It is a dead letter, or was one. Segment's words.
    Refused(String),
}

/// UserFilter calls are read.
#[derive(Clone, PartialEq, Eq)]
pub enum UserFilter {
    AllBut(HashSet<Arc<str>>),
    Only(HashSet<Arc<str>>),
}

impl UserFilter {
    /// Whether this user's are.
    pub fn is(&self, user_id: &str) -> bool {
        match self {
            Self::AllBut(users) => !users.contains(user_id),
            Self::Only(users) => users.contains(user_id),
        }
    }
}

impl fmt::Debug for Outcome {
    /// Without Segment's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Accepted { "Accepted" } else { "Refused" })
    }
}

impl fmt::Debug for UserFilter {
    /// Without the users' ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllBut(users) => write!(f, "AllBut({} users)", users.len()),
            Self::Only(users) => write!(f, "Only({} users)", users.len()),
        }
    }
}

/// A part of what waits.
#[derive(Debug)]
pub struct Page {
    /// In order of their ids.
    pub calls: Vec<Stored>,
    /// Where the next page begins: greater than every id looked at.
    pub next: CallId,
}

/// A call that waits.
#[derive(Clone, Debug)]
pub struct Stored {
    pub id: CallId,
    pub call: Call,
}

/// What an outbox holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Calls that wait.
    pub waiting: u64,
    /// The last id that was given to a call; 0 if none was.
    pub last_id: CallId,
    /// When the oldest waiting call was stored, in milliseconds since 1970.
    pub oldest_stored_at: Option<i64>,
    pub dead_letters: u64,
    /// Keys that are remembered.
    pub keys: u64,
    /// What calls, keys and dead letters take on disk, in bytes.
    pub bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// Why nothing more is stored at the moment, if that is so: for `/readyz`.
    pub trouble: Option<&'static str>,
}

/// The calls that Segment refused, as an operator sees them.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// At most `limit` of them, newest first, with ids below `before`.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<DeadLetter>, OutboxError>;

    /// Puts one back behind the waiting calls, with its `messageId`. False if there is none with this id.
    ///
    /// # Errors
    /// If the store cannot be written.
    async fn replay(&self, id: i64) -> Result<bool, OutboxError>;

    /// Puts all back that are there now, oldest first; how many these were.
    ///
    /// # Errors
    /// If the store cannot be written; some may have been put back then.
    async fn replay_all(&self) -> Result<u64, OutboxError>;

    /// Deletes one for good. False if there is none with this id.
    ///
    /// # Errors
    /// If the store cannot be written.
    async fn discard(&self, id: i64) -> Result<bool, OutboxError>;
}

/// A call that Segment refused. Its JSON is the contract's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// A later refusal has a greater id, and none is used twice.
    pub id: i64,
    pub message_id: String,
    pub user_id: String,
    /// As Segment got it.
    pub call: Box<RawValue>,
    /// Segment's answer.
    pub status: u16,
    /// Segment's words.
    pub reason: String,
    /// How many requests held this call.
    pub attempts: u32,
    /// RFC 3339, UTC.
    pub stored_at: String,
    pub refused_at: String,
}

impl fmt::Debug for DeadLetter {
    /// Without whose call it is, what is in it, and Segment's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}
