//! Dead letters: the calls that Segment refused, and what operators can do with them.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::OutboxError;

/// The operators' view of the calls that Segment refused.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// At most `limit` dead letters with ids below `before`, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<DeadLetter>, OutboxError>;

    /// Puts one back behind the waiting calls, with the same `messageId`. False if the id is unknown.
    ///
    /// # Errors
    /// If the store cannot be written.
    async fn replay(&self, id: i64) -> Result<bool, OutboxError>;

    /// Puts back all that exist now, oldest first, and returns their number.
    ///
    /// # Errors
    /// If the store cannot be written. Some may have been put back before the error.
    async fn replay_all(&self) -> Result<u64, OutboxError>;

    /// Deletes one permanently. False if the id is unknown.
    ///
    /// # Errors
    /// If the store cannot be written.
    async fn discard(&self, id: i64) -> Result<bool, OutboxError>;
}

/// A call that Segment refused. Its JSON is part of the contract.
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
    /// Leaves out the user, the call and Segment's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}
