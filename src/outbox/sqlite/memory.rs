//! What the writer knows beside the file: which calls are out, how many bytes of each user wait, and what operators asked for
//! calls that are out.
//!
//! A call is out from when delivery took it until it is settled. The publisher's room bounds these calls.
//!
//! The bytes of each user in `calls` are estimated: a fixed table counts them by a keyed hash of the user's id, so that nothing
//! grows with the users. Two users in one place of the table count as one. What an earlier process stored is not counted.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use super::sources::Sources;
use crate::outbox::limits::row_bytes;
use crate::outbox::wishes::{Wish, Wishes};
use crate::outbox::{CallId, Person};
use crate::segment::Call;

/// Places of the table: 256 KiB of memory. With some thousands of users who have calls waiting, few places have two.
const PLACES: usize = 65_536;

/// The keyed hash of a user's id.
pub(super) type UserHash = u64;

pub(super) struct Memory {
    hashes: RandomState,
    out: HashMap<CallId, OutCall>,
    /// Bytes and calls that are out of each user.
    users: HashMap<UserHash, (u64, u32)>,
    /// Bytes of rows in `calls` with ids above `counted_after`.
    places: Box<[u32]>,
    counted_after: CallId,
    /// What the open transaction added to the table.
    added: Vec<(UserHash, u64)>,
    wishes: Wishes,
    /// Calls of forgotten persons that were out and are deleted, until somebody asks.
    pub(super) forgotten: HashSet<CallId>,
    /// Who is being forgotten. The work holds the other reference.
    pub(super) forgetting: Vec<Weak<Person>>,
    /// What waits of each source.
    pub(super) sources: Sources,
    /// Whether any source is configured.
    pub(super) has_sources: bool,
    /// After this many milliseconds of failing on its own a call becomes a dead letter.
    pub(super) give_up_after: Option<i64>,
}

struct OutCall {
    user: UserHash,
    bytes: u32,
    source: Option<Arc<str>>,
    is_in_calls: bool,
}

