//! The last 15 minutes, for the operators' page: a bounded ring of samples, taken from the metrics.
//!
//! A task reads the counters each five seconds. The requests themselves record nothing for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::metrics::{HistogramCounts, Metrics};
use crate::segment::rfc3339_milliseconds;

/// Time from one sample to the next: short enough to show an outage as it begins.
const STEP: Duration = Duration::from_secs(5);

/// Samples that are kept: 15 minutes.
const SAMPLES: usize = 180;

/// What happened from one sample to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    /// Calls a second. `None` without an outbox.
    stored: Option<f64>,
    delivered: f64,
    /// Refused by Segment, or given up.
    refused: f64,
    /// The age of the oldest call at the end, in seconds. `None` if none waits.
    oldest_seconds: Option<u64>,
    /// Of the requests to Segment that ended in this time, in milliseconds. `None` if none did.
    segment_p99_ms: Option<f64>,
    /// The number of refused calls.
    #[serde(skip)]
    refused_calls: u64,
}

/// The samples, and the time of the last one.
#[derive(Default)]
struct Ring {
    samples: VecDeque<Sample>,
    taken: u64,
    at: Option<Timestamp>,
}

/// The last 15 minutes.
#[derive(Default)]
pub struct History {
    ring: Mutex<Ring>,
}

/// The event `history`. Each list has as many numbers as the ring, the oldest first; `null` is before the start.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistoryReport {
    step_seconds: u64,
    /// The time of the last sample, RFC 3339.
    until: Option<String>,
    stored: Vec<Option<f64>>,
    delivered: Vec<Option<f64>>,
    refused: Vec<Option<f64>>,
    oldest_seconds: Vec<Option<u64>>,
    segment_p99_ms: Vec<Option<f64>>,
}

/// The event `point`: one more sample.
#[derive(Serialize)]
pub(super) struct PointReport {
    at: Option<String>,
    #[serde(flatten)]
    sample: Sample,
}

/// What happens now, in `/status`: the last sample.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RatesReport {
    stored_per_second: Option<f64>,
    pub(super) delivered_per_second: Option<f64>,
    refused_per_second: Option<f64>,
    segment_p99_ms: Option<f64>,
}

/// The counters at one time.
struct Counts {
    stored: u64,
    delivered: u64,
    refused: u64,
    attempts: HistogramCounts,
}

impl Counts {
    /// Of the outbox, if there is one, and of the callers' own calls otherwise.
    fn now(metrics: &Metrics, has_outbox: bool) -> Self {
        let (stored, delivered, refused) = match has_outbox {
            true => (
                metrics.outbox_stored.get(),
                metrics.outbox_accepted.get(),
                metrics.outbox_refused.get() + metrics.outbox_gave_up.get(),
            ),
            false => (0, metrics.calls_accepted.get(), metrics.calls_refused.get()),
        };
        Self { stored, delivered, refused, attempts: HistogramCounts::now(&metrics.attempt_seconds) }
    }
}

impl History {
    /// Takes a sample each [`STEP`], for ever. `oldest` gives the age of the oldest waiting call in seconds; it is `None` without an
    /// outbox.
    pub async fn record<F>(self: Arc<Self>, metrics: Arc<Metrics>, oldest: Option<F>)
    where
        F: Fn() -> Option<u64> + Send + Sync,
    {
        let mut ticks = interval_at(Instant::now() + STEP, STEP);
        // A sample of less time would have rates of few calls.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut last) = (Counts::now(&metrics, oldest.is_some()), Instant::now());
        loop {
            ticks.tick().await;
            let (now, at) = (Counts::now(&metrics, oldest.is_some()), Instant::now());
            let oldest_seconds = oldest.as_ref().and_then(|oldest| oldest());
            self.push(sample(&before, &now, at - last, oldest.is_some(), oldest_seconds));
            (before, last) = (now, at);
        }
    }

