//! How a row of the table becomes a metric.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, IntCounter, Opts, Registry};

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

/// Counters that differ in the value of one label.
pub struct Counters(Vec<(&'static str, IntCounter)>);

impl Counters {
    /// A counter for each value of `label`, beside the labels of `opts`.
    pub(super) fn register(
        registry: &Registry,
        opts: &Opts,
        label: &str,
        values: &[&'static str],
    ) -> prometheus::Result<Self> {
        let counter = |value: &&'static str| {
            let counter = IntCounter::with_opts(opts.clone().const_label(label, *value))?;
            Ok((*value, registered(registry, counter)?))
        };
        values.iter().map(counter).collect::<prometheus::Result<_>>().map(Self)
    }

    pub(super) fn get(&self, value: &str) -> Option<&IntCounter> {
        self.iter().find_map(|(own, counter)| (own == value).then_some(counter))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &IntCounter)> {
        self.0.iter().map(|(value, counter)| (*value, counter))
    }
}

/// The backticks of the document are not for the text format.
pub(super) fn opts(name: &str, help: &str, labels: &[(&str, &str)]) -> Opts {
    let plain = Opts::new(name, help.replace('`', ""));
    labels.iter().fold(plain, |opts, (label, value)| opts.const_label(*label, *value))
}

pub(super) fn histogram(opts: Opts, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::from(opts).buckets(buckets.to_vec())
}

pub(super) fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
