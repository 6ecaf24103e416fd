//! One customer as a caller sends it: what it may hold, and every rule it breaks.
//!
//! Invariants: a parsed payload was checked as a whole (JSON, then every rule of `POST /customers`) before any of it is
//! believed; `traits`, `context` and `integrations` are the caller's own text, never rebuilt; what is parsed borrows
//! from the body. `Debug` shows no value, so no trait or id gets into a log by accident.
//!
//! It does not know sizes (a body's or a call's limit), does not make a `messageId` or a time of its own, and does not
//! build what Segment gets.

mod address;
mod context;
mod error;
mod rules;
mod scan;
mod time;
mod traits;

#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

pub use address::Address;
pub use context::{Context, Integrations};
pub use error::{BrokenRule, MAX_BROKEN_RULES, PayloadError};
pub use traits::UserTraits;
#[cfg(test)]
pub(crate) use traits::reserved_traits;

/// A customer as received and validated, borrowing from the body.
#[derive(Clone, PartialEq)]
pub struct SegmentIdentifyPayload<'a> {
    /// UserFilter traits these are. Checked by [`check_user_id`] in [`parse`](Self::parse), but not in [`new`](Self::new).
    pub user_id: Cow<'a, str>,
    /// What is known about the customer.
    pub traits: UserTraits<'a>,
    /// When it happened, whole milliseconds, not before 1970. `None`: when the relay takes the call.
    pub timestamp: Option<Timestamp>,
    /// The caller's key against duplicates, 1-99 characters.
    pub message_id: Option<Cow<'a, str>>,
    /// The id the customer had before it was known.
    pub anonymous_id: Option<Cow<'a, str>>,
    /// Where the call comes from.
    pub context: Option<Context<'a>>,
    /// Which of Segment's destinations get the call.
    pub integrations: Option<Integrations<'a>>,
    /// The whole body it was read from, if it was: a repeated request has the same.
    pub body: Option<&'a [u8]>,
}

impl<'a> SegmentIdentifyPayload<'a> {
    /// Reads a body of `POST /customers`.
    ///
    /// # Errors
    /// [`PayloadError::InvalidJson`] if it is not JSON we take, with the place; otherwise [`PayloadError::Invalid`] with
    /// all the rules it breaks (the first 32).
    pub fn parse(body: &'a [u8]) -> Result<Self, PayloadError> {
        rules::read_payload(body)
    }

    /// A payload made in the program. The traits are checked by their type, the id is not: see [`check_user_id`].
    pub fn new(user_id: impl Into<Cow<'a, str>>, traits: UserTraits<'a>) -> Self {
        Self {
            user_id: user_id.into(),
            traits,
            timestamp: None,
            message_id: None,
            anonymous_id: None,
            context: None,
            integrations: None,
            body: None,
        }
    }

    /// Whether the ids are fit to be sent. A parsed payload's are; a program may have set others.
    ///
    /// # Errors
    /// What is wrong with which of them; the id itself is not in it.
    pub fn check_ids(&self) -> Result<(), String> {
        check_user_id(&self.user_id).map_err(|fault| format!("userId {fault}"))?;
        let anonymous_id = self.anonymous_id.as_deref().map_or(Ok(()), check_user_id);
        anonymous_id.map_err(|fault| format!("anonymousId {fault}"))?;
        let message_id = self.message_id.as_deref().map_or(Ok(()), check_message_id);
        message_id.map_err(|fault| format!("messageId {fault}"))
    }
}

impl fmt::Debug for SegmentIdentifyPayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentIdentifyPayload")
            .field("traits", &self.traits)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

/// Segment drops a call whose `messageId` has more characters, after a 200.
const MAX_MESSAGE_ID: usize = 99;

fn check_message_id(id: &str) -> Result<(), &'static str> {
    let is_fit = (1..=MAX_MESSAGE_ID).contains(&id.chars().count());
    is_fit.then_some(()).ok_or("must have 1 to 99 characters")
}

/// Ids that senders put where they have none, beside zeros and dashes.
const PLACEHOLDERS: [&str; 3] = ["-1", "null", "anonymous"];

/// Whether an id names one customer: not blank, and none of the placeholders Segment tells its users to block, because
/// they have merged hundreds of strangers into one profile.
///
/// # Errors
/// What is wrong, to be read after "userId"; the id itself is not in it.
pub fn check_user_id(id: &str) -> Result<(), &'static str> {
    if id.trim().is_empty() {
        return Err("must not be blank");
    }
    let only_zeros_and_dashes = id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    if only_zeros_and_dashes || PLACEHOLDERS.contains(&id) {
        return Err("is a placeholder (only zeros and dashes, -1, null or anonymous): Segment advises to block it, \
             because it merges strangers into one profile");
    }
    Ok(())
}
