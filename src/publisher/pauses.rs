//! The pauses of users whose calls failed, and their ends. Pure.

use std::collections::hash_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Due, Queue, Standing, Suspect, UserId};

impl Queue {
    /// A key for [`paused`](Self::paused) and [`suspects`](Self::suspects).
    pub(super) fn due(&mut self, at: Instant) -> Due {
        self.tickets += 1;
        (at, self.tickets)
    }

    /// Whether anybody waits for the end of a pause.
    pub(super) fn has_pauses(&self) -> bool {
        !self.paused.is_empty() || !self.suspects.is_empty()
    }

    /// When the next pause ends after `now`.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let next = |(at, _): &Due| *at;
        let after = (now, u64::MAX)..;
        let paused = self.paused.range(after.clone()).next().map(|(due, _)| next(due));
        let suspects = self.suspects.range(after).next().map(|(due, _)| next(due));
        [paused, suspects].into_iter().flatten().min()
    }

    /// Ends the pauses that are over.
    pub(super) fn end_pauses_due(&mut self, now: Instant) {
        while let Some(entry) = self.paused.first_entry()
            && entry.key().0 <= now
        {
            let user_id = entry.remove();
            self.end_pause(user_id, now);
        }
    }

    /// A request was accepted: ends all pauses, whoever named them. After an outage suspects come back within `spread`, too.
    pub(super) fn end_pauses(&mut self, now: Instant, spread: Option<Duration>) {
        while let Some((_, user_id)) = self.paused.pop_first() {
            self.end_pause(user_id, now);
        }
        if let Some(spread) = spread {
            for ((at, _), user_id) in std::mem::take(&mut self.suspects) {
                let due = self.due(at.min(now + spread.mul_f64(fastrand::f64())));
                self.suspects.insert(due, user_id);
            }
        }
    }

    fn end_pause(&mut self, user_id: UserId, now: Instant) {
        if self.suspect(&user_id).is_some() {
            let due = self.due(now);
            self.suspects.insert(due, user_id);
        } else {
            self.returning.push_back(user_id);
        }
    }

    pub(super) fn suspect(&self, user_id: &UserId) -> Option<Suspect> {
        match self.users.get(user_id)?.standing {
            Standing::Suspect(suspect) => Some(suspect),
            _ => None,
        }
    }

    /// These users' calls failed with those of others only, and are tried again together.
    pub(super) fn put_in_company(&mut self, users: Vec<UserId>) {
        self.returning.extend(users);
    }

    /// A user whose request ended without a word about its calls goes first again.
    pub(super) fn put_first(&mut self, user_id: UserId, now: Instant) {
        if self.suspect(&user_id).is_some() {
            self.end_pause(user_id, now);
        } else if self.set_standing(&user_id, Standing::Sound) {
            self.returning.push_front(user_id);
        }
    }

    /// Lets users go who wait for the end of a pause though the calls that failed are gone.
    pub(super) fn release_relieved(&mut self) {
        let Self { users, new, paused, suspects, .. } = self;
        for line in [paused, suspects] {
            line.retain(|_, user_id| {
                let Entry::Occupied(mut user) = users.entry(user_id.clone()) else { return false };
                let first = user.get().waiting.front();
                if first.is_some_and(|pending| pending.has_failed) {
                    return true;
                }
                if first.is_none() {
                    user.remove();
                } else {
                    user.get_mut().standing = Standing::Sound;
                    new.push_back(user_id.clone());
                }
                false
            });
        }
    }
}
