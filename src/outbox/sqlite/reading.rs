//! Where reading stands, and what one step of it finds.

use std::collections::{HashSet, VecDeque};

use super::command::Reply;
use super::memory::UserHash;
use super::parked::Run;
use crate::outbox::limits::{MAX_TRANSACTION_BYTES, row_bytes};
use crate::outbox::{CallId, StoredCall};

/// Bytes of new calls that are kept in memory until delivery takes them: about what a transaction stores.
const FRESH_BYTES: usize = MAX_TRANSACTION_BYTES;

/// Where reading stands.
pub(super) struct Reading {
    /// The calls in `calls` with ids up to this one were taken or moved.
    pub(super) cursor: CallId,
    /// The calls in `calls` behind the cursor, if these are all of them.
    pub(super) fresh: Option<VecDeque<StoredCall>>,
    pub(super) fresh_bytes: usize,
    /// The room that delivery has, while it waits.
    pub(super) asked: Option<(usize, Reply<Vec<StoredCall>>)>,
    /// The turn of the user who was read last.
    pub(super) turn: i64,
    /// No user was read since the turns began anew.
    pub(super) is_round_empty: bool,
    /// The users in turn come first the next time.
    pub(super) is_turn_first: bool,
}

/// Rows of `calls` behind the cursor.
#[derive(Default)]
pub(super) struct Found {
    /// They are out already.
    pub(super) calls: Vec<StoredCall>,
    /// What must be moved.
    pub(super) runs: Vec<Run>,
    /// Ids, users and bytes of the moved rows.
    pub(super) moved: Vec<(CallId, UserHash, u64)>,
    pub(super) moved_users: HashSet<UserHash>,
    pub(super) moved_bytes: usize,
    pub(super) bytes: usize,
    /// The last id.
    pub(super) cursor: CallId,
    pub(super) is_end: bool,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            cursor: 0,
            fresh: None,
            fresh_bytes: 0,
            asked: None,
            turn: i64::MIN,
            is_round_empty: true,
            is_turn_first: false,
        }
    }

    /// Delivery asks for calls. There is one caller at a time: an earlier one has left.
    pub(super) fn ask(&mut self, room: usize, reply: Reply<Vec<StoredCall>>) {
        self.asked = Some((room, reply));
    }

    /// A transaction stored calls.
    pub(super) fn stored(&mut self, calls: Vec<StoredCall>) {
        let Some(fresh) = &mut self.fresh else { return };
        self.fresh_bytes += calls.iter().map(|stored| stored.call.json().len()).sum::<usize>();
        fresh.extend(calls);
        if self.fresh_bytes > FRESH_BYTES {
            // They are read from the file.
            (self.fresh, self.fresh_bytes) = (None, 0);
        }
    }

    pub(super) fn take_fresh(&mut self) -> Option<StoredCall> {
        let stored = self.fresh.as_mut()?.pop_front()?;
        self.fresh_bytes -= stored.call.json().len();
        Some(stored)
    }
}

impl Found {
    /// At least one row is looked at.
    pub(super) fn is_enough(&self, bytes: usize) -> bool {
        self.bytes >= bytes.max(1) || self.moved_bytes >= MAX_TRANSACTION_BYTES
    }

    pub(super) fn add(&mut self, stored: StoredCall) {
        self.cursor = stored.id;
        self.bytes += stored.call.json().len();
        self.calls.push(stored);
    }

    pub(super) fn add_moved(&mut self, id: CallId, user_id: &str, user: UserHash, length: usize) {
        let bytes = row_bytes(length as u64);
        match self.runs.last_mut() {
            Some(run) if run.last == self.cursor && run.user_id == user_id => {
                (run.last, run.calls, run.bytes) = (id, run.calls + 1, run.bytes + bytes);
            }
            _ => self.runs.push(Run { user_id: user_id.to_owned(), first: id, last: id, calls: 1, bytes }),
        }
        self.cursor = id;
        self.moved_users.insert(user);
        self.moved_bytes += length;
        self.moved.push((id, user, bytes));
    }
}
