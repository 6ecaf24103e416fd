//! The oracle of the soak: what was posted and promised, and what has become of it so far.
//!
//! It forgets a call when it is settled, so that a soak of hours takes little memory.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Answer, Arrival};

/// More are not worth reading.
const MAX_PROBLEMS: usize = 20;

/// What Segment does with a call: it stands in the call's traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    Stuck,
    Blocked,
    Refused,
}

impl Trouble {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stuck => "stuck",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
        }
    }

    /// The text of the call by which Segment knows it.
    pub fn text(self) -> String {
        format!(r#""trouble":"{}""#, self.name())
    }

    fn of(name: &str) -> Option<Self> {
        [Self::None, Self::Stuck, Self::Blocked, Self::Refused].into_iter().find(|trouble| trouble.name() == name)
    }

    /// Whether a call in this trouble may be a dead letter for this reason.
    fn allows(self, why: &str) -> bool {
        match why {
            "refused" => self == Self::Refused,
            "gave_up" => matches!(self, Self::Stuck | Self::Blocked),
            _ => false,
        }
    }
}

/// What has become of all calls.
#[derive(Default)]
pub struct Account {
    users: HashMap<String, UserAccount>,
    /// Calls that were answered with an error that says that they are not stored.
    turned_away: HashSet<String>,
    /// Since when Segment accepts what is sound while the relay is up. `None`: it does not.
    fine_since: Option<Instant>,
    pub problems: Vec<String>,
    pub counts: Counts,
    /// From the 202 to the arrival, in milliseconds, of sound users' calls that were stored while all was fine.
    pub latencies: Vec<u32>,
    /// Longest wait of a sound user's call that was stored before all was fine, from then on.
    pub longest_after_trouble: Duration,
}

/// Of calls.
#[derive(Debug, Default)]
pub struct Counts {
    pub posted: u64,
    pub stored: u64,
    pub turned_away: u64,
    /// Of these, sound users' calls while all was fine.
    pub turned_away_sound: u64,
    pub arrived: u64,
    pub repeated: u64,
    pub refused: u64,
    pub gave_up: u64,
}

#[derive(Default)]
struct UserAccount {
    /// Of the next round of calls; those of one round are posted at once.
    next: u64,
    /// By messageId.
    open: HashMap<String, OpenCall>,
    /// The latest round of which a call arrived, and that of the last arrival: they differ while calls are repeated.
    latest: u64,
    last: u64,
}

#[derive(Default)]
struct OpenCall {
    stored_at: Option<Instant>,
    /// An attempt had no answer, so it may be stored.
    is_unsure: bool,
    arrived_at: Option<Instant>,
}

impl Account {
    /// Notes that a round of calls is about to be posted, and returns its number.
    pub fn open_round(&mut self, user: &str, ids: impl Fn(u64) -> Vec<String>) -> (u64, Vec<String>) {
        let account = self.users.entry(user.to_owned()).or_default();
        let (round, ids) = (account.next, ids(account.next));
        account.next += 1;
        for id in &ids {
            account.open.insert(id.clone(), OpenCall::default());
        }
        self.counts.posted += ids.len() as u64;
        (round, ids)
    }

    /// Notes an answer, or that there was none. Returns whether the call is to be posted again.
    pub fn answered(&mut self, user: &str, id: &str, answer: Option<&Answer>) -> bool {
        let at = Instant::now();
        let is_fine = self.fine_since.is_some();
        // A dead letter's repeat: its call was settled before.
        let Some(call) = self.users.get_mut(user).and_then(|account| account.open.get_mut(id)) else { return false };
        match answer {
            Some(answer) if answer.is_stored() => {
                if answer.message_id() != id {
                    self.problems.push(format!("{id} was stored as {}", answer.message_id()));
                }
                self.counts.stored += 1;
                call.stored_at = Some(at);
                if let Some(arrived_at) = call.arrived_at {
                    self.forget(user, id, arrived_at);
                }
                false
            }
            Some(answer) if answer.status == 503 && !call.is_unsure => {
                if call.arrived_at.is_some() {
                    self.problem(format!("{id} arrived and was answered {answer:?}"));
                }
                self.counts.turned_away += 1;
                self.counts.turned_away_sound += u64::from(is_fine && is_sound(user) && answer.code() == "overloaded");
                self.users.get_mut(user).map(|account| account.open.remove(id));
                self.turned_away.insert(id.to_owned());
                false
            }
            Some(answer) if answer.status == 422 && answer.is_replayed() => {
                // It is a dead letter, which is read elsewhere.
                call.is_unsure = true;
                false
            }
            None => {
                call.is_unsure = true;
                true
            }
            Some(answer) if [503, 504].contains(&answer.status) => {
                call.is_unsure = true;
                true
            }
            Some(answer) => {
                self.problem(format!("{id}: {answer:?}"));
                false
            }
        }
    }

