//! How long answers took: counts in a fixed number of buckets, exact to 0.2 %.

use std::time::Duration;

/// Buckets to a doubling: at 50 ms one is 64 us wide.
const STEPS: usize = 512;

/// Doublings beyond the first two times [`STEPS`] microseconds: up to 67 s, longer than any answer takes.
const DOUBLINGS: usize = 16;

/// Counts of durations.
pub struct Latency {
    counts: Vec<u32>,
    count: u64,
}

impl Latency {
    pub fn new() -> Self {
        Self { counts: vec![0; (DOUBLINGS + 2) * STEPS], count: 0 }
    }

    pub fn record(&mut self, duration: Duration) {
        let micros = usize::try_from(duration.as_micros()).unwrap_or(usize::MAX);
        let last = self.counts.len() - 1;
        if let Some(count) = self.counts.get_mut(bucket(micros).min(last)) {
            *count += 1;
            self.count += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration in milliseconds that this share of all did not exceed; 0 if there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return middle(bucket) / 1_000.0;
            }
        }
        0.0
    }
}

/// A microsecond each up to twice [`STEPS`], then [`STEPS`] to a doubling.
fn bucket(micros: usize) -> usize {
    let doublings = (micros.max(1).ilog2() as usize).saturating_sub(STEPS.ilog2() as usize);
    doublings * STEPS + (micros >> doublings)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> f64 {
    let doublings = (bucket / STEPS).saturating_sub(1);
    let width = (1_u64 << doublings) as f64;
    (bucket - doublings * STEPS) as f64 * width + (width - 1.0) / 2.0
}
