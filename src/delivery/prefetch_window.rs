//! The prefetch window: the calls of the outbox that delivery holds in memory, and which call it takes next. Pure.
//!
//! Two cursors go through the outbox. The *forward* cursor looks at every call once, in the order of the ids. It skips the
//! calls of users who hold their share of the window already. The *catch-up* cursor returns to the skipped calls when their
//! users have room again. The cursors take turns, so that neither a user with many calls nor a user whose calls fail delays
//! other users.
//!
//! Invariants: a call is prefetched once; a user's calls are prefetched in their order; the window is bounded in bytes. Half
//! of the window is for users without a prefetched call. In the other half a user gets at most a quarter of the free bytes,
//! so that it takes thousands of users with failing calls to fill the window.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::outbox::{CallId, StoredCall, UserFilter};
use crate::segment::MAX_CALL_BYTES;

/// Size of the window, in bytes: about 5,500 calls of the usual 500 bytes. With Segment 50 ms away these are 80,000 calls a
/// second, more than Segment accepts. Calls in a request are in memory twice.
pub(super) const MAX_WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// Memory of a prefetched call beside its JSON, in bytes, roughly: in this window, in the publisher's queue, in the channel
/// of outcomes.
const CALL_OVERHEAD: usize = 1024;

/// A user with prefetched calls gets more calls up to this fraction of what is free in the first half. A quarter is fast
/// enough for a user with many calls, and leaves three quarters for the next such user.
const USER_SHARE_DIVISOR: usize = 4;

/// The catch-up cursor returns to a user who holds at most this fraction of the user's share, so that it does not read one
/// call at a time.
const CATCH_UP_DIVISOR: usize = 2;

/// The prefetched calls, and the positions of the cursors.
#[derive(Default)]
pub(super) struct PrefetchWindow {
    max_bytes: usize,
    calls: HashMap<CallId, PrefetchedCall>,
    /// Memory of all prefetched calls.
    bytes: usize,
    /// Memory of each user's prefetched calls.
    users: HashMap<Arc<str>, usize>,
    /// Position of the forward cursor: it has looked at all calls with lower ids.
    forward: CallId,
    /// Position of the catch-up cursor, if it is active.
    catch_up: Option<CallId>,
    /// Users with skipped calls below `forward`, and the first skipped call of each.
    skipped: HashMap<Arc<str>, CallId>,
    /// The skipped users whose calls the catch-up cursor takes.
    catching_up: HashSet<Arc<str>>,
    /// Whether the catch-up cursor reads next.
    is_catch_up_next: bool,
}

struct PrefetchedCall {
    user_id: Arc<str>,
    bytes: usize,
}

/// The cursor that a page is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    Forward,
    CatchUp,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRequest {
    pub(super) cursor: Cursor,
    pub(super) from: CallId,
    pub(super) users: UserFilter,
    /// About how many calls there is room for.
    pub(super) limit: usize,
}

/// What became of a call that was offered to the window.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PrefetchOutcome {
    /// The window holds the call, which goes to the publisher now.
    Prefetched,
    /// The window holds the call already, or takes it later.
    Skipped,
    /// The window has no room for any call: offer this one again later.
    NoRoom,
}