    fn push(&self, sample: Sample) {
        let mut ring = self.ring.lock();
        if ring.samples.len() == SAMPLES {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
        ring.taken += 1;
        ring.at = Some(Timestamp::now());
    }

    /// How many samples there were since the start. A new one makes it greater.
    pub(super) fn taken(&self) -> u64 {
        self.ring.lock().taken
    }

    /// Calls that were refused or given up in the last 15 minutes.
    pub(super) fn refused_lately(&self) -> u64 {
        self.ring.lock().samples.iter().map(|sample| sample.refused_calls).sum()
    }

    pub(super) fn rates(&self) -> RatesReport {
        let Some(last) = self.ring.lock().samples.back().copied() else { return RatesReport::default() };
        RatesReport {
            stored_per_second: last.stored,
            delivered_per_second: Some(last.delivered),
            refused_per_second: Some(last.refused),
            segment_p99_ms: last.segment_p99_ms,
        }
    }

    pub(super) fn report(&self) -> HistoryReport {
        let ring = self.ring.lock();
        let missing = SAMPLES - ring.samples.len();
        fn list<T: Clone>(ring: &Ring, missing: usize, value: impl Fn(&Sample) -> Option<T>) -> Vec<Option<T>> {
            std::iter::repeat_n(None, missing).chain(ring.samples.iter().map(value)).collect()
        }
        HistoryReport {
            step_seconds: STEP.as_secs(),
            until: ring.at.map(rfc3339_milliseconds),
            stored: list(&ring, missing, |sample| sample.stored),
            delivered: list(&ring, missing, |sample| Some(sample.delivered)),
            refused: list(&ring, missing, |sample| Some(sample.refused)),
            oldest_seconds: list(&ring, missing, |sample| sample.oldest_seconds),
            segment_p99_ms: list(&ring, missing, |sample| sample.segment_p99_ms),
        }
    }

    /// The last sample. `None` before the first one.
    pub(super) fn point(&self) -> Option<PointReport> {
        let ring = self.ring.lock();
        Some(PointReport { at: ring.at.map(rfc3339_milliseconds), sample: *ring.samples.back()? })
    }
}

fn sample(before: &Counts, now: &Counts, time: Duration, has_outbox: bool, oldest_seconds: Option<u64>) -> Sample {
    // A tenth of a call a second: more digits would only look exact.
    let rate = |calls: u64| (calls as f64 / time.as_secs_f64().max(f64::EPSILON) * 10.0).round() / 10.0;
    let refused_calls = now.refused.saturating_sub(before.refused);
    let p99 = now.attempts.since(&before.attempts).quantile(0.99);
    Sample {
        stored: has_outbox.then(|| rate(now.stored.saturating_sub(before.stored))),
        delivered: rate(now.delivered.saturating_sub(before.delivered)),
        refused: rate(refused_calls),
        oldest_seconds,
        segment_p99_ms: p99.map(|seconds| (seconds * 1e4).round() / 10.0),
        refused_calls,
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, History, SAMPLES, Sample, sample};
    use crate::metrics::Metrics;
    use std::time::Duration;

    #[test]
    fn a_sample_has_the_rates_and_the_quantile_of_its_own_time() {
        let metrics = Metrics::new().unwrap();
        metrics.outbox_stored.inc_by(1_000);
        metrics.attempt_seconds.observe(4.0);
        let before = Counts::now(&metrics, true);
        metrics.outbox_stored.inc_by(50);
        metrics.outbox_accepted.inc_by(20);
        metrics.outbox_refused.inc_by(2);
        metrics.outbox_gave_up.inc();
        let quiet = sample(&before, &Counts::now(&metrics, true), Duration::from_secs(5), true, Some(7));
        let rates = (quiet.stored, quiet.delivered, quiet.refused, quiet.refused_calls);
        assert_eq!(rates, (Some(10.0), 4.0, 0.6, 3));
        assert_eq!((quiet.oldest_seconds, quiet.segment_p99_ms), (Some(7), None));
        metrics.attempt_seconds.observe(0.03);
        let p99 = sample(&before, &Counts::now(&metrics, true), Duration::from_secs(5), true, None).segment_p99_ms;
        assert!(p99.is_some_and(|ms| ms > 25.0 && ms <= 50.0), "{p99:?}");
    }

    #[test]
    fn without_an_outbox_the_callers_own_calls_are_counted() {
        let metrics = Metrics::new().unwrap();
        let before = Counts::now(&metrics, false);
        metrics.calls_accepted.inc_by(5);
        metrics.calls_refused.inc_by(10);
        let sample = sample(&before, &Counts::now(&metrics, false), Duration::from_secs(5), false, None);
        assert_eq!((sample.stored, sample.delivered, sample.refused), (None, 1.0, 2.0));
    }

    #[test]
    fn the_ring_keeps_fifteen_minutes_and_says_null_before_the_start() {
        let history = History::default();
        assert!(history.point().is_none() && history.rates().delivered_per_second.is_none());
        assert_eq!(history.report().delivered, vec![None; SAMPLES]);
        for number in 0..SAMPLES + 3 {
            history.push(Sample { delivered: number as f64, refused_calls: 1, ..Sample::default() });
        }
        let delivered = history.report().delivered;
        assert_eq!((delivered.len(), delivered[0]), (SAMPLES, Some(3.0)));
        assert_eq!((history.taken(), history.refused_lately()), (SAMPLES as u64 + 3, SAMPLES as u64));
        assert_eq!(history.point().map(|point| point.sample.delivered), Some(SAMPLES as f64 + 2.0));
    }
}
