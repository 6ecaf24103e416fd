//! The queue of pending calls, and the rule that no user is in two requests at once. Pure.
//!
//! Each user has a queue of calls, and the users who can be sent wait in two lines. Invariants: a user's calls leave in
//! the order in which they came. A user with unsettled calls in a request waits in neither line. Users who return from
//! a request go before new users, and get at most half of a batch together, so that they do not keep new users out. The
//! memory of all unsettled calls is bounded.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::batch::{Batch, PendingCall};

/// Memory of all unsettled calls, in bytes. The default of 2,048 requests in flight can bring 64 MiB. Twice that leaves room
/// for calls whose callers have left and that are still in the queue.
const MAX_QUEUE_BYTES: usize = 128 * 1024 * 1024;

/// Memory of a waiting call beside its JSON, in bytes, roughly: completion, handle, map entry.
const CALL_OVERHEAD: usize = 512;

#[derive(Default)]
pub(super) struct Queue {
    /// Every user with a call that waits or is in a request.
    users: HashMap<Arc<str>, UserCalls>,
    /// Users who returned from a request and have calls waiting.
    returning: VecDeque<Arc<str>>,
    /// Users whose first call came while they were in no request.
    new: VecDeque<Arc<str>>,
    /// Number of waiting calls.
    waiting: usize,
    /// Memory of all calls, waiting or in a request, until they are settled.
    bytes: usize,
    /// Whether stored calls are left in the outbox, because the process drains.
    leaves_stored: bool,
}

#[derive(Default)]
struct UserCalls {
    waiting: VecDeque<PendingCall>,
    /// Number of unsettled calls in a request.
    in_request: usize,
}

/// The batch to send next, and the number of calls that were dropped because their callers had left.
#[derive(Default)]
pub(super) struct NextBatch {
    pub(super) batch: Batch,
    pub(super) withdrawn: usize,
}

impl Queue {
    /// A stored call is dropped after [`leave_stored`](Self::leave_stored).
    ///
    /// # Errors
    /// Gives the call back if there is no room.
    pub(super) fn push(&mut self, pending: PendingCall) -> Result<(), PendingCall> {
        if self.leaves_stored && pending.completion.is_stored() {
            return Ok(());
        }
        let bytes = memory_of(&pending);
        if self.bytes + bytes > MAX_QUEUE_BYTES {
            return Err(pending);
        }
        self.bytes += bytes;
        self.waiting += 1;
        match self.users.entry(pending.call.user_id().clone()) {
            Entry::Occupied(user) => user.into_mut().waiting.push_back(pending),
            Entry::Vacant(user) => {
                self.new.push_back(user.key().clone());
                user.insert(UserCalls::default()).waiting.push_back(pending);
            }
        }
        Ok(())
    }

    /// Whether a call can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        !self.returning.is_empty() || !self.new.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Takes all calls that can be sent now and that fit. Their users stay in the request until each call is
    /// [`settled`](Self::mark_settled).
    pub(super) fn take_batch(&mut self) -> NextBatch {
        let mut next = NextBatch::default();
        while !next.batch.is_half_full()
            && let Some(user_id) = self.returning.pop_front()
        {
            if !self.fill_from_user(&user_id, &mut next, Batch::is_half_full) {
                self.returning.push_front(user_id);
                break;
            }
        }
        while let Some(user_id) = self.new.pop_front() {
            if !self.fill_from_user(&user_id, &mut next, |_| false) {
                self.new.push_front(user_id);
                break;
            }
        }
        next
    }

    /// Moves a user's calls into the batch while they fit. False if none of them fits.
    fn fill_from_user(&mut self, user_id: &Arc<str>, next: &mut NextBatch, is_enough: impl Fn(&Batch) -> bool) -> bool {
        let Some(user) = self.users.get_mut(user_id) else { return true };
        while let Some(pending) = user.waiting.pop_front_if(|pending| next.batch.fits(&pending.call)) {
            self.waiting -= 1;
            let bytes = memory_of(&pending);
            if pending.completion.mark_in_request() && next.batch.try_push(pending).is_ok() {
                user.in_request += 1;
            } else {
                self.bytes -= bytes;
                next.withdrawn += 1;
            }
            if is_enough(&next.batch) {
                break;
            }
        }
        let has_calls = !user.waiting.is_empty();
        let is_in_request = user.in_request > 0;
        if !has_calls && !is_in_request {
            self.users.remove(user_id);
        }
        is_in_request || !has_calls
    }

    /// Settles calls that were in a request. A user without unsettled calls in a request gets back in line.
    pub(super) fn mark_settled<'a>(&mut self, calls: impl Iterator<Item = &'a PendingCall>) {
        for pending in calls {
            // After the grace period the queue is dropped, and a call that is settled later is not counted any more.
            self.bytes = self.bytes.saturating_sub(memory_of(pending));
            let Entry::Occupied(mut entry) = self.users.entry(pending.call.user_id().clone()) else { continue };
            let user = entry.get_mut();
            user.in_request = user.in_request.saturating_sub(1);
            if user.in_request > 0 {
                continue;
            }
            if user.waiting.is_empty() {
                entry.remove();
            } else {
                self.returning.push_back(entry.key().clone());
            }
        }
    }

    /// Drops the stored calls that wait, and every stored call that comes later: they stay in the outbox for the next start.
    /// Both are one step, so that no call of a user is sent after an earlier one was dropped.
    pub(super) fn leave_stored(&mut self) {
        self.leaves_stored = true;
        drop(self.extract_if(|pending| pending.completion.is_stored()));
    }

    /// Removes and returns the waiting calls for which `predicate` is true.
    pub(super) fn extract_if(&mut self, predicate: impl Fn(&PendingCall) -> bool) -> Vec<PendingCall> {
        let mut extracted: Vec<PendingCall> = Vec::new();
        self.users.retain(|_, user| {
            // `VecDeque::extract_if` is not stable. This runs only when the gate shuts or the process drains.
            for pending in std::mem::take(&mut user.waiting) {
                if predicate(&pending) { extracted.push(pending) } else { user.waiting.push_back(pending) }
            }
            user.in_request > 0 || !user.waiting.is_empty()
        });
        for line in [&mut self.returning, &mut self.new] {
            line.retain(|user_id| self.users.contains_key(user_id));
        }
        self.waiting -= extracted.len();
        self.bytes -= extracted.iter().map(memory_of).sum::<usize>();
        extracted
    }
}

fn memory_of(pending: &PendingCall) -> usize {
    pending.call.json().len() + CALL_OVERHEAD
}

#[cfg(test)]
mod tests;
