//! The relay's Prometheus metrics, declared in one table.
//!
//! To add a metric, add a row to the table and count on its field. Every series is there from the start with 0, and
//! counting is one atomic addition. Series by source are there while their source is configured. This module uses no
//! other module, so label values are plain words here; tests compare the error codes with those of the API.

mod sources;
mod summary;

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use sources::{SourceMetrics, SourceOutcome};
pub use summary::{HistogramCounts, Summary};

/// Seconds, from a disk that syncs to its own memory to one that hangs.
const COMMIT_SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// Makes a metric of one row and registers it.
macro_rules! register {
    (Histogram, $registry:expr, $name:expr, $help:expr, $buckets:expr) => {
        registered($registry, Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))?)?
    };
    (HistogramVec, $registry:expr, $name:expr, $help:expr, $labels:expr, $buckets:expr) => {
        registered($registry, HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), $labels)?)?
    };
    (IntCounterVec, $registry:expr, $name:expr, $help:expr, $labels:expr) => {
        registered($registry, IntCounterVec::new(Opts::new($name, $help), $labels)?)?
    };
    (IntGaugeVec, $registry:expr, $name:expr, $help:expr, $labels:expr) => {
        registered($registry, IntGaugeVec::new(Opts::new($name, $help), $labels)?)?
    };
    (Counters, $registry:expr, $name:expr, $help:expr, $labels:expr, $label:expr, $values:expr) => {
        Counters::register($registry, &opts($name, $help, $labels), $label, $values)?
    };
    ($kind:ident, $registry:expr, $name:expr, $help:expr, $labels:expr) => {
        registered($registry, $kind::with_opts(opts($name, $help, $labels))?)?
    };
}

/// Makes the struct `Metrics` of rows `"name": "help" => field: Type(labels or buckets), ...;`.
macro_rules! metrics {
    ($($name:literal: $help:literal => $($field:ident: $kind:ident($($spec:expr),+)),+;)+) => {
        /// The metrics of one relay.
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = concat!("`", $name, "`: ", $help, ".")] pub $field: $kind,)+)+
        }

        impl Metrics {
            /// All series at 0.
            ///
            /// # Errors
            /// If the table declares a series twice: a fault of this file.
            pub fn new() -> prometheus::Result<Self> {
                let registry = Registry::new();
                let metrics = Self {
                    $($($field: register!($kind, &registry, $name, $help, $($spec),+),)+)+
                    registry,
                };
                metrics.build_info.set(1);
                Ok(metrics)
            }
        }
    };
}

