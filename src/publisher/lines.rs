//! A line of users who can go with others: there is one for each write key. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

/// Users whose first calls have one write key.
#[derive(Default)]
pub(super) struct Line {
    /// Users who returned from a request and have calls waiting, also those whose calls failed with those of others only.
    pub(super) returning: VecDeque<Arc<str>>,
    /// Users whose first call came while they were in no request.
    pub(super) new: VecDeque<Arc<str>>,
}

/// A part of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Returning,
    New,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.returning.is_empty() && self.new.is_empty()
    }

    pub(super) fn end(&mut self, end: End) -> &mut VecDeque<Arc<str>> {
        match end {
            End::Returning => &mut self.returning,
            End::New => &mut self.new,
        }
    }

    /// Those who returned stand before the new ones.
    pub(super) fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.returning.iter().chain(&self.new)
    }
}
