//! Dead letters: the trait [`DeadLetters`] with which operators read, replay and discard them, and which of them are meant.
//!
//! Nothing that concerns many letters is one long statement. A [`LetterWalk`] finds the ids of those that fit, a step at a
//! time, and each step is replayed or discarded in a transaction of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use super::store::OutboxError;

/// The operators' view of the calls that are not delivered: Segment refused them, or they were given up.
///
/// # Errors
/// Every method fails if the store cannot be read or written.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// At most `limit` dead letters that fit, newest first. A page has a bounded number of bytes, and looks at a bounded number
    /// of letters, so it may be short, or empty, although more of them fit.
    async fn list(&self, limit: usize, filter: LetterFilter) -> Result<LetterPage, OutboxError>;

    /// The ids of at most `limit` dead letters that fit, oldest first, from the id `from` on. The letters of one answer are
    /// few enough for one transaction, and so are those that it looks at.
    async fn find(&self, from: i64, limit: usize, filter: LetterFilter) -> Result<LetterIds, OutboxError>;

    /// Puts the calls among these back behind the waiting calls, in this order, with the same `messageId`. Returns how many of
    /// them were there. An event stays: see [`Events`](super::Events).
    async fn replay(&self, ids: Vec<i64>) -> Result<u64, OutboxError>;

    /// Deletes these permanently, and forgets their keys. Returns how many of them were there.
    async fn discard(&self, ids: Vec<i64>) -> Result<u64, OutboxError>;
}

/// Which dead letters are meant: those that fit everything that is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Only those with smaller ids.
    pub before: Option<i64>,
    pub why: Option<LetterWhy>,
    pub user_id: Option<String>,
    /// The name of the source.
    pub source: Option<String>,
    /// `Some(None)`: those without an answer.
    pub status: Option<Option<u16>>,
    /// Refused at this time or later, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Refused before this time.
    pub until: Option<i64>,
}

/// Why a call is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterWhy {
    /// Segment refused it.
    Refused,
    /// It failed on its own for too long.
    GaveUp,
    /// An operator gave it up.
    Operator,
    /// It is an event of which its source's filter made no valid customers.
    Unmapped,
}

impl LetterWhy {
    pub const ALL: [Self; 4] = [Self::Refused, Self::GaveUp, Self::Operator, Self::Unmapped];

    /// As it is written in JSON, and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
            Self::Operator => "operator",
            Self::Unmapped => "unmapped",
        }
    }
}

/// A page of dead letters, newest first.
#[derive(Debug)]
pub struct LetterPage {
    pub letters: Vec<DeadLetter>,
    /// All that may follow have ids below this one. `None`: nothing follows.
    pub next: Option<i64>,
}

/// Some of the dead letters that fit, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LetterIds {
    pub ids: Vec<i64>,
    /// Those of `ids` that are events.
    pub events: Vec<i64>,
    /// Where to go on. `None`: nothing follows.
    pub next: Option<i64>,
}

/// A call that Segment refused, or that was given up, or an event. `GET /dead-letters` answers with this JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// A later dead letter has a greater id, and none is used twice.
    pub id: i64,
    /// `None` for an event, and so are `user_id` and `call`.
    pub message_id: Option<String>,
    pub user_id: Option<String>,
    /// One of [`LetterWhy`].
    pub why: String,
    /// The name of the source by which it came. `None`: `POST /customers`.
    pub source: Option<String>,
    /// As Segment got it.
    pub call: Option<Box<RawValue>>,
    #[serde(flatten)]
    pub event: Option<LetterEvent>,
    /// Of the last answer, if there was one.
    pub status: Option<u16>,
    /// Segment's words, or the relay's own if Segment did not refuse the call.
    pub reason: String,
    /// How many requests held this call.
    pub attempts: u32,
    /// RFC 3339, UTC.
    pub stored_at: String,
    pub refused_at: String,
}

/// The event of a dead letter. One that is not UTF-8 is in `event_base64`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LetterEvent {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_base64: Option<String>,
    /// The headers that its filter may read. Several of a name are one, with commas between them.
    pub headers: BTreeMap<String, String>,
}

/// Goes through the dead letters that fit and that were there at its beginning, oldest first. It stays true while others
/// come and go.
#[derive(Clone)]
pub struct LetterWalk {
    letters: Arc<dyn DeadLetters>,
    filter: LetterFilter,
    next: Option<i64>,
}

impl LetterWalk {
    /// # Errors
    /// If the store cannot be read.
    pub async fn start(letters: Arc<dyn DeadLetters>, filter: LetterFilter) -> Result<Self, OutboxError> {
        let newest = letters.list(1, LetterFilter::default()).await?.letters.first().map_or(0, |letter| letter.id);
        let end = newest.saturating_add(1);
        let before = filter.before.map_or(end, |before| before.min(end));
        Ok(Self { letters, filter: LetterFilter { before: Some(before), ..filter }, next: Some(0) })
    }

    /// The ids of some more of them, one at least and at most `limit`. `None` at the end.
    ///
    /// # Errors
    /// If the store cannot be read. The walk can go on.
    pub async fn step(&mut self, limit: usize) -> Result<Option<LetterIds>, OutboxError> {
        while let Some(from) = self.next {
            let found = self.letters.find(from, limit, self.filter.clone()).await?;
            self.next = found.next;
            if !found.ids.is_empty() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for LetterFilter {
    /// Leaves out the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LetterFilter");
        shown.field("before", &self.before).field("why", &self.why).field("status", &self.status);
        shown
            .field("source", &self.source)
            .field("since", &self.since)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DeadLetter {
    /// Leaves out the user, the call and Segment's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}
