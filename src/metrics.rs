//! What the relay can say about itself: the counters behind `/metrics`.
//!
//! Every series is registered once, at the start, so counting is one atomic addition. Names are the contract's: all begin
//! with `segment_relay_`. It uses nothing else of ours; the others count here.

mod summary;

use std::collections::BTreeMap;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

pub use summary::Summary;

/// How a request to `POST /customers` can end: `accepted`, `stored`, or the `code` of its error.
const OUTCOMES: [&str; 20] = [
    "accepted",
    "idempotency_key_reused",
    "invalid_json",
    "invalid_payload",
    "message_too_large",
    "method_not_allowed",
    "not_configured",
    "outbox_timeout",
    "overloaded",
    "request_timeout",
    "segment_misconfigured",
    "segment_rate_limited",
    "segment_rejected",
    "segment_timeout",
    "segment_unauthorized",
    "segment_unavailable",
    "shutting_down",
    "stored",
    "unauthorized",
    "unsupported_media_type",
];

/// What the answer to a request to Segment can mean.
const VERDICTS: [&str; 7] = ["about_us", "accepted", "exhausted", "failed", "no_answer", "rate_limited", "refused"];

/// From a call on the same machine to `SEGMENT_TIMEOUT`'s default, in seconds.
const DURATIONS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// From one call to Segment's limit of 2,500 a request.
const BATCHES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0, 2500.0];

/// From a disk that syncs in memory of its own to one that hangs, in seconds.
const COMMITS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// From one command to the most that one commit takes.
const COMMIT_CALLS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0];

/// The counters of one relay.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    /// Panics of handlers.
    pub panics: IntCounter,
    /// Requests answered 200. This outcome and the next are counted on the hot path.
    pub requests_accepted: IntCounter,
    /// Requests answered 202.
    pub requests_stored: IntCounter,
    /// `POST /customers` in flight now.
    pub in_flight: IntGauge,
    /// Calls that Segment accepted.
    pub calls_accepted: IntCounter,
    /// Calls that Segment refused for good.
    pub calls_refused: IntCounter,
    /// Calls that were certainly not accepted, or may have been, when the relay gave up.
    pub calls_given_up: IntCounter,
    /// Calls whose caller left before they were sent, or sent again.
    pub calls_withdrawn: IntCounter,
    /// Seconds an attempt took, from building the request to the last byte of the answer, or to the failure.
    pub attempt_seconds: Histogram,
    attempts: IntCounterVec,
    /// Calls in one request to Segment.
    pub batch_calls: Histogram,
    /// Slots that hold a request to Segment now.
    pub slots_busy: IntGauge,
    /// Calls in hand that are not in a request.
    pub calls_waiting: IntGauge,
    /// 1 while Segment told us to wait, or does not know us; else 0.
    pub gate_shut: IntGauge,
    /// Calls in the outbox that wait.
    pub outbox_calls: IntGauge,
    /// For how many seconds the oldest of them has waited.
    pub outbox_oldest_seconds: IntGauge,
    /// What the outbox takes on disk.
    pub outbox_bytes: IntGauge,
    pub dead_letters: IntGauge,
    /// Calls that were stored.
    pub outbox_stored: IntCounter,
    /// Stored calls that Segment accepted, and whose deletion is synced.
    pub outbox_delivered: IntCounter,
    /// Stored calls that became dead letters.
    pub outbox_refused: IntCounter,
    /// Dead letters that were put back.
    pub outbox_replayed: IntCounter,
    /// Dead letters that were deleted.
    pub outbox_discarded: IntCounter,
    /// Seconds a whole transaction took, its sync included.
    pub outbox_commit_seconds: Histogram,
    /// Seconds the commit itself took: the write of the log and its sync.
    pub outbox_sync_seconds: Histogram,
    /// Commands in one transaction.
    pub outbox_commit_calls: Histogram,
}

