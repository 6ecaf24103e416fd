//! What comes of an event: the customers that its source's filter makes, or why it makes none.
//!
//! The way has two steps. [`make_customers`] returns the customers as JSON texts, and [`check_customers`] checks each as a body
//! of `POST /customers`. Requests, replays and the commands that try a filter take both.

mod headers;
mod key;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::mapping::{Event, Filter, MapError};
use super::settings::SourceSettings;
use crate::customer::{BrokenRule, MAX_BROKEN_RULES, PayloadError, SegmentIdentifyPayload, check_json};
use crate::segment::Call;

pub use headers::event_headers;
pub use key::{event_key, text_field};

/// Runs filters. Injected, because filters run in processes of their own.
#[async_trait]
pub trait Filters: Send + Sync {
    /// The customers that this filter makes of an event, as JSON texts.
    ///
    /// # Errors
    /// See [`MapError`].
    async fn run(&self, source: &str, filter: &Arc<Filter>, event: Event) -> Result<Vec<Bytes>, MapError>;
}

/// Why a genuine event makes no valid customers.
#[derive(Clone, PartialEq, Eq)]
pub enum Unmapped {
    /// The body is not JSON that the relay takes. The text says where.
    InvalidJson(String),
    FilterFailed(MapError),
    /// Customers break rules of `POST /customers`. A field has the place of its customer in front: `/0/traits/email`. Without a
    /// filter the body is the customer, and no place is in front.
    Invalid(Vec<BrokenRule>),
    /// A customer is larger than a call to Segment may be.
    TooLarge(String),
    /// The event's key came with another customer before.
    KeyReused,
}

/// Why nothing is known of an event.
#[derive(Clone, PartialEq, Eq)]
pub enum EventError {
    /// The event's own trouble.
    Unmapped(Unmapped),
    /// Too many events of the source wait for its filter. The event was not tried.
    Overloaded,
}

/// The customers of an event, as JSON texts that are not checked yet.
///
/// # Errors
/// The body is not JSON, or the filter fails.
pub async fn make_customers(
    filters: &dyn Filters,
    source: &SourceSettings,
    event: Event,
) -> Result<Vec<Bytes>, EventError> {
    let Some(filter) = &source.filter else { return Ok(vec![event.body]) };
    check_json(&event.body).map_err(|error| EventError::Unmapped(Unmapped::InvalidJson(error.to_string())))?;
    filters.run(&source.name, filter, event).await.map_err(|error| match error {
        MapError::Overloaded => EventError::Overloaded,
        error => EventError::Unmapped(Unmapped::FilterFailed(error)),
    })
}

/// Checks the texts that [`make_customers`] returned.
///
/// # Errors
/// All broken rules of all customers (the first 32), or a call that is too large.
pub fn check_customers<'a>(
    source: &SourceSettings,
    texts: &'a [Bytes],
) -> Result<Vec<SegmentIdentifyPayload<'a>>, Unmapped> {
    let (mut payloads, mut broken) = (Vec::with_capacity(texts.len()), Vec::new());
    for (place, text) in texts.iter().enumerate() {
        match (SegmentIdentifyPayload::parse(text), &source.filter) {
            (Ok(payload), _) => payloads.push(payload),
            (Err(PayloadError::InvalidJson { message }), None) => return Err(Unmapped::InvalidJson(message)),
            (Err(PayloadError::Invalid { broken }), None) => return Err(Unmapped::Invalid(broken)),
            (Err(error), Some(_)) => broken.extend(rules_at(place, error)),
        }
        if broken.len() >= MAX_BROKEN_RULES {
            broken.truncate(MAX_BROKEN_RULES);
            break;
        }
    }
    if !broken.is_empty() {
        return Err(Unmapped::Invalid(broken));
    }
    for payload in &payloads {
        check_size(payload)?;
    }
    Ok(payloads)
}

/// The broken rules of the customer at this place.
fn rules_at(place: usize, error: PayloadError) -> Vec<BrokenRule> {
    match error {
        PayloadError::InvalidJson { message } => {
            // jq writes NaN, which is no JSON.
            let message = format!("is not JSON that the relay takes: {message}");
            vec![BrokenRule { field: format!("/{place}"), message }]
        }
        PayloadError::Invalid { broken } => {
            let at_place = |rule: BrokenRule| BrokenRule { field: format!("/{place}{}", rule.field), ..rule };
            broken.into_iter().map(at_place).collect()
        }
    }
}

/// Refuses a customer whose call is too large under any id, before another customer of the event is sent.
fn check_size(payload: &SegmentIdentifyPayload<'_>) -> Result<(), Unmapped> {
    /// No id that the relay makes is shorter than a UUID.
    const SHORTEST_ID: &str = "00000000-0000-0000-0000-000000000000";
    let id = payload.message_id.as_deref().unwrap_or(SHORTEST_ID);
    Call::new(payload, id, Timestamp::UNIX_EPOCH).map(drop).map_err(|error| Unmapped::TooLarge(error.message))
}

impl Unmapped {
    /// A word for it: the code of the answer where [`OnError::Refuse`](super::settings::OnError::Refuse) is set. For logs, too:
    /// it holds nothing of the event.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson(_) => "invalid_json",
            Self::FilterFailed(_) => "filter_failed",
            Self::Invalid(_) => "invalid_payload",
            Self::TooLarge(_) => "message_too_large",
            Self::KeyReused => "idempotency_key_reused",
        }
    }
}

impl fmt::Display for Unmapped {
    /// For the operator: a filter's own words may quote the event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::InvalidJson(message) => Cow::Owned(format!("the body is not JSON that the relay takes: {message}")),
            Self::FilterFailed(error) => Cow::Owned(error.to_string()),
            Self::Invalid(broken) => Cow::Owned(broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            Self::TooLarge(message) => Cow::Borrowed(message.as_str()),
            Self::KeyReused => Cow::Borrowed("key reused"),
        })
    }
}

impl fmt::Debug for Unmapped {
    /// Leaves out what may quote the event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unmapped({})", self.code())
    }
}

impl fmt::Debug for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped(unmapped) => unmapped.fmt(f),
            Self::Overloaded => f.write_str("Overloaded"),
        }
    }
}

#[cfg(test)]
mod tests;
