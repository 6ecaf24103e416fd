//! How many requests have a place at once. A place in flight is taken when the body is there, so that nobody holds one by
//! being slow; bodies that are being read have places of their own: one on each connection, and some for all.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The places.
pub(crate) struct InFlight {
    max: usize,
    taken: AtomicUsize,
}

/// One place, free again when this is dropped.
pub(crate) struct Place<'a>(&'a InFlight);

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self) -> Option<Place<'_>> {
        let enter = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        Some(Place(self))
    }

    /// How many there are.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
