//! What one source may take of what all requests share, so that the others have room: places in flight, and bytes of bodies.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::api::body_room::BodyRoom;

/// A source has at most one of so many places in flight: it takes the floods of four sources to use all of them.
const PLACES_PART: usize = 4;

/// The share of one source.
pub(super) struct Share {
    pub(super) places: Semaphore,
    pub(super) room: Arc<BodyRoom>,
}

/// The share of each source that had a request.
pub(in crate::api) struct Shares {
    by_name: RwLock<HashMap<Arc<str>, Arc<Share>>>,
    places_of_each: usize,
    room: Arc<BodyRoom>,
}

impl Shares {
    pub(in crate::api) fn new(max_in_flight: usize) -> Self {
        let places_of_each = (max_in_flight / PLACES_PART).max(1);
        Self { by_name: RwLock::default(), places_of_each, room: BodyRoom::half() }
    }

    /// The room for the bodies of all sources.
    pub(in crate::api) fn room(&self) -> &BodyRoom {
        &self.room
    }

    /// The share of a source that is configured. It is the same for as long as the process lives, whatever becomes of the source:
    /// requests that began before may hold parts of it.
    pub(super) fn of(&self, name: &Arc<str>) -> Arc<Share> {
        if let Some(share) = self.by_name.read().get(name) {
            return share.clone();
        }
        let share =
            || Arc::new(Share { places: Semaphore::new(self.places_of_each), room: BodyRoom::of_source(&self.room) });
        self.by_name.write().entry(name.clone()).or_insert_with(share).clone()
    }
}
