//! The sources of a relay: how they are put together, and what SIGHUP does with them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::api::UnconfiguredSource;
use crate::config::{Problems, Secret};
use crate::metrics::{Metrics, SourceOutcome};
use crate::outbox::{Events, Store};
use crate::publisher::LiveClients;
use crate::sources::Sources;
use crate::sources::event::Filters;
use crate::sources::mapping::{Event, Filter, MapError, Mapper};
use crate::sources::settings::SourceTable;
use crate::telemetry::EVERY_LINE;

/// The sources, and everything that must know them.
#[derive(Clone)]
pub(super) struct SourceParts {
    pub(super) sources: Arc<Sources>,
    pub(super) mapper: Arc<Mapper>,
    live: Arc<LiveClients>,
    outbox: Option<Arc<dyn Store>>,
}

#[async_trait]
impl Filters for Mapper {
    async fn run(&self, source: &str, filter: &Arc<Filter>, event: Event) -> Result<Vec<Bytes>, MapError> {
        self.map(source, filter, event).await
    }
}

impl SourceParts {
    pub(super) fn new(
        table: &SourceTable,
        mapper: Arc<Mapper>,
        live: &Arc<LiveClients>,
        outbox: Option<&Arc<dyn Store>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let events = outbox.map(|outbox| outbox.clone() as Arc<dyn Events>);
        let settings = table.iter().cloned();
        let sources = Arc::new(Sources::new(settings, mapper.clone(), events, live.message_ids(), metrics));
        if let Some(outbox) = outbox {
            outbox.set_key_windows(table.key_windows());
        }
        let parts = Self { sources, mapper, live: live.clone(), outbox: outbox.cloned() };
        parts.warn(table);
        parts
    }

    /// From now on these are the sources, with this key for those without a key of their own.
    pub(super) fn replace(&self, table: &SourceTable, write_key: &Secret) {
        // A call that comes meanwhile finds its key and its window.
        self.live.replace_write_keys(&table.write_keys(write_key));
        if let Some(outbox) = &self.outbox {
            outbox.set_key_windows(table.key_windows());
        }
        self.sources.replace(table.iter().cloned());
        self.warn(table);
    }

    fn warn(&self, table: &SourceTable) {
        for warning in table.warnings() {
            tracing::warn!(name: EVERY_LINE, "{warning}");
        }
        for UnconfiguredSource { name, calls, .. } in self.unconfigured() {
            tracing::warn!(name: EVERY_LINE, source = name, calls, "a source has stored calls and is not configured: they wait");
        }
    }

    /// The sources that are not configured, of which calls wait.
    pub(super) fn unconfigured(&self) -> Vec<UnconfiguredSource> {
        let stats = self.outbox.iter().flat_map(|outbox| outbox.source_stats());
        let of_unknown = stats.filter_map(|stats| {
            let name = stats.source.filter(|name| self.sources.get(name).is_none())?;
            Some(UnconfiguredSource { name: name.to_string(), calls: stats.calls, bytes: stats.bytes })
        });
        of_unknown.collect()
    }

    /// How many events of the sources that are configured were kept as dead letters.
    pub(super) fn unmapped_events(&self) -> u64 {
        self.sources.all().iter().map(|source| source.metrics.number_of(SourceOutcome::Unmapped)).sum()
    }

    /// Updates the metrics of what waits.
    pub(super) fn update_gauges(&self) {
        let stats = self.outbox.as_ref().map(|outbox| outbox.source_stats()).unwrap_or_default();
        for source in self.sources.all() {
            let own = stats.iter().find(|stats| stats.source.as_ref() == Some(&source.settings.name));
            let (calls, bytes) = own.map_or((0, 0), |own| (own.calls, own.bytes));
            source.metrics.waiting_calls.set(calls.cast_signed());
            source.metrics.waiting_bytes.set(bytes.cast_signed());
            let queue = self.mapper.waiting(&source.settings.name);
            source.metrics.filter_queue.set(queue.try_into().unwrap_or(i64::MAX));
        }
    }
}

/// Compiles all filters, in a worker.
///
/// # Errors
/// Every filter that cannot be compiled.
pub(super) async fn check_filters(mapper: &Mapper, table: &SourceTable) -> Result<(), Problems> {
    let found = mapper.check(&table.filters()).await;
    let mut problems = Problems::default();
    // Each line begins with the place of its filter.
    found.iter().filter_map(|line| line.split_once(": ")).for_each(|(place, problem)| problems.add(place, problem));
    if found.is_empty() { Ok(()) } else { Err(problems) }
}
