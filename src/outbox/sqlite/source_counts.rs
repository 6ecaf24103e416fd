//! Counting what waits of each source, in the transaction that changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Result;

use super::sources::SourceCount;
use super::transaction::Transaction;
use super::writer::Writer;

impl Transaction<'_> {
    /// A call begins to wait.
    pub(super) fn count_waiting(&mut self, source: Option<&Arc<str>>, bytes: u64) {
        self.effects.stats.waiting += 1;
        self.effects.stats.waiting_bytes += bytes;
        if let Some(source) = source {
            let count = self.source(source);
            (count.calls, count.bytes) = (count.calls + 1, count.bytes + bytes);
        }
    }

    /// A call does not wait any more.
    pub(super) fn count_left(&mut self, source: Option<&Arc<str>>, bytes: u64) {
        let stats = &mut self.effects.stats;
        stats.waiting = stats.waiting.saturating_sub(1);
        stats.waiting_bytes = stats.waiting_bytes.saturating_sub(bytes);
        if let Some(source) = source {
            let count = self.source(source);
            (count.calls, count.bytes) = (count.calls.saturating_sub(1), count.bytes.saturating_sub(bytes));
        }
    }

    /// What waits of this source, to be changed.
    fn source(&mut self, name: &Arc<str>) -> &mut SourceCount {
        let known = || self.memory.sources.count(name);
        self.effects.sources.entry(name.clone()).or_insert_with(known)
    }

    /// Bytes that wait of this source, or of `POST /customers`.
    pub(super) fn source_bytes(&self, source: Option<&str>) -> u64 {
        let (changed, known) = (&self.effects.sources, &self.memory.sources);
        match source {
            Some(name) => changed.get(name).copied().unwrap_or_else(|| known.count(name)).bytes,
            None => self.effects.stats.waiting_bytes.saturating_sub(known.bytes(changed)),
        }
    }

    /// Stores what was changed.
    pub(super) fn write_sources(&self) -> Result<()> {
        let sql = "INSERT INTO sources (name, calls, bytes) VALUES (?1, ?2, ?3)
                   ON CONFLICT (name) DO UPDATE SET calls = excluded.calls, bytes = excluded.bytes";
        for (name, SourceCount { calls, bytes }) in &self.effects.sources {
            self.execute(sql, (name, calls.cast_signed(), bytes.cast_signed()))?;
        }
        Ok(())
    }
}

impl Writer {
    /// Notes what a transaction changed.
    pub(super) fn note_sources(&mut self, changed: &BTreeMap<Arc<str>, SourceCount>) {
        if !changed.is_empty() {
            self.memory.sources.change(changed);
            self.state.publish_sources(&self.memory.sources);
        }
    }

    /// Takes new windows of the sources' keys, if there are any.
    pub(super) fn take_key_windows(&mut self) {
        if let Some(windows) = self.state.take_key_windows() {
            self.memory.has_sources = !windows.is_empty();
            self.pruners.set_windows(windows);
        }
    }
}
