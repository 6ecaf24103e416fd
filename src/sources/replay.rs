//! Replays an event that is a dead letter: the filter that its source has now runs, and what it makes takes the letter's place.

use jiff::Timestamp;

use super::event::{EventError, Filters, Unmapped, check_customers, event_key, make_customers};
use super::mapping::Event;
use super::settings::SourceSettings;
use crate::outbox::{Append, Events, KeptEvent, OutboxError};
use crate::segment::MessageIds;

/// What became of an event that is a dead letter.
#[derive(Debug, PartialEq, Eq)]
pub enum Replay {
    /// It made customers, or none, and is no dead letter any more.
    Done,
    /// There is no such dead letter, or it is a call.
    Gone,
    /// It still makes no valid customers, and stays. The reason is for operators alone.
    Unmapped(String),
    /// Its source is not configured, so it stays.
    NotConfigured,
    /// Too many events of its source wait for the filter. It stays.
    Overloaded,
}

/// Replays the event of this dead letter, which was read from the store.
///
/// # Errors
/// If the store cannot be written: the letter stays.
pub(super) async fn replay(
    events: &dyn Events,
    filters: &dyn Filters,
    message_ids: &MessageIds,
    source: &SourceSettings,
    id: i64,
    kept: KeptEvent,
) -> Result<Replay, OutboxError> {
    let KeptEvent { headers, body, received_at, .. } = kept;
    let event = Event { headers, body, received_at };
    let why = match calls(filters, message_ids, source, event).await {
        Ok(calls) => match events.replace(id, calls).await {
            Ok(Some(_)) => return Ok(Replay::Done),
            Ok(None) => return Ok(Replay::Gone),
            Err(OutboxError::KeyReused) => Unmapped::KeyReused,
            Err(OutboxError::TooLarge) => Unmapped::TooLarge(OutboxError::TooLarge.to_string()),
            Err(error) => return Err(error),
        },
        Err(EventError::Overloaded) => return Ok(Replay::Overloaded),
        Err(EventError::Unmapped(why)) => why,
    };
    let reason = why.to_string();
    events.note_reason(id, reason.clone()).await?;
    Ok(Replay::Unmapped(reason))
}

/// The calls that an event makes now, under the ids that they would have had when it came.
async fn calls(
    filters: &dyn Filters,
    message_ids: &MessageIds,
    source: &SourceSettings,
    event: Event,
) -> Result<Vec<Append>, EventError> {
    let received_at = Timestamp::from_millisecond(event.received_at).unwrap_or_else(|_| Timestamp::now());
    let key = event_key(&source.key, &event);
    let texts = make_customers(filters, source, event).await?;
    let payloads = check_customers(source, &texts).map_err(EventError::Unmapped)?;
    let call = |(place, payload)| {
        let name = Some(source.name.clone());
        let append = Append::new(payload, message_ids, key.as_ref(), name, Some(place), received_at);
        append.map(|(_, append)| append).map_err(|error| EventError::Unmapped(Unmapped::TooLarge(error.message)))
    };
    payloads.iter().enumerate().map(call).collect()
}
