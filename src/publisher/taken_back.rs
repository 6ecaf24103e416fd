//! Stored calls that leave memory unsent: while the process drains, while the fence is shut, and those of a forgotten person. Pure.

use std::collections::HashSet;

use super::batch::PendingCall;
use super::queue::{Queue, StoredCalls, UserId};
use crate::segment::CallOutcome;

impl Queue {
    /// Drops the stored calls that wait, and every stored call that comes later: they stay in the outbox for the next start.
    /// Both are one step, so that no call of a user is sent after an earlier one was dropped.
    pub(super) fn leave_stored(&mut self) {
        self.stored = StoredCalls::AreLeft;
        drop(self.extract_if(|_, pending| pending.completion.is_stored()));
    }

    /// The fence is open or shut. While it is shut, the stored calls that wait go back to the store, and so does every stored call
    /// that comes later. As in [`leave_stored`](Self::leave_stored), both are one step.
    pub(super) fn set_fence(&mut self, is_open: bool) {
        match self.stored {
            StoredCalls::Wait if !is_open => {
                self.stored = StoredCalls::GoBack;
                for pending in self.extract_if(|_, pending| pending.completion.is_stored()) {
                    self.end_stay(&pending);
                }
                // A user's next call does not wait for the end of this one's pause.
                self.release_relieved();
            }
            StoredCalls::GoBack if is_open => self.stored = StoredCalls::Wait,
            _ => {}
        }
    }

    /// A stored call that may not wait is left, or goes back to the store.
    pub(super) fn end_stay(&self, pending: &PendingCall) {
        if self.stored == StoredCalls::GoBack {
            pending.completion.leave(CallOutcome::TakenBack);
        }
    }

    /// Gives these stored calls of a user back, as far as they wait. Later ones of the user stay in their order.
    pub(super) fn take_back(&mut self, user_id: &str, ids: &HashSet<i64>) {
        let is_meant = |of: &UserId, pending: &PendingCall| {
            **of == *user_id && pending.completion.stored_id().is_some_and(|id| ids.contains(&id))
        };
        for pending in self.extract_if(is_meant) {
            pending.completion.leave(CallOutcome::TakenBack);
        }
    }
}
