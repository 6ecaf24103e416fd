//! How much waits of each source, and the names of the sources, which the calls in memory share.
//!
//! `POST /customers` has no count of its own: it has what is left of all.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use crate::outbox::{OutboxStats, SourceStats};

/// What waits of a source.
#[derive(Clone, Copy, Default)]
pub(super) struct SourceCount {
    pub(super) calls: u64,
    pub(super) bytes: u64,
}

/// The sources that ever had a call.
#[derive(Clone, Default)]
pub(super) struct Sources(BTreeMap<Arc<str>, SourceCount>);

impl Sources {
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        let mut all = conn.prepare("SELECT name, calls, bytes FROM sources")?;
        let source = |name: String, calls: i64, bytes: i64| {
            (Arc::from(name), SourceCount { calls: calls.max(0).unsigned_abs(), bytes: bytes.max(0).unsigned_abs() })
        };
        let all = all.query_map([], |row| Ok(source(row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_>>()?;
        Ok(Self(all))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    pub(super) fn count(&self, name: &str) -> SourceCount {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Bytes that wait of all sources, if those that `changed` have other counts.
    pub(super) fn bytes(&self, changed: &BTreeMap<Arc<str>, SourceCount>) -> u64 {
        let unchanged = self.0.iter().filter(|(name, _)| !changed.contains_key(*name));
        unchanged.chain(changed).map(|(_, count)| count.bytes).sum()
    }

    /// The name in a row's column.
    pub(super) fn name(&self, column: ValueRef<'_>) -> Result<Option<Arc<str>>> {
        let Some(name) = column.as_str_or_null()? else { return Ok(None) };
        Ok(Some(self.0.get_key_value(name).map_or_else(|| Arc::from(name), |(known, _)| known.clone())))
    }

    /// Notes what a transaction changed.
    pub(super) fn change(&mut self, changed: &BTreeMap<Arc<str>, SourceCount>) {
        self.0.extend(changed.iter().map(|(name, count)| (name.clone(), *count)));
    }

    /// Whether any call of a source waits.
    pub(super) fn has_calls(&self) -> bool {
        self.0.values().any(|count| count.calls > 0)
    }

    /// What waits of `POST /customers`, and of each source of which anything does.
    pub(super) fn stats(&self, all: &OutboxStats) -> Vec<SourceStats> {
        let mut left = SourceStats { source: None, calls: all.waiting, bytes: all.waiting_bytes };
        let mut stats = Vec::new();
        for (name, SourceCount { calls, bytes }) in self.0.iter().filter(|(_, count)| count.calls > 0) {
            (left.calls, left.bytes) = (left.calls.saturating_sub(*calls), left.bytes.saturating_sub(*bytes));
            stats.push(SourceStats { source: Some(name.clone()), calls: *calls, bytes: *bytes });
        }
        stats.insert(0, left);
        stats
    }
}
