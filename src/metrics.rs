//! The relay's Prometheus metrics, declared in one table (`table`).
//!
//! To add a metric, add a row to the table, count on its field, and write docs/metrics.md anew (a test says how). Every series
//! is there from the start with 0, and counting is one atomic addition. Series of a source are there while it is configured, and
//! those of a listener while it listens. This module uses no other module, so label values are plain words here; tests compare
//! the error codes with those of the API.

mod listeners;
mod sources;
mod summary;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, IntCounter, Opts, Registry, TextEncoder};

pub use listeners::ListenerMetrics;
pub use sources::{SourceMetrics, SourceOutcome};
pub use summary::{HistogramCounts, Summary};
pub use table::Metrics;

/// Makes a metric of one row and registers it.
macro_rules! register {
    (Histogram, $registry:expr, $name:expr, $help:expr, $labels:expr, $buckets:expr) => {
        registered($registry, Histogram::with_opts(histogram(opts($name, $help, $labels), &$buckets))?)?
    };
    (HistogramVec, $registry:expr, $name:expr, $help:expr, $labels:expr, $buckets:expr) => {
        registered($registry, HistogramVec::new(histogram(opts($name, $help, &[]), &$buckets), $labels)?)?
    };
    (IntCounterVec, $registry:expr, $name:expr, $help:expr, $labels:expr) => {
        registered($registry, IntCounterVec::new(opts($name, $help, &[]), $labels)?)?
    };
    (IntGaugeVec, $registry:expr, $name:expr, $help:expr, $labels:expr) => {
        registered($registry, IntGaugeVec::new(opts($name, $help, &[]), $labels)?)?
    };
    (Counters, $registry:expr, $name:expr, $help:expr, $labels:expr, $label:expr, $values:expr) => {
        Counters::register($registry, &opts($name, $help, $labels), $label, $values)?
    };
    ($kind:ident, $registry:expr, $name:expr, $help:expr, $labels:expr) => {
        registered($registry, $kind::with_opts(opts($name, $help, $labels))?)?
    };
}

/// Makes the struct `Metrics` of groups `"title" { rows }` of rows `"name": "help" => field: Type(labels or buckets), ...;`.
macro_rules! metrics {
    ($($group:literal {
        $($name:literal: $help:literal => $($field:ident: $kind:ident($($spec:expr),+)),+;)+
    })+) => {
        /// The metrics of one relay.
        pub struct Metrics {
            pub(super) registry: Registry,
            $($($(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $kind,)+)+)+
        }

        impl Metrics {
            /// All series at 0.
            ///
            /// # Errors
            /// If the table declares a series twice: a fault of this file.
            pub fn new() -> prometheus::Result<Self> {
                let registry = Registry::new();
                let metrics = Self {
                    $($($($field: register!($kind, &registry, $name, $help, $($spec),+),)+)+)+
                    registry,
                };
                metrics.build_info.set(1);
                metrics.register_process()?;
                Ok(metrics)
            }
        }

        /// The titles of the groups, and the names and words of each, in the order of the table.
        #[cfg(test)]
        pub(super) const GROUPS: &[(&str, &[(&str, &str)])] = &[$(($group, &[$(($name, $help)),+])),+];
    };
}

mod table;

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

/// Counters that differ in the value of one label.
pub struct Counters(Vec<(&'static str, IntCounter)>);

impl Counters {
    /// A counter for each value of `label`, beside the labels of `opts`.
    fn register(registry: &Registry, opts: &Opts, label: &str, values: &[&'static str]) -> prometheus::Result<Self> {
        let counter = |value: &&'static str| {
            let counter = IntCounter::with_opts(opts.clone().const_label(label, *value))?;
            Ok((*value, registered(registry, counter)?))
        };
        values.iter().map(counter).collect::<prometheus::Result<_>>().map(Self)
    }

    fn get(&self, value: &str) -> Option<&IntCounter> {
        self.iter().find_map(|(own, counter)| (own == value).then_some(counter))
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &IntCounter)> {
        self.0.iter().map(|(value, counter)| (*value, counter))
    }
}

/// The backticks of the document are not for the text format.
fn opts(name: &str, help: &str, labels: &[(&str, &str)]) -> Opts {
    let plain = Opts::new(name, help.replace('`', ""));
    labels.iter().fold(plain, |opts, (label, value)| opts.const_label(*label, *value))
}

fn histogram(opts: Opts, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::from(opts).buckets(buckets.to_vec())
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests;
