//! The series of one source.

use std::collections::BTreeMap;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Metrics;

/// What became of an event, or of a request that was to bring one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceOutcome {
    /// It made customers, and they were taken.
    Mapped,
    /// It made no customers.
    None,
    /// It is a dead letter.
    Unmapped,
    /// 4xx but 401.
    Refused,
    /// 401.
    Unauthorized,
    /// 5xx.
    Failed,
}

/// The metrics of one source. Clones count together.
#[derive(Clone)]
pub struct SourceMetrics {
    /// In the order of [`SourceOutcome::ALL`].
    events: [IntCounter; 6],
    /// From the head of a request to its answer.
    pub request_seconds: Histogram,
    pub filter_seconds: Histogram,
    /// Events that wait for the filter.
    pub filter_queue: IntGauge,
    pub waiting_calls: IntGauge,
    pub waiting_bytes: IntGauge,
}

impl SourceOutcome {
    const ALL: [Self; 6] = [Self::Mapped, Self::None, Self::Unmapped, Self::Refused, Self::Unauthorized, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::None => "none",
            Self::Unmapped => "unmapped",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// The series of this source, which are there from now on.
    pub fn of_source(&self, name: &str) -> SourceMetrics {
        SourceMetrics {
            events: SourceOutcome::ALL.map(|outcome| self.source_events.with_label_values(&[name, outcome.as_str()])),
            request_seconds: self.source_request_seconds.with_label_values(&[name]),
            filter_seconds: self.source_filter_seconds.with_label_values(&[name]),
            filter_queue: self.source_filter_queue.with_label_values(&[name]),
            waiting_calls: self.source_calls.with_label_values(&[name]),
            waiting_bytes: self.source_bytes.with_label_values(&[name]),
        }
    }

    /// Removes the series of a source that is not configured any more.
    pub fn forget_source(&self, name: &str) {
        // An error means that there is no such series.
        for outcome in SourceOutcome::ALL {
            let _ = self.source_events.remove_label_values(&[name, outcome.as_str()]);
        }
        let _ = self.source_request_seconds.remove_label_values(&[name]);
        let _ = self.source_filter_seconds.remove_label_values(&[name]);
        let _ = self.source_filter_queue.remove_label_values(&[name]);
        let _ = self.source_calls.remove_label_values(&[name]);
        let _ = self.source_bytes.remove_label_values(&[name]);
    }
}

impl SourceMetrics {
    pub fn count(&self, outcome: SourceOutcome) {
        // The order of the counters is that of the outcomes' declaration.
        self.events[outcome as usize].inc();
    }

    /// The number of events with this outcome.
    pub fn number_of(&self, outcome: SourceOutcome) -> u64 {
        self.events[outcome as usize].get()
    }

    /// The number of events by outcome.
    pub fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        SourceOutcome::ALL
            .map(SourceOutcome::as_str)
            .into_iter()
            .zip(self.events.each_ref().map(IntCounter::get))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Metrics, SourceOutcome};

    #[test]
    fn the_series_of_a_source_are_there_with_0_once_it_is_known_and_are_counted_on() {
        let metrics = Metrics::new().unwrap();
        assert!(!metrics.encode().unwrap().contains("segment_relay_source_"));
        let shop = metrics.of_source("shop");
        let text = metrics.encode().unwrap();
        for outcome in SourceOutcome::ALL {
            let line =
                format!("segment_relay_source_events_total{{outcome=\"{}\",source=\"shop\"}} 0", outcome.as_str());
            assert!(text.contains(&line), "{line}\n{text}");
            shop.count(outcome);
            assert_eq!(metrics.of_source("shop").outcomes()[outcome.as_str()], 1, "the same series");
        }
        let gauges = ["filter_queue_events", "waiting_calls", "waiting_bytes"];
        for family in ["request_duration_seconds_count", "filter_duration_seconds_count"].into_iter().chain(gauges) {
            assert!(text.contains(&format!("segment_relay_source_{family}{{source=\"shop\"}} 0")), "{family}\n{text}");
        }
        assert_eq!(metrics.of_source("other").outcomes().values().sum::<u64>(), 0);
        metrics.forget_source("shop");
        let text = metrics.encode().unwrap();
        assert!(!text.contains("source=\"shop\"") && text.contains("source=\"other\""), "{text}");
    }
}
