//! The store's interface: the traits [`Outbox`] and [`ParkedUsers`], what goes in and comes out, and the errors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::segment::{Call, SendFence, SettledCall};

/// `Retry-After` while there is no room. Deliveries or an operator make room first: after a shorter pause most retries
/// would be refused again.
pub const STORE_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The id of a stored call. A later call has a greater id, and no id is used twice while calls of the same user wait.
pub type CallId = i64;

/// A store of calls. Every method that writes returns after the sync.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Stores a call, and the record of its key if it has one. A call whose key is known already is not stored again. A key
    /// is known while its call waits, while it is a dead letter, and for the window after it was accepted.
    ///
    /// Calls are stored in the order in which the returned futures were first polled.
    ///
    /// # Errors
    /// [`OutboxError::Full`], [`OutboxError::UserShare`], [`OutboxError::ParkedShare`], [`OutboxError::SourceShare`] and
    /// [`OutboxError::Busy`]: the call is not stored. [`OutboxError::Unconfirmed`]: the call may be stored.
    /// [`OutboxError::KeyReused`]: the key was used with another body.
    async fn append(&self, append: Append, deadline: Instant) -> Result<Appended, OutboxError>;

    /// Stores the calls of one request in one transaction. The results are in the order of the calls. If `is_all_or_nothing`, an
    /// error of one call means that none is stored, and is the error of all: [`OutboxError::KeyReused`] if there are several.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`OutboxError::TooLarge`].
    async fn append_group(
        &self,
        group: Vec<Append>,
        is_all_or_nothing: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<Appended, OutboxError>>, OutboxError>;

    /// Settles calls in one transaction: accepted calls are deleted, refused calls become dead letters, and their keys
    /// keep the outcome. The user of a parked call is parked, or the call becomes a dead letter if it has failed for
    /// too long. Ids that are not in the outbox are ignored. Watchers of the calls are notified after the commit.
    ///
    /// # Errors
    /// [`OutboxError::Full`]: nothing was settled; a later attempt may work. Any other error: the result is unknown.
    async fn settle(&self, delivered: Arc<[SettledCall]>) -> Result<(), OutboxError>;

    /// Waits until there are calls to send, and takes them: about `room` bytes of JSON at most, one call at least. A call that
    /// was taken is out, and is not returned again by this process, until [`settle`](Self::settle) names it as parked. The
    /// calls of one user are returned in their order. Of a user who is parked nothing is returned. There is one caller at a time.
    ///
    /// The future must not be dropped before it is ready, but for the end of delivery: the calls in its answer would be out,
    /// and nobody would have them.
    ///
    /// # Errors
    /// If the store cannot be read, or if it is closed.
    async fn next(&self, room: usize) -> Result<Vec<StoredCall>, OutboxError>;

    /// Takes the first calls of at most `limit` parked users, who are due the longest, and returns at once. If `early`, users who
    /// are not due yet count, too. Nothing else of these users is returned until the call is settled.
    ///
    /// # Errors
    /// If the store cannot be read or written, or if it is closed.
    async fn next_parked(&self, limit: usize, early: bool) -> Result<Vec<StoredCall>, OutboxError>;

    /// The store's statistics, from memory.
    fn stats(&self) -> OutboxStats;

    /// What lets the calls of this store be sent, if other relays have the same outbox. `None`: nothing stops them.
    fn fence(&self) -> Option<Arc<SendFence>> {
        None
    }

    /// Delivery has ended: what was taken and is not settled is not sent any more.
    async fn delivery_ended(&self) {}

    /// Closes the store: commands in progress are finished, later calls of any method fail.
    async fn close(&self);
}

/// The operators' view of the parked users: those whose first waiting call fails on its own while others are accepted.
///
/// # Errors
/// Every method fails if the store cannot be read or written.
#[async_trait]
pub trait ParkedUsers: Send + Sync {
    /// At most `limit` parked users with ids below `before`, newest first. With `user_id` only this one, if the user is parked.
    async fn list(
        &self,
        limit: usize,
        before: Option<i64>,
        user_id: Option<String>,
    ) -> Result<Vec<ParkedUser>, OutboxError>;

    /// Makes one due now. False if the id is unknown.
    async fn retry(&self, id: i64) -> Result<bool, OutboxError>;

    /// Makes those due now that fit, and returns their number.
    async fn retry_all(&self, filter: ParkedFilter) -> Result<u64, OutboxError>;

    /// Makes the user's first call a dead letter, so that the later ones go on. False if the id is unknown.
    async fn give_up(&self, id: i64) -> Result<bool, OutboxError>;

    /// The same for those that fit. Returns their number.
    async fn give_up_all(&self, filter: ParkedFilter) -> Result<u64, OutboxError>;
}

/// Which parked users are meant: those that fit everything that is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ParkedFilter {
    /// Of the last failure.
    pub status: Option<u16>,
    /// The name of the source of the first waiting call.
    pub source: Option<String>,
    pub user_id: Option<String>,
}

