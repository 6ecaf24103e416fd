//! The calls in memory, by user, and the lines in which the users wait. Pure.
//!
//! Invariants: a user's calls leave in the order in which they came. A user is in one request at a time, or in the rest of a
//! request, and then waits in no line; otherwise a user with calls waits in exactly one: in that of the write key of the first
//! call (`lines`), or in one of those who failed. A batch holds calls of one write key. Users who return from a
//! request go before new users, and get at most half of a batch together, so that they do not keep new users out. The
//! memory of all calls is bounded.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::batch::{Batch, PendingCall};
use super::keys::{KeyId, KeyOfCalls};
use super::lines::{End, Line};
use super::memory::Memory;
use crate::segment::CallOutcome;

pub(super) type UserId = Arc<str>;

/// A moment, and a number that keeps two users at the same moment apart.
pub(super) type Due = (Instant, u64);

#[derive(Default)]
pub(super) struct Queue {
    /// Every user with a call that waits or is in a request, and every user whose parking is not confirmed.
    pub(super) users: HashMap<UserId, User>,
    pub(super) key_of_calls: KeyOfCalls,
    /// Users who can go with others, by the write key of their first call.
    pub(super) lines: BTreeMap<KeyId, Line>,
    /// Users whose first call came by a source that is not configured.
    pub(super) keyless: Line,
    /// The key whose turn was last.
    pub(super) last_key: KeyId,
    /// Users whose calls hold a culprit for certain, since they failed while others were accepted.
    pub(super) groups: VecDeque<Vec<UserId>>,
    /// Users who wait for the end of a pause. An acceptance ends it earlier.
    pub(super) paused: BTreeMap<Due, UserId>,
    /// Users whose first call failed alone, by the time of its next attempt.
    pub(super) suspects: BTreeMap<Due, UserId>,
    /// Users whose first call comes from among the parked ones.
    pub(super) parked: VecDeque<UserId>,
    /// Whether the last batch of one call was for a new user.
    is_turn_of_new: bool,
    /// Whether the last probe was of the user who came last.
    pub(super) is_turn_of_newest: bool,
    /// The users whose calls were accepted last, the latest at the back.
    pub(super) last_accepted: VecDeque<UserId>,
    /// Numbers for [`Due`].
    pub(super) tickets: u64,
    /// Number of waiting calls.
    waiting: usize,
    pub(super) memory: Memory,
    /// What becomes of stored calls that would wait.
    pub(super) stored: StoredCalls,
    /// Whether any call has a caller who waits.
    pub(super) has_callers: bool,
}

/// What becomes of stored calls that come, or that return from a request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StoredCalls {
    #[default]
    Wait,
    /// They stay in the outbox, because the process drains.
    AreLeft,
    /// The store gets them back, because the fence is shut.
    GoBack,
}

#[derive(Default)]
pub(super) struct User {
    pub(super) waiting: VecDeque<PendingCall>,
    /// Number of unsettled calls in a request.
    in_request: usize,
    pub(super) standing: Standing,
}

/// What is known of a user's first calls.
#[derive(Default)]
pub(super) enum Standing {
    /// None has failed.
    #[default]
    Sound,
    /// None has failed since one was accepted.
    Accepted,
    /// So many have failed with calls of others, or with each other.
    InCompany(usize),
    /// The first has failed alone.
    Suspect(Suspect),
    /// The first is parked, and the store does not know it yet.
    Parked,
}

/// The failures of a call alone.
#[derive(Clone, Copy)]
pub(super) struct Suspect {
    pub(super) first_failed: Instant,
    pub(super) failures: u32,
    /// Failures while other requests were accepted.
    pub(super) own_failures: u32,
}

/// Calls for a request, and the number of calls that were dropped because their callers had left.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) batch: Batch,
    pub(super) withdrawn: usize,
    /// The write key of the calls in the batch.
    pub(super) key: Option<KeyId>,
    /// Number of calls in the batch. Those of a user whose last call was accepted count as one.
    counted: usize,
}

impl Taken {
    /// Calls of this write key.
    pub(super) fn of_key(key: KeyId) -> Self {
        Self { key: Some(key), ..Self::default() }
    }
}

