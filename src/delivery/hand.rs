//! What delivery has in hand, and which call it takes next. Pure.
//!
//! Two cursors go through the outbox. *Ahead* looks at every call once, in order. It passes over the calls of users who
//! have enough in hand already; *behind* comes back for these when their users have room again. They take turns, so that
//! neither a user with much to send nor one who is stuck keeps strangers waiting.
//!
//! Invariants: a call is taken once; a user's calls are taken in their order; what is in hand is bounded in bytes. Half of
//! the room is for users who have nothing in hand yet; in the other half a user gets at most a quarter of what is left: so
//! it takes thousands of users who are stuck to fill the hand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::outbox::{CallId, Stored, UserFilter};
use crate::segment::MAX_CALL_BYTES;

/// How much may be in hand, in bytes: some 5,500 calls of the usual 500 bytes. With Segment 50 ms away these are 80,000
/// calls a second, more than are taken. In requests under way they are in memory twice.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What a call in hand costs beside its JSON, in bytes, roughly: here, in the dispatcher's queue, on the way back.
const CALL_OVERHEAD: usize = 1024;

/// A user with calls in hand gets more up to this part of what is left of the first half: a quarter is fast enough for one
/// with much to send, and leaves three for the next such user.
const SHARE: usize = 4;

/// Users are gone back for when they have at most this part of their share in hand, so that nobody is read for one call at
/// a time.
const WORTH_GOING_BACK: usize = 2;

/// The calls in hand, and how far the outbox was looked at.
pub(super) struct Hand {
    max_bytes: usize,
    calls: HashMap<CallId, InHand>,
    /// What all calls in hand cost.
    bytes: usize,
    /// What each user's calls in hand cost.
    users: HashMap<Arc<str>, usize>,
    /// All calls below were looked at.
    ahead: CallId,
    /// Where the other cursor is, if it is under way.
    behind: Option<CallId>,
    /// Users with calls below `ahead` that were passed over, and the first of these.
    passed_over: HashMap<Arc<str>, CallId>,
    /// Those of them whose calls the cursor behind takes.
    returning: HashSet<Arc<str>>,
    /// The cursor behind comes next.
    is_behinds_turn: bool,
}

struct InHand {
    user_id: Arc<str>,
    cost: usize,
}

/// Which cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    Ahead,
    Behind,
}

/// What to read next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) cursor: Cursor,
    pub(super) from: CallId,
    pub(super) whose: UserFilter,
    /// About how many calls there is room for.
    pub(super) limit: usize,
}

/// What to do with a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Hand it over.
    Taken,
    /// It is in hand already, or its turn comes later.
    PassedOver,
    /// There is no room for any call: look at it again when there is.
    NoRoom,
}

impl Default for Hand {
    fn default() -> Self {
        Self::of(MAX_BYTES)
    }
}