metrics! {
    "segment_relay_build_info": "Always 1; the version is a label" =>
        build_info: IntGauge(&[("version", env!("CARGO_PKG_VERSION"))]);
    "segment_relay_requests_total":
        "Customers posted, by outcome: 200 accepted, 202 stored, 4xx refused, 5xx failed; code is the error's" =>
        requests_accepted: IntCounter(&[("result", "accepted"), ("code", "")]),
        requests_stored: IntCounter(&[("result", "stored"), ("code", "")]),
        requests_refused: Counters(&[("result", "refused")], "code", &[
            "bad_request", "gave_up", "idempotency_key_reused", "invalid_json", "invalid_payload",
            "message_too_large", "method_not_allowed", "request_timeout", "segment_rejected", "unauthorized", "unsupported_media_type",
        ]),
        requests_failed: Counters(&[("result", "failed")], "code", &[
            "internal_error", "outbox_timeout", "overloaded", "segment_misconfigured", "segment_rate_limited",
            "segment_timeout", "segment_unauthorized", "segment_unavailable", "shutting_down",
        ]);
    "segment_relay_requests_in_flight": "POST /customers in flight" => requests_in_flight: IntGauge(&[]);
    "segment_relay_admin_requests_total":
        "Operators' requests: succeeded (2xx), failed, or unauthorized without the right token" =>
        admin_succeeded: IntCounter(&[("result", "succeeded")]),
        admin_failed: IntCounter(&[("result", "failed")]),
        admin_unauthorized: IntCounter(&[("result", "unauthorized")]);
    "segment_relay_log_lines_dropped_total":
        "Lines that are not in the log: over the limit of their kind, or in a backlog that nobody read in time" =>
        log_lines_over_limit: IntCounter(&[("reason", "limit")]),
        log_lines_in_backlog: IntCounter(&[("reason", "backlog")]);
    "segment_relay_panics_total": "Panics of request handlers, each answered 500" => panics: IntCounter(&[]);
    "segment_relay_calls_total":
        "Calls by result: failed was certainly not accepted, unknown may have been, withdrawn had no caller left" =>
        calls_accepted: IntCounter(&[("result", "accepted")]),
        calls_refused: IntCounter(&[("result", "refused")]),
        calls_failed: IntCounter(&[("result", "failed")]),
        calls_unknown: IntCounter(&[("result", "unknown")]),
        calls_withdrawn: IntCounter(&[("result", "withdrawn")]);
    "segment_relay_calls_waiting": "Calls in memory that wait for a request to Segment" => calls_waiting: IntGauge(&[]);
    "segment_relay_segment_attempts_total":
        "Requests to Segment by what the answer means: unknown had no answer, exhausted was retried too often" =>
        attempts: Counters(&[], "result", &[
            "accepted", "exhausted", "misconfigured", "rate_limited", "refused", "unauthorized", "unavailable",
            "unknown",
        ]);
    "segment_relay_segment_attempt_duration_seconds": "Duration of a request to Segment, to the end of its answer" =>
        // From a stand-in for Segment on the same machine to the default of SEGMENT_TIMEOUT.
        attempt_seconds: Histogram(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]);
    "segment_relay_batch_calls": "Calls in a request to Segment" =>
        // Up to Segment's limit of 2,500 a request.
        batch_calls: Histogram(&[1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0, 2500.0]);
    "segment_relay_slots_busy": "Requests to Segment in flight" => slots_busy: IntGauge(&[]);
    "segment_relay_gate_shut": "1 in an outage, while one call at a time asks, and while a rate limit lasts" =>
        gate_shut: IntGauge(&[]);
    "segment_relay_write_keys_refused": "Write keys that Segment refuses while it may accept another one" =>
        write_keys_refused: IntGauge(&[]);
    "segment_relay_outbox_calls": "Stored calls that are not settled" => outbox_calls: IntGauge(&[]);
    "segment_relay_outbox_oldest_call_age_seconds": "Age of the oldest stored call that is not settled" =>
        outbox_oldest_seconds: IntGauge(&[]);
    "segment_relay_outbox_size_bytes": "Bytes of the file that calls, keys and dead letters take" => outbox_bytes: IntGauge(&[]);
    "segment_relay_outbox_log_bytes": "Length of the outbox's write-ahead log" => outbox_log_bytes: IntGauge(&[]);
    "segment_relay_outbox_stored_total": "Calls stored" => outbox_stored: IntCounter(&[]);
    "segment_relay_outbox_settled_total":
        "Stored calls that were settled and synced; one that was refused or given up is a dead letter" =>
        outbox_accepted: IntCounter(&[("result", "accepted")]),
        outbox_refused: IntCounter(&[("result", "refused")]),
        outbox_gave_up: IntCounter(&[("result", "gave_up")]);
    "segment_relay_outbox_share_exhausted_total":
        "Calls that were not stored because a share of the outbox is used up: their user's, their source's, or that of all parked calls" =>
        share_exhausted_user: IntCounter(&[("share", "user")]),
        share_exhausted_parked: IntCounter(&[("share", "parked")]),
        share_exhausted_source: IntCounter(&[("share", "source")]);
    "segment_relay_outbox_commit_duration_seconds": "Duration of a transaction of the outbox, its sync included" =>
        outbox_commit_seconds: Histogram(&COMMIT_SECONDS);
    "segment_relay_outbox_sync_duration_seconds": "Duration of the commit alone: the write of the log and its sync" =>
        outbox_sync_seconds: Histogram(&COMMIT_SECONDS);
    "segment_relay_outbox_commit_commands": "Commands in a transaction of the outbox" =>
        // Up to the most that one transaction takes.
        outbox_commit_commands: Histogram(&[1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0]);
    "segment_relay_parked_users": "Users whose first stored call fails on its own" => parked_users: IntGauge(&[]);
    "segment_relay_parked_calls": "Stored calls kept apart: those of parked users, and of users with very many" =>
        parked_calls: IntGauge(&[]);
    "segment_relay_users_parked_total": "Users who were parked" => users_parked: IntCounter(&[]);
    "segment_relay_users_woken_total": "Parked users whose first call was accepted, refused or given up" =>
        users_woken: IntCounter(&[]);
    "segment_relay_dead_letters": "Dead letters in the outbox" => dead_letters: IntGauge(&[]);
    "segment_relay_dead_letters_replayed_total": "Dead letters put back" => dead_letters_replayed: IntCounter(&[]);
    "segment_relay_dead_letters_discarded_total": "Dead letters that operators deleted" => dead_letters_discarded: IntCounter(&[]);
    "segment_relay_dead_letters_pushed_out_total":
        "Dead letters, the oldest first, deleted because they and parked calls take more than half of the outbox" =>
        dead_letters_pushed_out: IntCounter(&[]);
    "segment_relay_dead_letters_expired_total": "Dead letters deleted because of their age" =>
        dead_letters_expired: IntCounter(&[]);
    "segment_relay_source_events_total":
        "Answers at /sources: mapped made customers, none made none, unmapped was kept as a dead letter, refused is 4xx, failed 5xx" =>
        source_events: IntCounterVec(&["source", "outcome"]);
    "segment_relay_source_filter_duration_seconds": "Time that events wait for their source's filter, its own included" =>
        // From one round trip to a worker to the time that a filter has.
        source_filter_seconds: HistogramVec(
            &["source"],
            [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]
        );
    "segment_relay_source_waiting_calls": "Stored calls of a source that are not settled" => source_calls: IntGaugeVec(&["source"]);
    "segment_relay_source_waiting_bytes": "Bytes of the stored calls of a source that are not settled" =>
        source_bytes: IntGaugeVec(&["source"]);
    "segment_relay_map_worker_restarts_total":
        "Mapping workers that ended and were replaced: a filter took too much time or memory, or it was another reason" =>
        map_workers_out_of_time: IntCounter(&[("reason", "time")]),
        map_workers_out_of_memory: IntCounter(&[("reason", "memory")]),
        map_workers_crashed: IntCounter(&[("reason", "crash")]);
}

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

    /// Counts a request to Segment by what its answer means.
    pub fn attempted(&self, result: &str) {
        debug_assert!(self.attempts.get(result).is_some(), "{result} is not in the table");
        if let Some(counter) = self.attempts.get(result) {
            counter.inc();
        }
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

fn opts(name: &str, help: &str, labels: &[(&str, &str)]) -> Opts {
    labels.iter().fold(Opts::new(name, help), |opts, (label, value)| opts.const_label(*label, *value))
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests;
