//! The payload: a customer with everything that an Identify call may say about it.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

use super::context::{Context, Integrations};
use super::ids::{check_message_id, check_user_id};
use super::traits::UserTraits;

/// A customer as received and validated. It borrows from the body that it was parsed from.
#[derive(Clone, PartialEq)]
pub struct SegmentIdentifyPayload<'a> {
    /// The user whom the traits describe. [`parse`](Self::parse) checks it, [`new`](Self::new) does not.
    pub user_id: Cow<'a, str>,
    /// What is known about the customer.
    pub traits: UserTraits<'a>,
    /// When it happened, in whole milliseconds, not before 1970. `None`: when the relay received the payload.
    pub timestamp: Option<Timestamp>,
    /// The caller's key against duplicates, 1 to 99 characters.
    pub message_id: Option<Cow<'a, str>>,
    /// The id that the customer had before it was known.
    pub anonymous_id: Option<Cow<'a, str>>,
    /// Where the call comes from.
    pub context: Option<Context<'a>>,
    /// Which of Segment's destinations get the call.
    pub integrations: Option<Integrations<'a>>,
    /// The whole body, if the payload was parsed. A repeated request has the same body.
    pub body: Option<&'a [u8]>,
}

impl<'a> SegmentIdentifyPayload<'a> {
    /// A payload made in a program. The traits are checked already, the id is not: see [`check_ids`](Self::check_ids).
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

    /// Checks the ids. A parsed payload passes; a program may have set others since.
    ///
    /// # Errors
    /// Which id is wrong, and why. It does not contain the id.
    pub fn check_ids(&self) -> Result<(), String> {
        check_user_id(&self.user_id).map_err(|fault| format!("userId {fault}"))?;
        let anonymous_id = self.anonymous_id.as_deref().map_or(Ok(()), check_user_id);
        anonymous_id.map_err(|fault| format!("anonymousId {fault}"))?;
        let message_id = self.message_id.as_deref().map_or(Ok(()), check_message_id);
        message_id.map_err(|fault| format!("messageId {fault}"))
    }
}

impl fmt::Debug for SegmentIdentifyPayload<'_> {
    /// Leaves out ids and values, which are personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentIdentifyPayload")
            .field("traits", &self.traits)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}
