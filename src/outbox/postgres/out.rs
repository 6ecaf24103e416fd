//! What the deliverer knows beside the database: which calls are out, and what operators asked for them.
//!
//! A call is out from when delivery took it until it is settled. The publisher's room bounds these calls.

use std::collections::{HashMap, HashSet};

use super::figures::UserKey;
use crate::outbox::CallId;
use crate::outbox::limits::row_bytes;
use crate::outbox::wishes::{Wish, Wishes};

#[derive(Default)]
pub(super) struct Out {
    calls: HashMap<CallId, OutCall>,
    /// Bytes and calls that are out of each user.
    users: HashMap<UserKey, (u64, u32)>,
    wishes: Wishes,
    /// Calls of forgotten persons that were out and are deleted, until somebody asks.
    forgotten: HashSet<CallId>,
}

struct OutCall {
    user: UserKey,
    bytes: u64,
    is_apart: bool,
}

impl Out {
    /// A call with JSON of this length is out from now on. `is_apart`: it is in `parked_calls`.
    pub(super) fn take(&mut self, id: CallId, user: UserKey, length: usize, is_apart: bool) {
        let bytes = row_bytes(length as u64);
        if self.calls.insert(id, OutCall { user, bytes, is_apart }).is_none() {
            let (all, calls) = self.users.entry(user).or_default();
            (*all, *calls) = (*all + bytes, *calls + 1);
        }
    }

    /// A call is out no more.
    pub(super) fn returned(&mut self, id: CallId) {
        self.wishes.remove(id);
        let Some(OutCall { user, bytes, .. }) = self.calls.remove(&id) else { return };
        if let Some((all, calls)) = self.users.get_mut(&user) {
            (*all, *calls) = (*all - bytes, *calls - 1);
            if *calls == 0 {
                self.users.remove(&user);
            }
        }
    }

    pub(super) fn is_out(&self, id: CallId) -> bool {
        self.calls.contains_key(&id)
    }

    /// Whether the call is out, and in `calls`.
    pub(super) fn is_in_calls(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| !call.is_apart)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether any call of this user is out.
    pub(super) fn has_out(&self, user: &UserKey) -> bool {
        self.users.contains_key(user)
    }

    pub(super) fn bytes_of(&self, user: &UserKey) -> u64 {
        self.users.get(user).map_or(0, |(bytes, _)| *bytes)
    }

    /// Remembers a wish for a call that is out. False if it is not.
    pub(super) fn wish(&mut self, id: CallId, wish: Wish) -> bool {
        let is_out = self.is_out(id);
        if is_out {
            self.wishes.add(id, wish);
        }
        is_out
    }

    pub(super) fn wish_of(&self, id: CallId) -> Option<Wish> {
        self.wishes.of(id)
    }

    /// These calls of forgotten persons were deleted when they came back.
    pub(super) fn note_forgotten(&mut self, ids: &[CallId]) {
        self.forgotten.extend(ids);
    }

    /// Which of these calls are out still, and how many of the others were deleted. Each is counted once.
    pub(super) fn still_out(&mut self, ids: Vec<CallId>) -> (Vec<CallId>, u64) {
        let (out, back): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_out(*id));
        let deleted = back.iter().filter(|id| self.forgotten.remove(id)).count() as u64;
        (out, deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::Out;
    use crate::outbox::wishes::Wish;

    #[test]
    fn a_call_is_out_until_it_returns_and_its_wish_ends_with_it() {
        let (mut out, user) = (Out::default(), [7; 16]);
        out.take(12, user, 200, true);
        out.take(11, user, 100, false);
        out.take(11, user, 100, false);
        assert!(out.is_in_calls(11) && !out.is_in_calls(12) && !out.is_in_calls(13));
        assert!(out.has_out(&user) && out.bytes_of(&user) == 556);
        assert!(out.wish(12, Wish::GiveUp) && out.wish(12, Wish::Retry) && !out.wish(13, Wish::Retry));
        assert_eq!(out.wish_of(12), Some(Wish::GiveUp));
        assert!(out.wish(12, Wish::Forget) && out.wish(12, Wish::GiveUp));
        assert_eq!(out.wish_of(12), Some(Wish::Forget));
        out.returned(12);
        out.returned(12);
        assert!(out.wish_of(12).is_none() && out.bytes_of(&user) == 228);
        out.returned(11);
        assert!(!out.has_out(&user) && out.is_empty() && out.users.is_empty());
    }

    #[test]
    fn a_deleted_call_is_counted_once() {
        let mut out = Out::default();
        out.take(1, [0; 16], 1, false);
        out.note_forgotten(&[2, 3]);
        assert_eq!(out.still_out(vec![1, 2, 4]), (vec![1], 1));
        assert_eq!(out.still_out(vec![2]), (vec![], 0));
    }
}
