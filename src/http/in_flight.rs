//! How many requests have a place at once. A place is taken when the body is there, so that nobody holds one by being slow.

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// The places.
pub(super) struct InFlight {
    max: usize,
    taken: AtomicUsize,
}

/// One place, free again when this is dropped.
pub(super) struct Place<'a> {
    places: &'a InFlight,
    gauge: &'a IntGauge,
}

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    /// A place, if there is one.
    pub(super) fn enter<'a>(&'a self, gauge: &'a IntGauge) -> Option<Place<'a>> {
        let enter = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        gauge.inc();
        Some(Place { places: self, gauge })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}
