//! The series of one listener.

use prometheus::{IntCounter, IntGauge};

use super::Metrics;

/// The metrics of one listener's connections. Clones count together.
#[derive(Clone)]
pub struct ListenerMetrics {
    pub open: IntGauge,
    pub accepted: IntCounter,
    /// Connections that were told to make room for others.
    pub told_to_go: IntCounter,
    /// Connections that ended because their peer made no progress.
    pub slow: IntCounter,
}

impl Metrics {
    /// The series of this listener, which has at most so many connections. They are there from now on.
    pub fn of_listener(&self, name: &str, connections: usize) -> ListenerMetrics {
        let ended = |reason| self.connections_ended.with_label_values(&[name, reason]);
        self.connections_max.with_label_values(&[name]).set(connections.try_into().unwrap_or(i64::MAX));
        ListenerMetrics {
            open: self.connections.with_label_values(&[name]),
            accepted: self.connections_accepted.with_label_values(&[name]),
            told_to_go: ended("room"),
            slow: ended("slow"),
        }
    }
}