/// A parked user. `GET /parked` answers with this JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedUser {
    /// A later one has a greater id, and none is used twice.
    pub id: i64,
    pub user_id: String,
    /// Of the first waiting call, which fails.
    pub message_id: String,
    /// The name of the source by which this call came. `None`: `POST /customers`.
    pub source: Option<String>,
    /// How many calls of the user wait.
    pub calls: u64,
    /// RFC 3339, UTC: when the call was parked.
    pub since: String,
    /// How many requests held the call.
    pub attempts: u32,
    /// The status of the last answer, if there was one.
    pub status: Option<u16>,
    /// The relay's own words for the last failure.
    pub reason: String,
    /// RFC 3339, UTC: the time of the next attempt.
    pub retry_at: String,
}

/// A call to store.
#[derive(Clone, Debug)]
pub struct Append {
    pub call: Call,
    /// Identifies a repeated request, if the request has a key.
    pub key: Option<KeyRecord>,
    /// Whether the caller waits for the outcome of the delivery.
    pub watch: bool,
}

/// What is stored of an idempotency key: digests (the first 16 bytes of a SHA-256), so that its size is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Digest of the `messageId`, which is the key itself, or is derived from the key and the user.
    pub key: [u8; 16],
    /// Digest of the request's body. The same key with another body is an error.
    pub body: [u8; 16],
}

/// The result of storing a call.
#[derive(Debug)]
pub struct Appended {
    /// The key's call was stored before, and nothing was added.
    pub replayed: bool,
    /// Receives the outcome, if the caller asked for it, or if the key's call is a dead letter. An outcome that is known
    /// already is there at once.
    pub outcome: Option<oneshot::Receiver<DeliveryOutcome>>,
}

/// The end of a stored call.
#[derive(Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    Accepted,
    /// Segment's message. The call became a dead letter.
    Refused(String),
    /// The relay's own words for the last failure. The call became a dead letter without Segment's refusal.
    GaveUp(String),
}

/// A waiting call.
#[derive(Clone, Debug)]
pub struct StoredCall {
    pub id: CallId,
    pub call: Call,
    /// It failed on its own before: it is sent alone, and its failure says nothing about Segment.
    pub is_parked: bool,
}

/// The store's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStats {
    pub waiting: u64,
    /// Bytes of the waiting calls.
    pub waiting_bytes: u64,
    /// The last id that was given to a call; 0 before the first one.
    pub last_id: CallId,
    /// When the oldest waiting call was stored, in milliseconds since 1970.
    pub oldest_stored_at: Option<i64>,
    /// Users whose first call fails on its own.
    pub parked_users: u64,
    /// Waiting calls that are kept apart: those of parked users, and of users with very many.
    pub parked_calls: u64,
    /// Bytes of the calls of parked users, and of dead letters.
    pub parked_bytes: u64,
    pub dead_letter_bytes: u64,
    pub dead_letters: u64,
    pub keys: u64,
    /// Bytes on disk of calls, keys and dead letters.
    pub bytes: u64,
    /// The limit of `bytes`.
    pub max_bytes: u64,
    /// Why calls cannot be stored at the moment, for `/readyz`.
    pub trouble: Option<&'static str>,
    /// A file was deleted, moved, replaced or cut: the next start will not find the calls.
    pub is_lost: bool,
}

/// What waits of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStats {
    /// Its name. `None`: `POST /customers`.
    pub source: Option<Arc<str>>,
    pub calls: u64,
    pub bytes: u64,
}

/// Why the store did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxError {
    /// The outbox is at its limit, or the disk is full. Nothing was changed; a later attempt may work.
    Full,
    /// The waiting calls of this user take the whole share of one user. Nothing was changed.
    UserShare,
    /// An earlier call of this user fails, and such calls take their whole share of the outbox. Nothing was changed.
    ParkedShare,
    /// The outbox is half full, and the waiting calls of this source take the whole share of one source. Nothing was changed.
    SourceShare,
    /// The calls of a group take more than one transaction may. Nothing was changed, and trying again does not help.
    TooLarge,
    /// The command was not started before its deadline. Nothing was changed.
    Busy,
    /// The key was used with another body. Nothing was changed.
    KeyReused,
    /// The commit failed, or was not confirmed in time: it may have happened.
    Unconfirmed,
    /// The store cannot be read.
    Unreadable,
    /// The store's database is away. Nothing was changed.
    Away,
    /// The store is closed. Nothing was changed.
    Closed,
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the outbox is full",
            Self::UserShare => "the user's share of the outbox is used up",
            Self::ParkedShare => "the share of parked calls in the outbox is used up",
            Self::SourceShare => "the source's share of the outbox is used up",
            Self::TooLarge => "the calls are too large for one transaction",
            Self::Busy => "the outbox is busy",
            Self::KeyReused => "the key was used for another payload",
            Self::Unconfirmed => "the commit was not confirmed",
            Self::Unreadable => "the outbox could not be read",
            Self::Away => "the outbox's database cannot be reached",
            Self::Closed => "the outbox is closed",
        })
    }
}

impl std::error::Error for OutboxError {}

impl fmt::Debug for DeliveryOutcome {
    /// Leaves out Segment's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "Accepted",
            Self::Refused(_) => "Refused",
            Self::GaveUp(_) => "GaveUp",
        })
    }
}

impl fmt::Debug for ParkedUser {
    /// Leaves out the user and the call.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedUser").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}
