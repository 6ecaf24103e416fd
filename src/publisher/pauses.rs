//! The pauses of users whose calls failed and their ends, and who is asked in an outage. Pure.

use std::collections::hash_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Due, Queue, Standing, Suspect, Taken, UserId};

/// How many of the users whose calls were accepted last are remembered: some are in the middle of a failing request themselves.
const MAX_LAST_ACCEPTED: usize = 16;

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

    /// Groups are no longer searched: in an outage nobody holds a culprit for certain.
    pub(super) fn dissolve_groups(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        groups.into_iter().for_each(|group| self.put_in_company(group));
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

    /// A user's call was accepted.
    pub(super) fn note_accepted(&mut self, user_id: &UserId) {
        if self.last_accepted.back() != Some(user_id) {
            if self.last_accepted.len() == MAX_LAST_ACCEPTED {
                self.last_accepted.pop_front();
            }
            self.last_accepted.push_back(user_id.clone());
        }
    }

    /// Takes a user with waiting calls out of line. False if the user waits in none.
    fn take_from_line(&mut self, user_id: &UserId) -> bool {
        if self.users.get(user_id).is_none_or(|user| user.waiting.is_empty()) {
            return false;
        }
        for line in [&mut self.new, &mut self.returning] {
            if let Some(at) = line.iter().position(|other| other == user_id) {
                line.remove(at);
                return true;
            }
        }
        for line in [&mut self.paused, &mut self.suspects] {
            if let Some(due) = line.iter().find(|(_, other)| *other == user_id).map(|(due, _)| *due) {
                line.remove(&due);
                return true;
            }
        }
        false
    }

    /// Takes one call to ask whether an outage is over: of a user whose call was accepted lately, else of a new user, else of one
    /// who returned, the newest and one at random in turns, else of a suspect, else a parked call. The oldest may all have calls
    /// that fail on their own. `is_asked`: this user was asked already; others go first.
    pub(super) fn take_probe(&mut self, is_asked: impl Fn(&UserId) -> bool) -> Taken {
        let mut taken = Taken::default();
        self.dissolve_groups();
        let accepted =
            self.last_accepted.iter().rev().filter(|user_id| !is_asked(user_id)).cloned().collect::<Vec<_>>();
        let mut user_id = accepted.into_iter().find(|user_id| self.take_from_line(user_id));
        self.is_turn_of_newest = !self.is_turn_of_newest;
        for is_skipped in [&is_asked as &dyn Fn(&UserId) -> bool, &|_| false] {
            for line in [&mut self.new, &mut self.returning] {
                if user_id.is_none() {
                    let is_next = |user_id: &UserId| !is_skipped(user_id);
                    let position = if self.is_turn_of_newest {
                        line.iter().rposition(is_next)
                    } else {
                        let from = fastrand::usize(..=line.len());
                        let behind = line.iter().skip(from).position(is_next).map(|at| at + from);
                        behind.or_else(|| line.iter().position(is_next))
                    };
                    user_id = position.and_then(|at| line.remove(at));
                }
            }
            if user_id.is_none() {
                let suspect = self.suspects.iter().find(|(_, user_id)| !is_skipped(user_id)).map(|(due, _)| *due);
                user_id = suspect.and_then(|due| self.suspects.remove(&due));
            }
        }
        if let Some(user_id) = user_id.or_else(|| self.parked.pop_front()) {
            self.fill(&user_id, &mut taken, 1, false);
        }
        taken
    }

    /// The first user in line who was not asked yet. Those who returned stand before the new ones.
    pub(super) fn first_unasked(&self, is_asked: impl Fn(&UserId) -> bool) -> Option<UserId> {
        let mut users = self.returning.iter().chain(&self.new);
        users.find(|user_id| !is_asked(user_id)).cloned()
    }
}