impl Metrics {
    /// All counters at zero.
    ///
    /// # Errors
    /// If two series have one name: a fault of this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = counters(&registry, "requests_total", "Requests to POST /customers by outcome", "outcome")?;
        for outcome in OUTCOMES {
            requests.with_label_values(&[outcome]);
        }
        let calls = counters(&registry, "calls_total", "Calls by result", "result")?;
        let attempts =
            counters(&registry, "attempts_total", "Requests to Segment by what the answer meant", "verdict")?;
        for verdict in VERDICTS {
            attempts.with_label_values(&[verdict]);
        }
        let build = IntGauge::with_opts(
            Opts::new("segment_relay_build_info", "Always 1; the version is a label")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        Ok(Self {
            requests_accepted: requests.with_label_values(&["accepted"]),
            requests_stored: requests.with_label_values(&["stored"]),
            requests,
            panics: counter(&registry, "panics_total", "Panics of handlers")?,
            in_flight: gauge(&registry, "requests_in_flight", "POST /customers in flight")?,
            calls_accepted: calls.with_label_values(&["accepted"]),
            calls_refused: calls.with_label_values(&["refused"]),
            calls_given_up: calls.with_label_values(&["given_up"]),
            calls_withdrawn: calls.with_label_values(&["withdrawn"]),
            attempt_seconds: histogram(&registry, "attempt_seconds", "Duration of a request to Segment", &DURATIONS)?,
            attempts,
            batch_calls: histogram(&registry, "batch_calls", "Calls in a request to Segment", &BATCHES)?,
            slots_busy: gauge(&registry, "slots_busy", "Requests to Segment under way")?,
            calls_waiting: gauge(&registry, "calls_waiting", "Calls that wait for a request to Segment")?,
            gate_shut: gauge(&registry, "gate_shut", "1 while nothing is sent: rate limit, credentials or endpoint")?,
            outbox_calls: gauge(&registry, "outbox_calls", "Calls in the outbox that wait")?,
            outbox_oldest_seconds: gauge(&registry, "outbox_oldest_seconds", "How long the oldest of them has waited")?,
            outbox_bytes: gauge(&registry, "outbox_bytes", "Bytes the outbox takes on disk")?,
            dead_letters: gauge(&registry, "dead_letters", "Calls that Segment refused, to be replayed or discarded")?,
            outbox_stored: counter(&registry, "outbox_stored_total", "Calls stored")?,
            outbox_delivered: counter(&registry, "outbox_delivered_total", "Stored calls that Segment accepted")?,
            outbox_refused: counter(&registry, "outbox_refused_total", "Stored calls that became dead letters")?,
            outbox_replayed: counter(&registry, "outbox_replayed_total", "Dead letters put back")?,
            outbox_discarded: counter(&registry, "outbox_discarded_total", "Dead letters deleted")?,
            outbox_commit_seconds: histogram(
                &registry,
                "outbox_commit_seconds",
                "Duration of a transaction of the outbox, its sync included",
                &COMMITS,
            )?,
            outbox_sync_seconds: histogram(
                &registry,
                "outbox_sync_seconds",
                "Duration of the commit itself: write and sync",
                &COMMITS,
            )?,
            outbox_commit_calls: histogram(
                &registry,
                "outbox_commit_calls",
                "Commands in a transaction of the outbox",
                &COMMIT_CALLS,
            )?,
            registry,
        })
    }

    /// Counts a request that ended with this error code.
    pub fn request_failed(&self, code: &str) {
        self.requests.with_label_values(&[code]).inc();
    }

    /// How many requests ended in each way.
    pub fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        OUTCOMES.iter().map(|outcome| (*outcome, self.requests.with_label_values(&[outcome]).get())).collect()
    }

    /// Counts a request to Segment by what its answer meant.
    pub fn attempted(&self, verdict: &str) {
        self.attempts.with_label_values(&[verdict]).inc();
    }

    /// Everything, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// If a series cannot be written as text: a fault of this file.
    pub fn metrics(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(format!("segment_relay_{name}"), help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(format!("segment_relay_{name}"), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(format!("segment_relay_{name}"), help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    let opts = HistogramOpts::new(format!("segment_relay_{name}"), help).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(opts)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}