impl Memory {
    pub(super) fn new(last_id: CallId, give_up_after: Option<std::time::Duration>, sources: Sources) -> Self {
        Self {
            hashes: RandomState::new(),
            out: HashMap::new(),
            users: HashMap::new(),
            places: vec![0; PLACES].into(),
            counted_after: last_id,
            added: Vec::new(),
            wishes: Wishes::default(),
            forgotten: HashSet::new(),
            forgetting: Vec::new(),
            sources,
            has_sources: false,
            give_up_after: give_up_after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    pub(super) fn hash(&self, user_id: &str) -> UserHash {
        self.hashes.hash_one(user_id)
    }

    /// A call is out from now on.
    pub(super) fn take(&mut self, id: CallId, user: UserHash, call: &Call, is_in_calls: bool) {
        let bytes = u32::try_from(call.json().len()).unwrap_or(u32::MAX);
        let call = OutCall { user, bytes, source: call.source().cloned(), is_in_calls };
        let (bytes, calls) = self.users.entry(user).or_default();
        (*bytes, *calls) = (*bytes + row_bytes(u64::from(call.bytes)), *calls + 1);
        self.out.insert(id, call);
    }

    /// A call is out no more, and still where it was.
    pub(super) fn put_back(&mut self, id: CallId) {
        let Some(OutCall { user, bytes, .. }) = self.out.remove(&id) else { return };
        if let Some((all, calls)) = self.users.get_mut(&user) {
            (*all, *calls) = (*all - row_bytes(u64::from(bytes)), *calls - 1);
            if *calls == 0 {
                self.users.remove(&user);
            }
        }
    }

    /// A call that was out is settled, or is kept apart from `calls` now.
    pub(super) fn returned(&mut self, id: CallId) {
        if let Some(OutCall { user, bytes, is_in_calls: true, .. }) = self.out.get(&id) {
            let (user, bytes) = (*user, row_bytes(u64::from(*bytes)));
            self.left_calls(id, user, bytes);
        }
        self.put_back(id);
        self.wishes.remove(id);
    }

    pub(super) fn is_out(&self, id: CallId) -> bool {
        self.out.contains_key(&id)
    }

    /// The length and the source of a call that is out.
    pub(super) fn out_call(&self, id: CallId) -> Option<(i64, Option<Arc<str>>)> {
        self.out.get(&id).map(|call| (i64::from(call.bytes), call.source.clone()))
    }

    /// Whether any call of this user is out.
    pub(super) fn has_out(&self, user: UserHash) -> bool {
        self.users.contains_key(&user)
    }

    pub(super) fn out_bytes(&self, user: UserHash) -> u64 {
        self.users.get(&user).map_or(0, |(bytes, _)| *bytes)
    }

    /// Remembers a wish for a call that is out. False if it is not.
    pub(super) fn wish(&mut self, id: CallId, wish: Wish) -> bool {
        let is_out = self.is_out(id);
        if is_out {
            self.wishes.add(id, wish);
        }
        is_out
    }

    /// Whether this is said of a person who is being forgotten.
    pub(super) fn is_forgetting(&self, is_meant: impl Fn(&Person) -> bool) -> bool {
        self.forgetting.iter().filter_map(Weak::upgrade).any(|person| is_meant(&person))
    }

    pub(super) fn wish_of(&self, id: CallId) -> Option<Wish> {
        self.wishes.of(id)
    }

    /// Bytes of a user in `calls`, estimated.
    pub(super) fn waiting_bytes(&self, user: UserHash) -> u64 {
        self.places.get(place(user)).copied().unwrap_or(0).into()
    }

    /// The open transaction adds a row to `calls`.
    pub(super) fn enter_calls(&mut self, user: UserHash, bytes: u64) {
        self.count(user, |all| all.saturating_add(small(bytes)));
        self.added.push((user, bytes));
    }

    /// Rows that the open transaction added so far.
    pub(super) fn added(&self) -> usize {
        self.added.len()
    }

    /// The open transaction undid all it added after this many rows.
    pub(super) fn undo(&mut self, added: usize) {
        for (user, bytes) in self.added.split_off(added.min(self.added.len())) {
            self.count(user, |all| all.saturating_sub(small(bytes)));
        }
    }

    /// The row of this call left `calls`.
    pub(super) fn left_calls(&mut self, id: CallId, user: UserHash, bytes: u64) {
        if id > self.counted_after {
            self.count(user, |all| all.saturating_sub(small(bytes)));
        }
    }

    /// The open transaction was committed, or undone.
    pub(super) fn end_transaction(&mut self, is_committed: bool) {
        if !is_committed {
            self.undo(0);
        }
        self.added.clear();
    }

    fn count(&mut self, user: UserHash, change: impl FnOnce(u32) -> u32) {
        if let Some(all) = self.places.get_mut(place(user)) {
            *all = change(*all);
        }
    }
}

fn place(user: UserHash) -> usize {
    // The remainder is below `PLACES`.
    (user % PLACES as u64) as usize
}

fn small(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Call, Memory, Sources, Wish};

    fn call(length: usize) -> Call {
        Call::from_wire("u".into(), None, vec![0; length].into())
    }

    #[test]
    fn a_call_is_out_until_it_returns_and_its_wish_ends_with_it() {
        let mut memory = Memory::new(10, None, Sources::default());
        let user = memory.hash("u");
        memory.take(11, user, &call(100), true);
        memory.take(12, user, &call(200), false);
        assert!(memory.has_out(user) && memory.out_bytes(user) == 556 && memory.is_out(12));
        assert!(memory.wish(12, Wish::GiveUp) && memory.wish(12, Wish::Retry) && !memory.wish(13, Wish::Retry));
        assert!(memory.wish_of(12) == Some(Wish::GiveUp));
        memory.returned(12);
        memory.returned(12);
        assert!(memory.wish_of(12).is_none() && memory.out_bytes(user) == 228);
        memory.put_back(11);
        assert!(!memory.has_out(user) && memory.users.is_empty() && memory.out.is_empty());
    }

    #[test]
    fn bytes_in_calls_are_counted_for_the_calls_of_this_process() {
        let mut memory = Memory::new(10, None, Sources::default());
        let user = memory.hash("u");
        memory.enter_calls(user, 300);
        memory.end_transaction(true);
        memory.enter_calls(user, 500);
        assert_eq!(memory.waiting_bytes(user), 800);
        memory.end_transaction(false);
        assert_eq!(memory.waiting_bytes(user), 300);
        memory.take(10, user, &call(100), true);
        memory.returned(10);
        assert_eq!(memory.waiting_bytes(user), 300, "an earlier process stored it");
        memory.take(11, user, &call(172), true);
        memory.returned(11);
        assert_eq!(memory.waiting_bytes(user), 0);
    }
}
