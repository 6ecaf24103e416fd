//! What the filter that a source has now makes of an event that is a dead letter. Nothing is stored or changed.

use bytes::Bytes;

use super::event::{EventError, Filters, Unmapped, check_customers, make_customers};
use super::mapping::Event;
use super::settings::SourceSettings;
use crate::outbox::KeptEvent;

/// What a replay of an event would make now.
#[derive(Debug, PartialEq, Eq)]
pub enum Preview {
    /// The customers, as JSON texts, and why they, or the event, would not be taken. Whether the event's key came with another
    /// customer before is not looked at.
    Made { customers: Vec<Bytes>, why_not: Option<Unmapped> },
    /// There is no such dead letter, or it is a call.
    Gone,
    /// Its source is not configured.
    NotConfigured,
    /// Too many events of its source wait for the filter.
    Overloaded,
}

/// Runs the filter, and checks what it makes.
pub(super) async fn preview(filters: &dyn Filters, source: &SourceSettings, kept: KeptEvent) -> Preview {
    let KeptEvent { headers, body, received_at, .. } = kept;
    match make_customers(filters, source, Event { headers, body, received_at }).await {
        Ok(customers) => {
            let why_not = check_customers(source, &customers).err();
            Preview::Made { customers, why_not }
        }
        Err(EventError::Unmapped(why)) => Preview::Made { customers: Vec::new(), why_not: Some(why) },
        Err(EventError::Overloaded) => Preview::Overloaded,
    }
}
