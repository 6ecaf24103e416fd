//! The lines of the write keys, which take turns. Pure.

use std::ops::Bound::{Excluded, Unbounded};

use super::keys::{KeyId, KeyOfCalls};
use super::lines::{End, Line};
use super::queue::{Queue, Taken, UserId};

impl Queue {
    pub(super) fn line(&mut self, key: Option<KeyId>) -> &mut Line {
        match key {
            Some(key) => self.lines.entry(key).or_default(),
            None => &mut self.keyless,
        }
    }

    /// The write key of the user's first waiting call. The inner `None`: its source is not configured.
    pub(super) fn key_of_first(&self, user_id: &UserId) -> Option<Option<KeyId>> {
        self.users.get(user_id)?.waiting.front().map(|pending| self.key_of_calls.of(&pending.call))
    }

    /// Puts a user in the line of the first call. A user without calls is gone.
    pub(super) fn enter(&mut self, user_id: UserId, end: End) {
        match self.key_of_first(&user_id) {
            Some(key) => self.line(key).end(end).push_back(user_id),
            None => drop(self.users.remove(&user_id)),
        }
    }

    /// The same, before all others.
    pub(super) fn enter_first(&mut self, user_id: UserId) {
        if let Some(key) = self.key_of_first(&user_id) {
            self.line(key).returning.push_front(user_id);
        }
    }

    /// The key whose turn it is to be sent, of those that may be sent: they take turns, a request each, however many calls wait.
    pub(super) fn next_key(&self, is_open: impl Fn(KeyId) -> bool) -> Option<KeyId> {
        self.keys_in_turn().find(|key| is_open(*key) && self.has_line(*key))
    }

    /// Keys with lines, the next one first.
    pub(super) fn keys_in_turn(&self) -> impl Iterator<Item = KeyId> {
        let later = self.lines.range((Excluded(self.last_key), Unbounded));
        later.chain(self.lines.range(..=self.last_key)).map(|(key, _)| *key)
    }

    pub(super) fn has_line(&self, key: KeyId) -> bool {
        self.lines.get(&key).is_some_and(|line| !line.is_empty())
    }

    /// Other write keys are in use: users wait in the lines of their calls' new keys.
    pub(super) fn replace_keys(&mut self, of_calls: KeyOfCalls) {
        self.key_of_calls = of_calls;
        let keyless = std::mem::take(&mut self.keyless);
        for line in std::mem::take(&mut self.lines).into_values().chain([keyless]) {
            line.returning.into_iter().for_each(|user_id| self.enter(user_id, End::Returning));
            line.new.into_iter().for_each(|user_id| self.enter(user_id, End::New));
        }
    }

    /// Whether the user's first call may not be sent now: its write key is refused, or its source is not configured.
    pub(super) fn is_held_back(&self, user_id: &UserId, is_open: impl Fn(KeyId) -> bool) -> bool {
        self.key_of_first(user_id).is_some_and(|key| !key.is_some_and(is_open))
    }

    /// Takes one call of this key to ask whether Segment accepts it: of a user whose call was accepted lately, else of another
    /// who was not asked yet.
    pub(super) fn take_key_probe(&mut self, key: KeyId, is_asked: impl Fn(&UserId) -> bool) -> Taken {
        let mut taken = Taken::of_key(key);
        let is_known = |queue: &Self, user_id: &UserId| queue.key_of_first(user_id) == Some(Some(key));
        let accepted = self.last_accepted.iter().rev().filter(|user_id| !is_asked(user_id) && is_known(self, user_id));
        let accepted: Vec<UserId> = accepted.cloned().collect();
        let user_id = accepted.into_iter().find(|user_id| self.take_from_line(user_id));
        let line = self.line(Some(key));
        let unasked = || {
            [End::New, End::Returning].into_iter().find_map(|end| {
                let at = line.end(end).iter().position(|user_id| !is_asked(user_id))?;
                line.end(end).remove(at)
            })
        };
        let user_id = user_id.or_else(unasked);
        let line = self.line(Some(key));
        if let Some(user_id) = user_id.or_else(|| line.returning.pop_front()).or_else(|| line.new.pop_front()) {
            self.fill(&user_id, &mut taken, 1, false);
        }
        taken
    }
}
