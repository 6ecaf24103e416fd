//! The relay's Prometheus metrics, declared in one table (`table`).
//!
//! To add a metric, add a row to the table, count on its field, and write docs/metrics.md anew (a test says how). Every series
//! is there from the start with 0, and counting is one atomic addition. Series of a source are there while it is configured, and
//! those of a listener while it listens. This module uses no other module, so label values are plain words here; tests compare
//! the error codes with those of the API.

#[macro_use]
mod declare;
mod listeners;
mod sources;
mod summary;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::TextEncoder;

pub use listeners::ListenerMetrics;
pub use sources::{SourceMetrics, SourceOutcome};
pub use summary::{HistogramCounts, Summary};
pub use table::Metrics;

impl Metrics {
    /// Counts a request that was answered with this error code. A code that the table lacks counts as `internal_error`.
    pub fn request_failed(&self, code: &str) {
        let counter = self.requests_refused.get(code).or_else(|| self.requests_failed.get(code));
        if let Some(counter) = counter.or_else(|| self.requests_failed.get("internal_error")) {
            counter.inc();
        }
    }

    /// The number of requests by `accepted`, `stored` or error code.
    pub fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        let successes = [("accepted", &self.requests_accepted), ("stored", &self.requests_stored)].into_iter();
        let all = successes.chain(self.requests_refused.iter()).chain(self.requests_failed.iter());
        all.map(|(outcome, counter)| (outcome, counter.get())).collect()
    }

    /// Records how long a request with customers took, by the status of its answer.
    pub fn answered(&self, status: u16, took: Duration) {
        let seconds = match status {
            200 => &self.request_seconds_accepted,
            202 => &self.request_seconds_stored,
            ..500 => &self.request_seconds_refused,
            _ => &self.request_seconds_failed,
        };
        seconds.observe(took.as_secs_f64());
    }

    /// Counts a request to Segment by what its answer means.
    pub fn attempted(&self, result: &str) {
        debug_assert!(self.attempts.get(result).is_some(), "{result} is not in the table");
        if let Some(counter) = self.attempts.get(result) {
            counter.inc();
        }
    }

    /// What the system says about this process, under the relay's own prefix.
    #[cfg(target_os = "linux")]
    fn register_process(&self) -> prometheus::Result<()> {
        use prometheus::process_collector::ProcessCollector;

        let id = std::process::id().cast_signed();
        self.registry.register(Box::new(ProcessCollector::new(id, "segment_relay")))
    }

    /// Nothing: other systems have no /proc.
    #[cfg(not(target_os = "linux"))]
    fn register_process(&self) -> prometheus::Result<()> {
        Ok(())
    }

    /// All series in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// If a series cannot be written as text: a fault of this file.
    pub fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests;
