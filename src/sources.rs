//! Sources: products whose own webhooks are taken at `POST /sources/{name}`.
//!
//! An event's sender is verified (`auth`), a filter of the operator's makes customers of it (`mapping`, in a process of its own),
//! and each customer is then like one of `POST /customers`. A source is data: nothing here knows a product's name.

pub mod event;
pub mod mapping;
mod preview;
mod replay;
pub mod settings;
#[cfg(test)]
pub(crate) mod test_sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::metrics::{Metrics, SourceMetrics};
use crate::outbox::{Events, KeptEvent, OutboxError};
use crate::segment::{IdempotencyKey, MessageIds};
use event::{EventError, Filters, Unmapped};
use mapping::Event;
use settings::{OnError, SourceSettings};

pub use preview::Preview;
pub use replay::Replay;

/// The sources that are configured, and what runs their filters and keeps their events.
pub struct Sources {
    by_name: RwLock<Arc<SourcesByName>>,
    filters: Arc<dyn Filters>,
    /// `None` without an outbox.
    events: Option<Arc<dyn Events>>,
    message_ids: MessageIds,
    metrics: Arc<Metrics>,
}

type SourcesByName = BTreeMap<Arc<str>, Arc<Source>>;

/// A source that is configured.
pub struct Source {
    pub settings: Arc<SourceSettings>,
    pub metrics: SourceMetrics,
}

impl Sources {
    /// Message ids are those of the clients that store or send the customers.
    pub fn new(
        settings: impl IntoIterator<Item = Arc<SourceSettings>>,
        filters: Arc<dyn Filters>,
        events: Option<Arc<dyn Events>>,
        message_ids: MessageIds,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sources = Self { by_name: RwLock::default(), filters, events, message_ids, metrics };
        sources.replace(settings);
        sources
    }

    /// From now on these are the sources. One that was there before keeps its metrics.
    pub fn replace(&self, settings: impl IntoIterator<Item = Arc<SourceSettings>>) {
        let before = self.by_name.read().clone();
        let source = |settings: Arc<SourceSettings>| {
            let metrics = self.metrics.of_source(&settings.name);
            (settings.name.clone(), Arc::new(Source { settings, metrics }))
        };
        let now: SourcesByName = settings.into_iter().map(source).collect();
        before.keys().filter(|name| !now.contains_key(*name)).for_each(|name| self.metrics.forget_source(name));
        *self.by_name.write() = Arc::new(now);
    }

    pub fn get(&self, name: &str) -> Option<Arc<Source>> {
        self.by_name.read().get(name).cloned()
    }

    /// All sources, by name.
    pub fn all(&self) -> Vec<Arc<Source>> {
        self.by_name.read().values().cloned().collect()
    }

    /// What happens to an event of this source that makes no valid customers.
    pub fn on_error(&self, source: &Source) -> OnError {
        let default = if self.events.is_some() { OnError::Keep } else { OnError::Refuse };
        source.settings.on_error.unwrap_or(default)
    }

    /// The customers of an event, as JSON texts that are not checked yet.
    ///
    /// # Errors
    /// The body is not JSON, or the filter fails.
    pub async fn make_customers(&self, source: &Source, event: Event) -> Result<Vec<Bytes>, EventError> {
        let begun = Instant::now();
        let made = event::make_customers(&*self.filters, &source.settings, event).await;
        if source.settings.filter.is_some() {
            source.metrics.filter_seconds.observe(begun.elapsed().as_secs_f64());
        }
        made
    }

    /// Keeps an event as a dead letter. Returns after the sync.
    ///
    /// # Errors
    /// If it is not kept, or perhaps not.
    pub async fn keep(
        &self,
        source: &Source,
        event: Event,
        key: Option<&IdempotencyKey>,
        why: &Unmapped,
        deadline: Instant,
    ) -> Result<(), OutboxError> {
        let Some(events) = &self.events else { return Err(OutboxError::Closed) };
        let name = source.settings.name.clone();
        let Event { headers, body, received_at } = event;
        let key = key.map(|key| digest(&name, &key.value, &body));
        let reason = why.to_string();
        events.keep(KeptEvent { source: name, headers, body, received_at, reason, key }, deadline).await
    }

    /// Makes customers of an event that is a dead letter, with the filter that its source has now.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn replay(&self, id: i64) -> Result<Replay, OutboxError> {
        let Some(events) = &self.events else { return Ok(Replay::Gone) };
        let Some(kept) = events.find(id).await? else { return Ok(Replay::Gone) };
        let Some(source) = self.get(&kept.source) else { return Ok(Replay::NotConfigured) };
        replay::replay(&**events, &*self.filters, &self.message_ids, &source.settings, id, kept).await
    }

    /// What a replay of this dead letter would make. Runs the filter, as a replay does.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn preview(&self, id: i64) -> Result<Preview, OutboxError> {
        let Some(events) = &self.events else { return Ok(Preview::Gone) };
        let Some(kept) = events.find(id).await? else { return Ok(Preview::Gone) };
        let Some(source) = self.get(&kept.source) else { return Ok(Preview::NotConfigured) };
        Ok(preview::preview(&*self.filters, &source.settings, kept).await)
    }
}

/// Digest of a source, a key and a body. A name has no NUL, and the digest of a body one length.
fn digest(source: &str, key: &[u8], body: &[u8]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    [source.as_bytes(), b"\0", &Sha256::digest(body), key].iter().for_each(|part| hasher.update(part));
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    first
}