    /// Notes what arrived, in order.
    pub fn arrived(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            let Arrival { at, user, number: round, message_id: id } = arrival;
            let Some(account) = self.users.get_mut(&user).filter(|account| round < account.next) else {
                self.problem(format!("{id} of {user} was never posted"));
                continue;
            };
            let first = account.open.get_mut(&id).filter(|call| call.arrived_at.is_none());
            let (latest, is_first) = (account.latest, first.is_some());
            if let Some(call) = first {
                (call.arrived_at, account.latest) = (Some(at), latest.max(round));
            }
            account.last = round;
            let is_stored = account.open.get(&id).is_some_and(|call| call.stored_at.is_some());
            if is_first && round < latest {
                self.problem(format!("{id} arrived after a call of round {latest}"));
            }
            if self.turned_away.contains(&id) {
                self.problem(format!("{id} arrived, and was said not to be stored"));
            }
            self.counts.arrived += u64::from(is_first);
            self.counts.repeated += u64::from(!is_first);
            if is_first && is_stored {
                self.forget(&user, &id, at);
            }
        }
    }

    /// Notes dead letters.
    pub fn buried(&mut self, letters: &[Value]) {
        for letter in letters {
            let [id, user, trouble] = [&letter["messageId"], &letter["userId"], &letter["call"]["traits"]["trouble"]]
                .map(|value| value.as_str().unwrap_or_default());
            let why = letter["why"].as_str().unwrap_or("refused");
            if !Trouble::of(trouble).is_some_and(|trouble| trouble.allows(why)) {
                self.problem(format!("{id} with trouble {trouble} is a dead letter: {why}, {}", letter["status"]));
            }
            match self.users.get_mut(user) {
                Some(account) => drop(account.open.remove(id)),
                None => self.problem(format!("{id} of {user} is a dead letter and was never posted")),
            }
            match why {
                "gave_up" => self.counts.gave_up += 1,
                _ => self.counts.refused += 1,
            }
        }
    }

    /// Notes from when on Segment accepts what is sound while the relay is up, or that it does not.
    pub fn set_fine(&mut self, since: Option<Instant>) {
        self.fine_since = since;
    }

    /// The calls that are owed and have not arrived.
    pub fn owed(&self) -> impl Iterator<Item = &String> {
        let open = self.users.values().flat_map(|account| &account.open);
        open.filter(|(_, call)| call.stored_at.is_some() && call.arrived_at.is_none()).map(|(id, _)| id)
    }

    /// What is wrong when all is over.
    pub fn close(&mut self) {
        let missing: Vec<_> = self.owed().take(5).cloned().collect();
        if !missing.is_empty() {
            self.problem(format!("{} calls are lost: {missing:?} ...", self.owed().count()));
        }
        let old_on_top: Vec<_> = self
            .users
            .iter()
            .filter(|(_, account)| account.last < account.latest)
            .map(|(user, _)| user.clone())
            .collect();
        if !old_on_top.is_empty() {
            self.problem(format!("an older call was the last to arrive of {old_on_top:?}"));
        }
    }

    fn forget(&mut self, user: &str, id: &str, arrived_at: Instant) {
        let call = self.users.get_mut(user).and_then(|account| account.open.remove(id));
        let (Some(stored_at), Some(fine_since)) = (call.and_then(|call| call.stored_at), self.fine_since) else {
            return;
        };
        if !is_sound(user) {
            return;
        }
        if stored_at >= fine_since {
            let waited = arrived_at.saturating_duration_since(stored_at);
            self.latencies.push(waited.as_millis().try_into().unwrap_or(u32::MAX));
        } else {
            let waited = arrived_at.saturating_duration_since(fine_since);
            self.longest_after_trouble = self.longest_after_trouble.max(waited);
        }
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            println!("PROBLEM: {problem}");
            self.problems.push(problem);
        }
    }
}

/// Whether none of the user's calls is ever in trouble, and there are few of them.
fn is_sound(user: &str) -> bool {
    user.starts_with("sound-")
}