impl Hand {
    /// An empty hand for so many bytes, which has looked at nothing.
    fn of(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            calls: HashMap::new(),
            bytes: 0,
            users: HashMap::new(),
            ahead: 0,
            behind: None,
            passed_over: HashMap::new(),
            returning: HashSet::new(),
            is_behinds_turn: false,
        }
    }

    /// Whether there is something to look at, and room for it, when `last` is the last id in the outbox.
    pub(super) fn wants_to_read(&self, last: CallId) -> bool {
        self.free() >= CALL_OVERHEAD + MAX_CALL_BYTES && (self.ahead <= last || self.behind.is_some())
    }

    /// What to read, when [`wants_to_read`](Self::wants_to_read). The cursors take turns.
    pub(super) fn reading(&mut self, last: CallId) -> Reading {
        let limit = self.free() / CALL_OVERHEAD;
        self.is_behinds_turn = !self.is_behinds_turn || self.ahead > last;
        match self.behind.filter(|_| self.is_behinds_turn) {
            Some(from) => {
                Reading { cursor: Cursor::Behind, from, whose: UserFilter::Only(self.returning.clone()), limit }
            }
            None => {
                let whose = UserFilter::AllBut(self.passed_over.keys().cloned().collect());
                Reading { cursor: Cursor::Ahead, from: self.ahead, whose, limit }
            }
        }
    }

    /// Looks at a call that was read. Calls must be offered in the order of their ids.
    pub(super) fn offer(&mut self, cursor: Cursor, stored: &Stored) -> Offer {
        let Stored { id, call } = stored;
        let cost = call.json().len() + CALL_OVERHEAD;
        if self.calls.contains_key(id) {
            return self.pass(cursor, *id);
        }
        if cost > self.free() {
            return Offer::NoRoom;
        }
        let user_id = call.user_id();
        let is_theirs = match cursor {
            Cursor::Ahead => !self.passed_over.contains_key(user_id),
            Cursor::Behind => self.returning.contains(user_id),
        };
        if !is_theirs {
            return self.pass(cursor, *id);
        }
        if self.users.get(user_id).is_some_and(|has| *has > self.share()) {
            self.passed_over.insert(user_id.clone(), *id);
            self.returning.remove(user_id);
            return self.pass(cursor, *id);
        }
        *self.users.entry(user_id.clone()).or_default() += cost;
        self.bytes += cost;
        self.calls.insert(*id, InHand { user_id: user_id.clone(), cost });
        self.move_on(cursor, *id + 1);
        Offer::Taken
    }

    /// Looks at a call that was stored just now; passes it over if calls before it were not looked at yet.
    pub(super) fn offer_fresh(&mut self, stored: &Stored) -> Offer {
        if stored.id == self.ahead { self.offer(Cursor::Ahead, stored) } else { Offer::PassedOver }
    }

    fn pass(&mut self, cursor: Cursor, id: CallId) -> Offer {
        self.move_on(cursor, id + 1);
        Offer::PassedOver
    }

    fn move_on(&mut self, cursor: Cursor, next: CallId) {
        match cursor {
            Cursor::Ahead => self.ahead = self.ahead.max(next),
            Cursor::Behind => self.behind = Some(next),
        }
    }

    /// The whole page was looked at, and with it everything below `next`.
    pub(super) fn page_is_done(&mut self, cursor: Cursor, next: CallId) {
        self.move_on(cursor, next);
        if cursor == Cursor::Behind && (next >= self.ahead || self.returning.is_empty()) {
            // They have no calls left that were passed over: from now on theirs are taken as anybody's.
            self.passed_over.retain(|user_id, _| !self.returning.contains(user_id));
            self.returning.clear();
            self.go_back();
        }
    }

    /// These calls are no longer in the outbox.
    pub(super) fn settled(&mut self, ids: impl Iterator<Item = CallId>) {
        for id in ids {
            let Some(InHand { user_id, cost }) = self.calls.remove(&id) else { continue };
            self.bytes -= cost;
            if let Some(has) = self.users.get_mut(&user_id) {
                *has -= cost;
                if *has == 0 {
                    self.users.remove(&user_id);
                }
            }
        }
        if self.behind.is_none() {
            self.go_back();
        }
    }

    /// Sends the cursor behind to the first call of those who were passed over and have room now.
    fn go_back(&mut self) {
        let enough = self.share() / WORTH_GOING_BACK;
        let has_room = |user_id: &Arc<str>| self.users.get(user_id).is_none_or(|has| *has <= enough);
        let returning = self.passed_over.iter().filter(|(user_id, _)| has_room(user_id));
        self.behind = returning.clone().map(|(_, first)| *first).min();
        self.returning = returning.map(|(user_id, _)| user_id.clone()).collect();
    }

    /// What a user who has calls in hand may have.
    fn share(&self) -> usize {
        self.free().saturating_sub(self.max_bytes / 2) / SHARE
    }

    fn free(&self) -> usize {
        self.max_bytes - self.bytes
    }
}

#[cfg(test)]
mod tests;
