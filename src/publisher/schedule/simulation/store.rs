//! A store in memory that is asked for work, and parks users. It checks that a user's outcomes come in the order of the calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::segment::{CallOutcome, SettledCall};

/// What one user gets at once after waking.
const PART: usize = 64;

const FIRST_PARKED_INTERVAL: Duration = Duration::from_millis(500);
const MAX_PARKED_OUT: usize = 32;

pub(super) type User = usize;

#[derive(Default)]
pub(super) struct Store {
    /// Calls that wait to be read.
    calls: BTreeMap<i64, User>,
    /// Calls that the publisher has.
    out: BTreeMap<i64, User>,
    out_of_user: HashMap<User, usize>,
    /// All calls of a user that are not settled.
    unsettled: HashMap<User, BTreeSet<i64>>,
    parked: HashMap<User, Parked>,
    /// Users who woke and have calls waiting, in turns.
    awake: VecDeque<User>,
}

#[derive(Default)]
struct Parked {
    is_in_trouble: bool,
    failures: u32,
    retry_at: Duration,
    waiting: BTreeSet<i64>,
}

impl Store {
    pub(super) fn append(&mut self, id: i64, user: User) {
        self.unsettled.entry(user).or_default().insert(id);
        match self.parked.get_mut(&user) {
            Some(parked) => drop(parked.waiting.insert(id)),
            None => drop(self.calls.insert(id, user)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    pub(super) fn has_parked(&self) -> bool {
        self.parked.values().any(|parked| parked.is_in_trouble)
    }

    /// At most `most` calls.
    pub(super) fn next(&mut self, most: usize) -> Vec<(i64, User)> {
        let mut taken = Vec::new();
        for _ in 0..self.awake.len() {
            if taken.len() == most {
                break;
            }
            let Some(user) = self.awake.pop_front() else { break };
            let parked = self.parked.get_mut(&user).unwrap();
            if self.out_of_user.contains_key(&user) {
                self.awake.push_back(user);
                continue;
            }
            for id in parked.waiting.iter().copied().take(PART.min(most - taken.len())).collect::<Vec<_>>() {
                parked.waiting.remove(&id);
                taken.push((id, user));
            }
            if parked.waiting.is_empty() {
                self.parked.remove(&user);
            } else {
                self.awake.push_back(user);
            }
        }
        while taken.len() < most
            && let Some((id, user)) = self.calls.pop_first()
        {
            taken.push((id, user));
        }
        taken.iter().for_each(|(id, user)| self.take_out(*id, *user));
        taken
    }

    /// First calls of parked users. `is_early`: users count who are not due yet.
    pub(super) fn next_parked(&mut self, most: usize, is_early: bool, now: Duration) -> Vec<(i64, User)> {
        let is_due = |user: &User, parked: &Parked| {
            let is_ready = parked.is_in_trouble && !self.out_of_user.contains_key(user);
            is_ready && (is_early || parked.retry_at <= now)
        };
        let due = self.parked.iter().filter(|(user, parked)| is_due(user, parked));
        let mut due: Vec<(Duration, User)> = due.map(|(user, parked)| (parked.retry_at, *user)).collect();
        due.sort_unstable();
        due.truncate(most);
        let first =
            |(_, user): (Duration, User)| (self.parked.get_mut(&user).unwrap().waiting.pop_first().unwrap(), user);
        let taken: Vec<(i64, User)> = due.into_iter().map(first).collect();
        taken.iter().for_each(|(id, user)| self.take_out(*id, *user));
        taken
    }

    fn take_out(&mut self, id: i64, user: User) {
        self.out.insert(id, user);
        *self.out_of_user.entry(user).or_default() += 1;
    }

    /// Returns the users who are parked now.
    pub(super) fn settle(&mut self, settled: Vec<SettledCall>, now: Duration) -> Vec<User> {
        let mut parked_users = Vec::new();
        for SettledCall { id, outcome } in settled {
            let user = self.out.remove(&id).expect("a call has one outcome");
            let out = self.out_of_user.get_mut(&user).unwrap();
            *out -= 1;
            if *out == 0 {
                self.out_of_user.remove(&user);
            }
            match outcome {
                CallOutcome::Accepted | CallOutcome::Refused(_) => {
                    let unsettled = self.unsettled.get_mut(&user).unwrap();
                    assert_eq!(
                        unsettled.pop_first(),
                        Some(id),
                        "the outcomes of a user come in the order of the calls"
                    );
                    if unsettled.is_empty() {
                        self.unsettled.remove(&user);
                    }
                    self.wake(user);
                }
                CallOutcome::Parked(trouble) => {
                    assert_eq!(self.unsettled[&user].first(), Some(&id), "the first call of a user is parked");
                    self.put_behind(id, user);
                    let parked = self.parked.get_mut(&user).unwrap();
                    parked.is_in_trouble = true;
                    parked.failures += u32::from(trouble.is_own);
                    let pause = 2_u64.saturating_pow(parked.failures.saturating_sub(1)).min(300);
                    parked.retry_at = now + Duration::from_secs(pause);
                    self.awake.retain(|awake| *awake != user);
                    parked_users.push(user);
                }
                CallOutcome::Behind => self.put_behind(id, user),
                CallOutcome::TakenBack => self.put_back(id, user),
            }
        }
        parked_users
    }

    fn wake(&mut self, user: User) {
        let Some(parked) = self.parked.get_mut(&user).filter(|parked| parked.is_in_trouble) else { return };
        *parked = Parked { waiting: std::mem::take(&mut parked.waiting), ..Parked::default() };
        if parked.waiting.is_empty() {
            self.parked.remove(&user);
        } else {
            self.awake.push_back(user);
        }
    }

    fn put_behind(&mut self, id: i64, user: User) {
        let parked = self.parked.entry(user).or_insert_with(|| {
            let aside = self.calls.extract_if(.., |_, of| *of == user);
            Parked { waiting: aside.map(|(id, _)| id).collect(), ..Parked::default() }
        });
        parked.waiting.insert(id);
    }

    /// The process was killed: nothing is out.
    pub(super) fn restart(&mut self) {
        self.out_of_user.clear();
        for (id, user) in std::mem::take(&mut self.out) {
            self.put_back(id, user);
        }
    }

    /// A call waits to be read again.
    fn put_back(&mut self, id: i64, user: User) {
        match self.parked.get_mut(&user) {
            Some(parked) => drop(parked.waiting.insert(id)),
            None => drop(self.calls.insert(id, user)),
        }
    }

    pub(super) fn has_all_back(&self) -> bool {
        self.out.is_empty()
    }
}

/// The pace at which parked calls are taken from the store: 2 a second, and more while they are accepted.
pub(super) struct ParkedPace {
    interval: Duration,
    min_interval: Duration,
    pub(super) next_at: Duration,
    is_mended: bool,
    out: usize,
}

impl ParkedPace {
    pub(super) fn new(requests_per_second: u32, now: Duration) -> Self {
        let min_interval = Duration::from_secs(4) / requests_per_second;
        let interval = FIRST_PARKED_INTERVAL.max(min_interval);
        Self { interval, min_interval, next_at: now + interval, is_mended: false, out: 0 }
    }

    pub(super) fn take(&mut self, store: &mut Store, now: Duration) -> Vec<(i64, User)> {
        let taken = if self.out < MAX_PARKED_OUT { store.next_parked(1, self.is_mended, now) } else { Vec::new() };
        self.out += taken.len();
        self.next_at = now + if taken.is_empty() { FIRST_PARKED_INTERVAL } else { self.interval };
        taken
    }

    /// A parked call came back.
    pub(super) fn ended(&mut self, outcome: &CallOutcome, now: Duration) {
        self.out -= 1;
        match outcome {
            CallOutcome::Accepted => {
                self.is_mended = true;
                self.interval = (self.interval / 2).max(self.min_interval);
                self.next_at = self.next_at.min(now + self.interval);
            }
            CallOutcome::Parked(_) => {
                self.is_mended = false;
                self.interval = FIRST_PARKED_INTERVAL.max(self.min_interval);
            }
            CallOutcome::Refused(_) | CallOutcome::Behind | CallOutcome::TakenBack => {}
        }
    }
}
