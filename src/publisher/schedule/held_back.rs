//! Calls that may not be sent, because Segment refuses their write key or their source is not configured. They leave memory, so
//! that they take no room from others: a stored call goes back to the store as parked, and not for its own fault; a caller is
//! told. Of a key that is refused, one user stays in line, to be asked next.

use tokio::time::Instant;

use super::Schedule;
use crate::publisher::answer::trouble_of;
use crate::publisher::keys::{KeyId, not_configured};
use crate::publisher::lines::End;
use crate::publisher::queue::{Standing, UserId};
use crate::publisher::trouble::Gate;
use crate::segment::SegmentError;

/// Users who stay in line at first: three customers who are blocked themselves look like a key that is refused.
const MAX_UNJUDGED: usize = 64;

/// Probes that must fail before stored calls go: so many customers in a row who are blocked themselves are rare.
const MIN_PROBES: u32 = 4;

/// Calls of the user who stays: enough for the one who is asked, and few beside the room for stored calls.
const MAX_HELD_CALLS: usize = 8;

impl Schedule {
    /// Lets the calls go that may not be sent.
    pub(super) fn return_held_back(&mut self, now: Instant) {
        if !self.queue.keyless.is_empty() {
            let line = std::mem::take(&mut self.queue.keyless);
            for user_id in line.returning.into_iter().chain(line.new) {
                self.return_user(user_id, None, &not_configured());
            }
        }
        if !self.keys.has_many() {
            return;
        }
        let refused: Vec<KeyId> = self.keys.refused().map(|(key, _)| key).collect();
        refused.into_iter().for_each(|key| self.return_of_key(key, now));
    }

    fn return_of_key(&mut self, key: KeyId, now: Instant) {
        let Some(of_key) = self.keys.get(key) else { return };
        let trouble = &of_key.trouble;
        let Some((until, error)) = trouble.shut_until() else { return };
        let error = error.clone().retry_after(until.saturating_duration_since(now));
        let (is_unjudged, is_due) = (trouble.is_unjudged(), trouble.gate(now) == Gate::ProbeDue);
        let is_early = trouble.failed_probes() < MIN_PROBES;
        let line = std::mem::take(self.queue.line(Some(key)));
        let users: Vec<UserId> = line.returning.into_iter().chain(line.new).collect();
        let first = |user_id: &UserId| self.queue.users.get(user_id).and_then(|user| user.waiting.front());
        let may_stay = |user_id: &UserId| {
            let calls = self.queue.users.get(user_id).map_or(0, |user| user.waiting.len());
            // A parked call is out for a while only.
            let is_parked = first(user_id).is_some_and(|pending| pending.is_parked);
            self.queue.key_of_first(user_id) == Some(Some(key))
                && if is_parked { is_due } else { calls <= MAX_HELD_CALLS }
        };
        let is_unasked = |user_id: &&UserId| may_stay(user_id) && !trouble.was_asked(user_id);
        let next = users.iter().find(is_unasked).or_else(|| users.iter().rfind(|user_id| may_stay(user_id))).cloned();
        let is_stored = |user_id: &UserId| first(user_id).is_some_and(|pending| pending.completion.is_stored());
        let unjudged =
            users.iter().filter(|user_id| may_stay(user_id) && (is_unjudged || is_early && is_stored(user_id)));
        let mut stay: Vec<UserId> = unjudged.take(MAX_UNJUDGED).cloned().collect();
        if let Some(next) = next.filter(|next| !stay.contains(next)) {
            stay.push(next);
        }
        for user_id in users {
            if stay.contains(&user_id) {
                self.queue.enter(user_id, End::Returning);
            } else {
                self.return_user(user_id, Some(key), &error);
            }
        }
    }

    /// Gives back what a user has of calls that may not be sent: those of callers up to the first other one, or all stored ones.
    fn return_user(&mut self, user_id: UserId, key: Option<KeyId>, error: &SegmentError) {
        while let Some(user) = self.queue.users.get(&user_id)
            && let Some(first) = user.waiting.front()
            && self.queue.key_of_calls.of(&first.call) == key
        {
            if first.completion.is_stored() {
                return self.park(&user_id, &trouble_of(error, false));
            }
            let told = self.queue.pop_first(&user_id);
            self.give_up(told.into_iter().collect(), error);
        }
        if self.queue.set_standing(&user_id, Standing::Sound) {
            self.queue.enter(user_id, End::New);
        }
    }

    /// A key that is to be asked now whether Segment accepts it.
    pub(super) fn key_to_ask(&self, now: Instant) -> Option<KeyId> {
        if !self.keys.has_many() {
            return None;
        }
        let mut refused = self.keys.refused();
        let is_due = |(id, _): &(KeyId, _)| self.queue.has_line(*id) && self.keys.may_ask(*id, now);
        refused.find(is_due).map(|(key, _)| key)
    }

    /// When the next of them is to be asked, after `now`.
    pub(super) fn next_key_probe(&self, now: Instant) -> Option<Instant> {
        let times = self.keys.refused().filter(|(id, _)| self.queue.has_line(*id));
        let times = times.filter_map(|(_, key)| match key.trouble.gate(now) {
            Gate::ShutUntil(at) => Some(at),
            _ => None,
        });
        times.min()
    }
}
