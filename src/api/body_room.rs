//! How many bytes the bodies of all requests may take at once.
//!
//! A body takes room as it arrives, and gives it back when its bytes are dropped. What its head announces takes none. Whoever
//! finds no room hears 503. Three rules keep some from taking what others need:
//!
//! - `POST /customers` has one half, all sources together have the other, and one source has at most half of that.
//! - The larger a body, the more room it must leave free. So large ones that come slowly leave room for small ones.
//! - The first KiB of a body takes none. Most customers fit into it, so nobody can keep them out. The number of connections and
//!   HTTP/2 streams bounds these.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The room of `POST /customers`, in bytes, and that of all sources. With the first KiB of each body on 10,000 connections and
/// 4,096 further HTTP/2 streams, which is 14 MiB, all bodies take less than 64 MiB.
const HALF: usize = 24 * 1024 * 1024;

/// What a body takes for nothing, in bytes.
const FREE: usize = 1024;

/// Bodies up to this size, in bytes, may take the last room: few customers are larger.
const SMALL: usize = 4 * 1024;

/// A body of more than [`SMALL`] bytes leaves one part of so many free, one of more than four times as many two, and so on. Four
/// parts is the most (1 MiB), so that the largest bodies still have two thirds of the room.
const PARTS: usize = 12;

/// Room for bodies: all of it, or the part of one route.
pub(super) struct BodyRoom {
    limit: usize,
    taken: AtomicUsize,
    /// The room of which this is a part.
    whole: Option<Arc<BodyRoom>>,
}

/// What one body takes. Dropping it gives the room back.
#[derive(Default)]
pub(super) struct TakenRoom {
    room: Option<Arc<BodyRoom>>,
    bytes: usize,
}

impl BodyRoom {
    /// The room of `POST /customers`, or of all sources.
    pub(super) fn half() -> Arc<Self> {
        Self::new(HALF, None)
    }

    /// The room of one source, which is a part of that of all sources.
    pub(super) fn of_source(sources: &Arc<Self>) -> Arc<Self> {
        Self::new(sources.limit / 2, Some(sources.clone()))
    }

    fn new(limit: usize, whole: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicUsize::new(0), whole })
    }

    /// How many bytes it has.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes more bytes for a body that has `size` of them then. False, and nothing is taken, if there is no room.
    fn take(&self, more: usize, size: usize) -> bool {
        let parts = (size.saturating_sub(1) / SMALL).checked_ilog(4).map_or(0, |fours| fours as usize + 1);
        let limit = self.limit / PARTS * PARTS.saturating_sub(parts);
        let is_taken = self.taken.fetch_add(more, Relaxed) + more <= limit
            && self.whole.as_ref().is_none_or(|whole| whole.take(more, size));
        if !is_taken {
            self.taken.fetch_sub(more, Relaxed);
        }
        is_taken
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Relaxed);
        self.whole.iter().for_each(|whole| whole.give_back(bytes));
    }
}

impl TakenRoom {
    /// Takes room for a body that has `size` bytes now. False if there is none.
    pub(super) fn grow_to(&mut self, size: usize, room: &Arc<BodyRoom>) -> bool {
        let more = size.saturating_sub(self.bytes.max(FREE));
        if more == 0 {
            return true;
        }
        let is_taken = room.take(more, size);
        if is_taken {
            self.room.get_or_insert_with(|| room.clone());
            self.bytes = size;
        }
        is_taken
    }
}

impl Drop for TakenRoom {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.give_back(self.bytes.saturating_sub(FREE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyRoom, FREE, HALF, SMALL, TakenRoom};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    const LARGE: usize = 1024 * 1024;

    /// Bodies of this size until one finds no room.
    fn fill(size: usize, room: &Arc<BodyRoom>) -> Vec<TakenRoom> {
        let body = || {
            let mut taken = TakenRoom::default();
            taken.grow_to(size, room).then_some(taken)
        };
        std::iter::from_fn(body).collect()
    }

    #[test]
    fn bodies_take_no_more_than_the_limit_and_give_it_back() {
        let room = BodyRoom::half();
        for size in [SMALL, 64 * 1024, LARGE] {
            let taken = fill(size, &room);
            assert!(room.taken.load(Relaxed) <= HALF);
            assert!(taken.len() >= HALF / 3 * 2 / size - 1, "{size}");
            drop(taken);
            assert_eq!(room.taken.load(Relaxed), 0);
        }
    }

    #[test]
    fn a_body_that_grows_takes_what_it_has_and_one_that_was_refused_keeps_it() {
        let room = BodyRoom::half();
        let mut body = TakenRoom::default();
        assert!(body.grow_to(FREE, &room));
        assert_eq!(room.taken.load(Relaxed), 0);
        assert!(body.grow_to(FREE + 1, &room) && body.grow_to(3 * FREE, &room) && body.grow_to(FREE, &room));
        assert_eq!(room.taken.load(Relaxed), 2 * FREE);
        assert!(!body.grow_to(HALF * 2, &room));
        assert_eq!(room.taken.load(Relaxed), 2 * FREE);
        drop(body);
        assert_eq!(room.taken.load(Relaxed), 0);
    }

    #[test]
    fn larger_bodies_leave_room_for_smaller_ones() {
        let room = BodyRoom::half();
        let mut all = Vec::new();
        for size in [LARGE, LARGE / 4, LARGE / 16, LARGE / 64, SMALL] {
            let taken = fill(size, &room);
            assert!(!taken.is_empty(), "{size}");
            all.push(taken);
        }
        // Only what takes none is left.
        assert!(!TakenRoom::default().grow_to(FREE + SMALL, &room));
        assert!(TakenRoom::default().grow_to(FREE, &room));
    }

    #[test]
    fn one_source_takes_at_most_half_of_all_sources_and_all_no_more_than_theirs() {
        let all = BodyRoom::half();
        let sources: Vec<_> = (0..3).map(|_| BodyRoom::of_source(&all)).collect();
        let mut taken = fill(SMALL, &sources[0]);
        assert!(all.taken.load(Relaxed) <= HALF / 2);
        taken.extend(sources[1..].iter().flat_map(|source| fill(SMALL, source)));
        assert!((HALF - SMALL..=HALF).contains(&all.taken.load(Relaxed)));
        assert!(fill(SMALL, &sources[2]).is_empty());
        drop(taken);
        assert_eq!(all.taken.load(Relaxed), 0);
        assert!(sources.iter().all(|source| source.taken.load(Relaxed) == 0));
    }
}
