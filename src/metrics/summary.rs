//! A histogram in a few numbers, for a reader.

use prometheus::Histogram;
use prometheus::core::Metric;

/// What was measured, in the histogram's unit. Without a measurement all are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub mean: f64,
    /// Half were at most this.
    pub p50: f64,
    /// 99 of a hundred were at most this.
    pub p99: f64,
}

impl Summary {
    /// Estimated as Prometheus does it: as if what is in a bucket lay evenly in it. What is beyond the last bound counts as
    /// lying on it.
    pub fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let data = metric.get_histogram();
        let buckets: Vec<_> = data.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
        let count = data.get_sample_count();
        if count == 0 {
            return Self::default();
        }
        let rank = |share: f64| quantile(&buckets, share * count as f64);
        Self { count, mean: data.get_sample_sum() / count as f64, p50: rank(0.5), p99: rank(0.99) }
    }
}

/// The value below which `rank` measurements lie. The buckets count everything up to their bound.
fn quantile(buckets: &[(f64, u64)], rank: f64) -> f64 {
    let (mut lower, mut below) = (0.0, 0);
    for &(upper, up_to) in buckets.iter().filter(|(upper, _)| upper.is_finite()) {
        if up_to as f64 >= rank && up_to > below {
            return lower + (upper - lower) * (rank - below as f64) / (up_to - below) as f64;
        }
        (lower, below) = (upper, up_to);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::Summary;
    use prometheus::{Histogram, HistogramOpts};

    fn of(measured: &[f64]) -> Summary {
        let histogram = Histogram::with_opts(HistogramOpts::new("h", "h").buckets(vec![1.0, 2.0, 4.0])).unwrap();
        measured.iter().for_each(|value| histogram.observe(*value));
        Summary::of(&histogram)
    }

    #[test]
    fn nothing_measured_is_all_zero() {
        assert_eq!(of(&[]), Summary::default());
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let summary = of(&[0.5, 0.5, 1.5, 1.5]);
        assert_eq!((summary.count, summary.mean, summary.p50), (4, 1.0, 1.0));
        assert!(summary.p99 > 1.9 && summary.p99 <= 2.0, "{summary:?}");
        let one = of(&[3.0]);
        assert_eq!((one.mean, one.p50), (3.0, 3.0));
    }

    #[test]
    fn what_is_beyond_the_last_bound_counts_as_lying_on_it() {
        assert_eq!((of(&[9.0]).p50, of(&[9.0]).p99), (4.0, 4.0));
    }
}
