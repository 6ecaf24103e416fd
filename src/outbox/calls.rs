//! What became of a call: the trait [`Calls`], with which operators ask for a `messageId`.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use super::store::OutboxError;

/// The operators' view of one call.
#[async_trait]
pub trait Calls: Send + Sync {
    /// What became of the call with this `messageId`. `None`: it is not in the store, and no key remembers it.
    ///
    /// It may look at every call in the store, in steps, so the caller sets a time limit.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn find(&self, message_id: &str) -> Result<Option<CallReport>, OutboxError>;
}

/// What became of a call. `GET /calls/{messageId}` answers with this JSON.
#[derive(PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallReport {
    pub message_id: String,
    pub outcome: CallFate,
    /// `None` of an accepted call: nothing personal is kept of it.
    #[serde(flatten)]
    pub kept: Option<KeptCall>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallFate {
    Accepted,
    /// It waits for its turn, or for an answer.
    Waiting,
    /// It waits, and fails on its own while others are accepted.
    Parked,
    /// It is a dead letter, because Segment refused it.
    Refused,
    /// It is a dead letter without Segment's refusal.
    GaveUp,
}

/// What the store has of a call that is not accepted.
#[derive(PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptCall {
    pub user_id: String,
    /// RFC 3339, UTC.
    pub stored_at: String,
    /// How many requests held the call. `None` of a waiting call, as the two below: the store learns of a request when it ends.
    pub attempts: Option<u32>,
    /// Of the last answer, if there was one.
    pub status: Option<u16>,
    /// Segment's words, or the relay's own if Segment did not refuse the call.
    pub reason: Option<String>,
}

impl fmt::Debug for CallReport {
    /// Leaves out the user and Segment's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallReport").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeptCall {
    /// Leaves out the user and Segment's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptCall")
            .field("attempts", &self.attempts)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
