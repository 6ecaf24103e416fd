//! Mean and quantiles of a histogram.

use prometheus::Histogram;
use prometheus::core::Metric;

/// The values are in the histogram's unit. All are 0 without an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
}

impl Summary {
    /// Estimates quantiles as Prometheus does: the observations of a bucket are spread evenly over it, and those above the
    /// last finite bound count as equal to it.
    pub fn from_histogram(histogram: &Histogram) -> Self {
        let counts = HistogramCounts::now(histogram);
        let count = counts.count;
        let (Some(p50), Some(p99)) = (counts.quantile(0.5), counts.quantile(0.99)) else { return Self::default() };
        Self { count, mean: histogram.get_sample_sum() / count as f64, p50, p99 }
    }
}

/// The observations of a histogram up to now, by bucket.
#[derive(Clone, Debug, Default)]
pub struct HistogramCounts {
    /// The upper bound of each bucket, and the observations up to it.
    buckets: Vec<(f64, u64)>,
    count: u64,
}

impl HistogramCounts {
    pub fn now(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let data = metric.get_histogram();
        let buckets = data.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
        Self { buckets, count: data.get_sample_count() }
    }

    /// What was observed since `earlier`, which is of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: counts.map(|((bound, now), (_, before))| (*bound, now.saturating_sub(*before))).collect(),
            count: self.count.saturating_sub(earlier.count),
        }
    }

    /// An estimate as in [`Summary::from_histogram`]. `None` without an observation.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        (self.count > 0).then(|| quantile(&self.buckets, share * self.count as f64))
    }
}

/// The value below which `rank` observations lie. The counts of the buckets are cumulative.
fn quantile(buckets: &[(f64, u64)], rank: f64) -> f64 {
    let (mut lower, mut count_below) = (0.0, 0);
    for &(upper, up_to) in buckets.iter().filter(|(upper, _)| upper.is_finite()) {
        if up_to as f64 >= rank && up_to > count_below {
            return lower + (upper - lower) * (rank - count_below as f64) / (up_to - count_below) as f64;
        }
        (lower, count_below) = (upper, up_to);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::Summary;
    use prometheus::{Histogram, HistogramOpts};

    fn summary_of(observed: &[f64]) -> Summary {
        let histogram = Histogram::with_opts(HistogramOpts::new("h", "h").buckets(vec![1.0, 2.0, 4.0])).unwrap();
        observed.iter().for_each(|value| histogram.observe(*value));
        Summary::from_histogram(&histogram)
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        assert_eq!(summary_of(&[]), Summary::default());
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let summary = summary_of(&[0.5, 0.5, 1.5, 1.5]);
        assert_eq!((summary.count, summary.mean, summary.p50), (4, 1.0, 1.0));
        assert!(summary.p99 > 1.9 && summary.p99 <= 2.0, "{summary:?}");
        let one = summary_of(&[3.0]);
        assert_eq!((one.mean, one.p50), (3.0, 3.0));
    }

    #[test]
    fn observations_above_the_last_bound_count_as_equal_to_it() {
        assert_eq!((summary_of(&[9.0]).p50, summary_of(&[9.0]).p99), (4.0, 4.0));
    }
}