impl PrefetchWindow {
    /// An empty window of `max_bytes`, with both cursors at the start of the outbox.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// Whether there are calls to look at and room for one of any size. `last` is the last id in the outbox.
    pub(super) fn wants_to_read(&self, last: CallId) -> bool {
        self.free_bytes() >= CALL_OVERHEAD + MAX_CALL_BYTES && (self.forward <= last || self.catch_up.is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The page to read when [`wants_to_read`](Self::wants_to_read) is true. The cursors take turns.
    pub(super) fn next_page(&mut self, last: CallId) -> PageRequest {
        self.is_catch_up_next = !self.is_catch_up_next || self.forward > last;
        let (cursor, from, users) = match self.catch_up.filter(|_| self.is_catch_up_next) {
            Some(from) => (Cursor::CatchUp, from, UserFilter::Only(self.catching_up.clone())),
            None => (Cursor::Forward, self.forward, UserFilter::AllBut(self.skipped.keys().cloned().collect())),
        };
        PageRequest { cursor, from, users, limit: self.free_bytes() / CALL_OVERHEAD }
    }

    /// Offers a call that was read. Calls must be offered in the order of their ids.
    pub(super) fn offer(&mut self, cursor: Cursor, stored: &StoredCall) -> PrefetchOutcome {
        let StoredCall { id, call, .. } = stored;
        let bytes = call.json().len() + CALL_OVERHEAD;
        if self.calls.contains_key(id) {
            return self.skip(cursor, *id);
        }
        if bytes > self.free_bytes() {
            return PrefetchOutcome::NoRoom;
        }
        let user_id = call.user_id();
        let is_of_cursor = match cursor {
            Cursor::Forward => !self.skipped.contains_key(user_id),
            Cursor::CatchUp => self.catching_up.contains(user_id),
        };
        if !is_of_cursor {
            return self.skip(cursor, *id);
        }
        if self.users.get(user_id).is_some_and(|held| *held > self.user_share()) {
            self.skipped.insert(user_id.clone(), *id);
            self.catching_up.remove(user_id);
            return self.skip(cursor, *id);
        }
        *self.users.entry(user_id.clone()).or_default() += bytes;
        self.bytes += bytes;
        self.calls.insert(*id, PrefetchedCall { user_id: user_id.clone(), bytes });
        self.advance(cursor, *id + 1);
        PrefetchOutcome::Prefetched
    }

    /// Offers a call that was stored just now. It is skipped if the forward cursor has not reached it yet.
    pub(super) fn offer_fresh(&mut self, stored: &StoredCall) -> PrefetchOutcome {
        if stored.id == self.forward { self.offer(Cursor::Forward, stored) } else { PrefetchOutcome::Skipped }
    }

    fn skip(&mut self, cursor: Cursor, id: CallId) -> PrefetchOutcome {
        self.advance(cursor, id + 1);
        PrefetchOutcome::Skipped
    }

    fn advance(&mut self, cursor: Cursor, next: CallId) {
        match cursor {
            Cursor::Forward => self.forward = self.forward.max(next),
            Cursor::CatchUp => self.catch_up = Some(next),
        }
    }

    /// All calls of a page were offered: the cursor has looked at everything below `next`.
    pub(super) fn finish_page(&mut self, cursor: Cursor, next: CallId) {
        self.advance(cursor, next);
        if cursor == Cursor::CatchUp && (next >= self.forward || self.catching_up.is_empty()) {
            // These users have no skipped calls left. The forward cursor takes their calls again.
            self.skipped.retain(|user_id, _| !self.catching_up.contains(user_id));
            self.catching_up.clear();
            self.start_catch_up();
        }
    }

    /// Removes calls that are no longer in the outbox.
    pub(super) fn remove_settled(&mut self, ids: impl Iterator<Item = CallId>) {
        for id in ids {
            let Some(PrefetchedCall { user_id, bytes }) = self.calls.remove(&id) else { continue };
            self.bytes -= bytes;
            if let Some(held) = self.users.get_mut(&user_id) {
                *held -= bytes;
                if *held == 0 {
                    self.users.remove(&user_id);
                }
            }
        }
        if self.catch_up.is_none() {
            self.start_catch_up();
        }
    }

    /// Sets the catch-up cursor to the first skipped call of the users who have room now.
    fn start_catch_up(&mut self) {
        let enough = self.user_share() / CATCH_UP_DIVISOR;
        let has_room = |user_id: &Arc<str>| self.users.get(user_id).is_none_or(|held| *held <= enough);
        let users = self.skipped.iter().filter(|(user_id, _)| has_room(user_id));
        self.catch_up = users.clone().map(|(_, first)| *first).min();
        self.catching_up = users.map(|(user_id, _)| user_id.clone()).collect();
    }

    /// Bytes that a user with prefetched calls may hold.
    fn user_share(&self) -> usize {
        self.free_bytes().saturating_sub(self.max_bytes / 2) / USER_SHARE_DIVISOR
    }

    fn free_bytes(&self) -> usize {
        self.max_bytes - self.bytes
    }
}

#[cfg(test)]
mod tests;