impl Queue {
    /// A stored call whose user is parked goes back to the store, and so may [all](StoredCalls).
    ///
    /// False if there is no room: the call is dropped.
    pub(super) fn push(&mut self, pending: PendingCall) -> bool {
        let is_stored = pending.completion.is_stored();
        if is_stored && self.stored != StoredCalls::Wait {
            self.end_stay(&pending);
            return true;
        }
        if !self.memory.add(&pending) {
            return false;
        }
        self.has_callers |= !is_stored;
        let key = self.key_of_calls.of(&pending.call);
        match self.users.entry(pending.call.user_id().clone()) {
            Entry::Occupied(user) if matches!(user.get().standing, Standing::Parked) => {
                pending.completion.leave(CallOutcome::Behind);
                self.memory.remove(&pending);
                return true;
            }
            Entry::Occupied(user) => user.into_mut().waiting.push_back(pending),
            Entry::Vacant(user) => {
                match key {
                    Some(_) if pending.is_parked => self.parked.push_back(user.key().clone()),
                    Some(key) => self.lines.entry(key).or_default().new.push_back(user.key().clone()),
                    None => self.keyless.new.push_back(user.key().clone()),
                }
                user.insert(User::default()).waiting.push_back(pending);
            }
        }
        self.waiting += 1;
        true
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn has_suspect(&self, now: Instant) -> bool {
        is_due(&self.suspects, now)
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Takes calls of this key that never failed alone: about `size` of them, as far as they fit. Half of the batch is for new
    /// users, if there are so many.
    pub(super) fn take_first(&mut self, key: KeyId, size: usize) -> Taken {
        let mut taken = Taken::of_key(key);
        self.last_key = key;
        // Of batches of one call every second one is for a new user.
        let has_new = self.lines.get(&key).is_some_and(|line| !line.new.is_empty());
        self.is_turn_of_new = size == 1 && !self.is_turn_of_new && has_new;
        let half = if self.is_turn_of_new { 0 } else { size.div_ceil(2) };
        self.take_line(End::Returning, &mut taken, half, true);
        self.take_line(End::New, &mut taken, size, false);
        self.take_line(End::Returning, &mut taken, size, false);
        taken
    }

    /// Takes calls of users of a line until the batch holds `size` of them. `is_half`: or until it is half full. Of a user whose
    /// last call was accepted all calls count as one, so that others' trouble does not slow a user with many calls.
    fn take_line(&mut self, end: End, taken: &mut Taken, size: usize, is_half: bool) {
        while taken.counted < size
            && !(is_half && taken.batch.is_half_full())
            && let Some(user_id) = self.line(taken.key).end(end).pop_front()
        {
            let (before, left) = (taken.batch.len(), size - taken.counted);
            let is_one = self.users.get(&user_id).is_some_and(|user| matches!(user.standing, Standing::Accepted));
            if !self.fill(&user_id, taken, if is_one { usize::MAX } else { left }, is_half) {
                self.line(taken.key).end(end).push_front(user_id);
                break;
            }
            let calls = taken.batch.len() - before;
            taken.counted += if is_one { calls.min(1) } else { calls };
        }
    }

    /// Takes the calls of one half of a group, and returns the users of the other half. Of one user the first half of the calls.
    pub(super) fn take_group(&mut self, is_open: impl Fn(KeyId) -> bool) -> (Taken, Vec<UserId>) {
        let mut taken = Taken::default();
        let Some(mut users) = self.groups.pop_front() else { return (taken, Vec::new()) };
        if users.iter().any(|user_id| self.is_held_back(user_id, &is_open)) {
            users.into_iter().for_each(|user_id| self.enter(user_id, End::Returning));
            return (taken, Vec::new());
        }
        let rest = users.split_off(users.len().div_ceil(2));
        let most = match (users.as_slice(), rest.is_empty()) {
            ([user_id], true) => self.failed_in_company(user_id).div_ceil(2).max(1),
            _ => usize::MAX,
        };
        for user_id in users {
            // They were in one request before, so they fit.
            if !self.fill(&user_id, &mut taken, most, false) {
                self.enter(user_id, End::Returning);
            }
        }
        (taken, rest)
    }

    /// How many of the user's first calls failed in company.
    pub(super) fn failed_in_company(&self, user_id: &UserId) -> usize {
        match self.users.get(user_id).map(|user| &user.standing) {
            Some(Standing::InCompany(calls)) => *calls,
            _ => 0,
        }
    }

    /// Moves at most `most` of a user's calls into the batch, as long as they have its write key; of a user who failed in company
    /// only those that failed. False if none of them fits. `is_half`: or until the batch is half full.
    pub(super) fn fill(&mut self, user_id: &UserId, taken: &mut Taken, most: usize, is_half: bool) -> bool {
        let Some(user) = self.users.get_mut(user_id) else { return true };
        let mut left = most;
        while left > 0
            && !matches!(user.standing, Standing::InCompany(0))
            && let Some(mut pending) = user.waiting.pop_front_if(|pending| {
                let key = self.key_of_calls.of(&pending.call);
                key.is_some() && (taken.key.is_none() || key == taken.key) && taken.batch.fits(&pending.call)
            })
        {
            if taken.key.is_none() {
                taken.key = self.key_of_calls.of(&pending.call);
            }
            self.waiting -= 1;
            if let Standing::InCompany(calls) = &mut user.standing {
                *calls -= 1;
            }
            if !pending.completion.mark_in_request() {
                pending.span.end("withdrawn");
                self.memory.remove(&pending);
                taken.withdrawn += 1;
                continue;
            }
            pending.attempts = pending.attempts.saturating_add(1);
            // It fits: it was looked at.
            if taken.batch.push(pending) {
                user.in_request += 1;
                left -= 1;
            }
            if is_half && taken.batch.is_half_full() {
                break;
            }
        }
        if user.in_request > 0 {
            return true;
        }
        let key = user.waiting.front().map(|pending| self.key_of_calls.of(&pending.call));
        match (key, &user.standing) {
            (None, _) => drop(self.users.remove(user_id)),
            (Some(_), Standing::InCompany(0)) => {
                user.standing = Standing::Sound;
                self.enter(user_id.clone(), End::New);
            }
            (Some(key), _) if key != taken.key => self.enter(user_id.clone(), End::New),
            (Some(_), _) => return false,
        }
        true
    }

    /// Takes the first waiting call of a user, who is in no request and in no line.
    pub(super) fn pop_first(&mut self, user_id: &UserId) -> Option<PendingCall> {
        let pending = self.users.get_mut(user_id)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.memory.remove(&pending);
        Some(pending)
    }

    /// Puts the unsettled calls of a request back in front of their users' other calls, but for [stored ones](StoredCalls).
    pub(super) fn give_back(&mut self, calls: Vec<PendingCall>) {
        for pending in calls.into_iter().rev() {
            if let Some(user) = self.users.get_mut(pending.call.user_id()) {
                user.in_request = user.in_request.saturating_sub(1);
                if self.stored == StoredCalls::Wait || !pending.completion.is_stored() {
                    self.waiting += 1;
                    user.waiting.push_front(pending);
                    continue;
                }
            }
            self.memory.remove(&pending);
            self.end_stay(&pending);
        }
    }

    /// A call that was in a request is settled, or given up.
    pub(super) fn forget(&mut self, pending: &PendingCall) {
        self.memory.remove(pending);
        if let Some(user) = self.users.get_mut(pending.call.user_id()) {
            user.in_request = user.in_request.saturating_sub(1);
        }
    }

    /// A user whose request has ended, and whose waiting calls have not failed, gets back in line.
    pub(super) fn release(&mut self, user_id: &UserId, standing: Standing) {
        let Entry::Occupied(mut entry) = self.users.entry(user_id.clone()) else { return };
        if entry.get().in_request > 0 {
            return;
        }
        if entry.get().waiting.is_empty() {
            entry.remove();
        } else {
            entry.get_mut().standing = standing;
            self.enter(user_id.clone(), End::Returning);
        }
    }

    /// Sets what is known of a user who has calls waiting. False if the user has none, and is gone.
    pub(super) fn set_standing(&mut self, user_id: &UserId, standing: Standing) -> bool {
        let Entry::Occupied(mut entry) = self.users.entry(user_id.clone()) else { return false };
        if entry.get().waiting.is_empty() {
            entry.remove();
            return false;
        }
        entry.get_mut().standing = standing;
        true
    }

    /// Removes all calls of a user, and keeps the user until the store knows that the first one is parked.
    pub(super) fn park(&mut self, user_id: &UserId) -> VecDeque<PendingCall> {
        let user = self.users.entry(user_id.clone()).or_default();
        user.standing = Standing::Parked;
        let calls = std::mem::take(&mut user.waiting);
        self.waiting -= calls.len();
        calls.iter().for_each(|pending| self.memory.remove(pending));
        calls
    }

    /// The store knows that the user is parked.
    pub(super) fn confirm_parked(&mut self, user_id: &UserId) {
        if let Entry::Occupied(user) = self.users.entry(user_id.clone())
            && matches!(user.get().standing, Standing::Parked)
        {
            user.remove();
        }
    }

    /// Removes and returns the waiting calls for which `predicate` is true.
    pub(super) fn extract_if(&mut self, predicate: impl Fn(&UserId, &PendingCall) -> bool) -> Vec<PendingCall> {
        let mut extracted: Vec<PendingCall> = Vec::new();
        for (user_id, user) in &mut self.users {
            let mut failed = if let Standing::InCompany(calls) = user.standing { calls } else { 0 };
            // `VecDeque::extract_if` is not stable. This runs only when the gate shuts, when callers leave while calls are in
            // trouble, or when the process drains.
            let first_sound = failed;
            for (index, pending) in std::mem::take(&mut user.waiting).into_iter().enumerate() {
                if predicate(user_id, &pending) {
                    failed -= usize::from(index < first_sound);
                    extracted.push(pending);
                } else {
                    user.waiting.push_back(pending);
                }
            }
            if let Standing::InCompany(calls) = &mut user.standing {
                *calls = failed;
            }
        }
        self.waiting -= extracted.len();
        extracted.iter().for_each(|pending| self.memory.remove(pending));
        extracted
    }
}

fn is_due(line: &BTreeMap<Due, UserId>, now: Instant) -> bool {
    line.first_key_value().is_some_and(|((at, _), _)| *at <= now)
}

#[cfg(test)]
mod tests;
