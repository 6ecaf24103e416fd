//! The pauses of users whose calls failed and their ends, and who is asked in an outage. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::keys::KeyId;
use super::lines::End;
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
            self.enter(user_id, End::Returning);
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
        users.into_iter().for_each(|user_id| self.enter(user_id, End::Returning));
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
            self.enter_first(user_id);
        }
    }

    /// Lets users go who wait for the end of a pause though the calls that failed are gone.
    pub(super) fn release_relieved(&mut self) {
        let mut relieved = Vec::new();
        for line in [&mut self.paused, &mut self.suspects] {
            relieved.extend(line.extract_if(.., |_, user_id| {
                let first = self.users.get(user_id).and_then(|user| user.waiting.front());
                first.is_none_or(|pending| !pending.has_failed)
            }));
        }
        for (_, user_id) in relieved {
            if self.set_standing(&user_id, Standing::Sound) {
                self.enter(user_id, End::New);
            }
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
    pub(super) fn take_from_line(&mut self, user_id: &UserId) -> bool {
        if self.users.get(user_id).is_none_or(|user| user.waiting.is_empty()) {
            return false;
        }
        let key = self.key_of_first(user_id).flatten();
        for end in [End::New, End::Returning] {
            let line = self.line(key).end(end);
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

    /// Takes the first call of the suspect that is due the longest.
    pub(super) fn take_suspect(&mut self, is_open: impl Fn(KeyId) -> bool) -> Taken {
        let suspect = self.suspects.pop_first().map(|(_, user_id)| user_id);
        self.take_one(suspect, is_open)
    }

    pub(super) fn take_parked(&mut self, is_open: impl Fn(KeyId) -> bool) -> Taken {
        let parked = self.parked.pop_front();
        self.take_one(parked, is_open)
    }

    /// Takes the first call of a user who waited for a request alone. If it may not be sent now, the user waits in line.
    pub(super) fn take_one(&mut self, user_id: Option<UserId>, is_open: impl Fn(KeyId) -> bool) -> Taken {
        let mut taken = Taken::default();
        match user_id {
            Some(user_id) if self.is_held_back(&user_id, is_open) => self.enter(user_id, End::Returning),
            Some(user_id) => drop(self.fill(&user_id, &mut taken, 1, false)),
            None => {}
        }
        taken
    }

    /// Takes one call to ask whether an outage is over: of a user whose call was accepted lately, else of a new user, else of one
    /// who returned, the newest and one at random in turns, else of a suspect, else a parked call. The oldest may all have calls
    /// that fail on their own. `is_asked`: this user was asked already; others go first. Only keys that are open are asked.
    pub(super) fn take_probe(&mut self, is_open: impl Fn(KeyId) -> bool, is_asked: impl Fn(&UserId) -> bool) -> Taken {
        self.dissolve_groups();
        let is_next = |queue: &Self, user_id: &UserId| !is_asked(user_id) && !queue.is_held_back(user_id, &is_open);
        let accepted = self.last_accepted.iter().rev().filter(|user_id| is_next(self, user_id)).cloned();
        let accepted: Vec<UserId> = accepted.collect();
        let mut user_id = accepted.into_iter().find(|user_id| self.take_from_line(user_id));
        self.is_turn_of_newest = !self.is_turn_of_newest;
        let keys: Vec<KeyId> = self.keys_in_turn().filter(|key| is_open(*key)).collect();
        for is_skipped in [&is_asked as &dyn Fn(&UserId) -> bool, &|_| false] {
            for end in [End::New, End::Returning] {
                for key in &keys {
                    if user_id.is_none() {
                        user_id = self.pick(*key, end, is_skipped);
                        self.last_key = user_id.as_ref().map_or(self.last_key, |_| *key);
                    }
                }
            }
            if user_id.is_none() {
                let suspect = self.suspects.iter().find(|(_, user_id)| !is_skipped(user_id)).map(|(due, _)| *due);
                user_id = suspect.and_then(|due| self.suspects.remove(&due));
            }
        }
        let user_id = user_id.or_else(|| self.parked.pop_front());
        self.take_one(user_id, is_open)
    }

    /// Takes the newest user of a part of a line, or one at random.
    fn pick(&mut self, key: KeyId, end: End, is_skipped: &dyn Fn(&UserId) -> bool) -> Option<UserId> {
        let is_turn_of_newest = self.is_turn_of_newest;
        let line = self.line(Some(key)).end(end);
        let is_next = |user_id: &UserId| !is_skipped(user_id);
        let position = if is_turn_of_newest {
            line.iter().rposition(is_next)
        } else {
            let from = fastrand::usize(..=line.len());
            let behind = line.iter().skip(from).position(is_next).map(|at| at + from);
            behind.or_else(|| line.iter().position(is_next))
        };
        position.and_then(|at| line.remove(at))
    }

    /// The first user in line who was not asked yet.
    pub(super) fn first_unasked(&self, is_asked: impl Fn(&UserId) -> bool) -> Option<UserId> {
        self.keys_in_turn().find_map(|key| self.lines.get(&key)?.users().find(|user_id| !is_asked(user_id)).cloned())
    }
}
