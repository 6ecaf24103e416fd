//! What must be true of a store after its disk failed: every confirmed change is there, no refused change is there, an
//! unconfirmed change may be there or not, and nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::SqliteOutbox;
use crate::outbox::suite::{
    Inspect, accepted, append, call, group, in_a_minute, keyed, letters, parked, refused, sized,
};
use crate::outbox::{DeadLetter, DeadLetters, Events, KeptEvent, Outbox, OutboxError, ParkedUsers};

/// Where a call can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Location {
    Waiting,
    DeadLetter,
    /// Never stored, or accepted.
    Absent,
}

#[derive(Clone, Debug, Default)]
struct ExpectedCall {
    /// Where it may be.
    locations: BTreeSet<Location>,
    /// Whether its key must be known; `None` if that is uncertain.
    is_key_known: Option<bool>,
}

/// The expected calls by number, which is their key too.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    calls: BTreeMap<u8, ExpectedCall>,
    /// Of each of these all or none are there, for as long as nothing else is done with them.
    groups: Vec<Range<u8>>,
    /// Whether any change was unconfirmed: the store must have ended then.
    pub(super) has_unconfirmed: bool,
}

impl Oracle {
    /// Notes the answer to a change that moves a call to `location`.
    fn answered<T>(&mut self, n: u8, location: Location, result: &Result<T, OutboxError>) {
        let call = self.calls.entry(n).or_default();
        match result {
            Ok(_) => call.locations = [location].into(),
            Err(OutboxError::Unconfirmed) => {
                call.locations.insert(location);
                self.has_unconfirmed = true;
            }
            Err(OutboxError::Full | OutboxError::Closed) => {}
            Err(error) => panic!("{error:?} for call {n}"),
        }
    }

    pub(super) fn appended<T>(&mut self, n: u8, result: &Result<T, OutboxError>) {
        self.calls.insert(n, ExpectedCall { locations: [Location::Absent].into(), is_key_known: Some(false) });
        self.answered(n, Location::Waiting, result);
        let is_unconfirmed = matches!(result, Err(OutboxError::Unconfirmed));
        self.calls.entry(n).or_default().is_key_known = (!is_unconfirmed).then_some(result.is_ok());
    }

    /// An append was requested and not answered yet.
    pub(super) fn appending(&mut self, n: u8) {
        self.calls
            .insert(n, ExpectedCall { locations: [Location::Absent, Location::Waiting].into(), is_key_known: None });
    }

    /// A settlement of a waiting call was requested and not answered yet.
    pub(super) fn settling(&mut self, n: u8) {
        self.calls.entry(n).or_default().locations.extend([Location::Absent, Location::DeadLetter]);
    }

    pub(super) async fn append(&mut self, store: &SqliteOutbox, n: u8, size: usize) {
        let result = append(store, keyed(sized("u", &n.to_string(), size), n, n)).await;
        self.appended(n, &result);
    }

    /// Stores calls of a source, all or none.
    pub(super) async fn append_group(&mut self, store: &SqliteOutbox, numbers: Range<u8>) {
        let of_shop = |n: u8| sized("g", &n.to_string(), 2_000).of_source(Some("shop".into()));
        let calls = numbers.clone().map(|n| keyed(of_shop(n), n, n)).collect();
        let result = group(store, calls, true).await;
        numbers.clone().for_each(|n| self.appended(n, &result));
        self.groups.push(numbers);
    }

    /// Calls of a group, or events, were asked for and not answered yet.
    pub(super) fn asking(&mut self, numbers: Range<u8>, location: Location) {
        for n in numbers.clone() {
            let locations = [Location::Absent, location].into();
            self.calls.insert(n, ExpectedCall { locations, is_key_known: None });
        }
        self.groups.push(numbers);
    }

    /// Keeps an event whose body is the number.
    pub(super) async fn keep(&mut self, store: &SqliteOutbox, n: u8) {
        // Not the key of any call.
        let mut key = [0xee; 16];
        key[0] = n;
        let event = KeptEvent {
            source: "shop".into(),
            headers: vec![("x-n".to_owned(), vec![n; 100])],
            body: n.to_string().into(),
            received_at: 1,
            reason: "words".to_owned(),
            key: Some(key),
        };
        let result = store.keep(event, in_a_minute()).await;
        self.calls.insert(n, ExpectedCall { locations: [Location::Absent].into(), is_key_known: None });
        self.answered(n, Location::DeadLetter, &result);
    }

    /// Replaces an event by a call.
    pub(super) async fn replace(&mut self, store: &SqliteOutbox, n: u8) {
        let Ok(letters) = letters(store).await else { return };
        let Some(letter) = letters.iter().find(|letter| number_of(letter) == n) else { return };
        let result = store.replace(letter.id, vec![keyed(call("g", &n.to_string()), n, n)]).await;
        self.answered(n, Location::Waiting, &result);
    }

    /// Settles a waiting call; does nothing if it cannot be found.
    pub(super) async fn settle(&mut self, store: &SqliteOutbox, n: u8, accept: bool) {
        let Ok(calls) = store.inspect().await else { return };
        let Some(stored) = calls.iter().find(|stored| number(stored.call.json()) == n) else { return };
        let delivered = if accept { accepted(stored.id) } else { refused(stored.id, "words") };
        let result = store.settle(vec![delivered].into()).await;
        self.answered(n, if accept { Location::Absent } else { Location::DeadLetter }, &result);
    }

    /// Takes what is next, and parks a waiting call.
    pub(super) async fn park(&mut self, store: &SqliteOutbox, n: u8) {
        let Ok(calls) = store.inspect().await else { return };
        let Some(stored) = calls.iter().find(|stored| number(stored.call.json()) == n) else { return };
        // There may be nothing: then it is dropped.
        let mut next = store.next(usize::MAX);
        let _ = futures_util::poll!(&mut next);
        let result = store.settle(vec![parked(stored.id)].into()).await;
        self.answered(n, Location::Waiting, &result);
    }

    /// Gives up the first call of a parked user, which is not out.
    pub(super) async fn give_up(&mut self, store: &SqliteOutbox, n: u8) {
        let Ok(users) = ParkedUsers::list(store, 1000, None, None).await else { return };
        let Some(user) = users.iter().find(|user| user.message_id == n.to_string()) else { return };
        let result = store.give_up(user.id).await;
        let _ = store.next_parked(1, true).await;
        if result != Ok(false) {
            self.answered(n, Location::DeadLetter, &result);
        }
    }

    pub(super) async fn replay(&mut self, store: &SqliteOutbox, n: u8) {
        let Ok(letters) = letters(store).await else { return };
        let Some(letter) = letters.iter().find(|letter| letter.message_id == Some(n.to_string())) else { return };
        let result = store.replay(vec![letter.id]).await;
        self.answered(n, Location::Waiting, &result);
    }

    pub(super) async fn replay_all(&mut self, store: &SqliteOutbox) {
        let Ok(letters) = letters(store).await else { return };
        let result = store.replay(letters.iter().rev().map(|letter| letter.id).collect()).await;
        for letter in letters {
            // An event stays.
            if letter.event.is_none() {
                self.answered(number_of(&letter), Location::Waiting, &result);
            }
        }
    }

    /// Compares a store, opened on a disk that works, with what is expected.
    ///
    /// # Errors
    /// The first difference.
    pub(super) async fn check(&self, store: &SqliteOutbox) -> Result<(), String> {
        let mut found: BTreeMap<u8, Location> = BTreeMap::new();
        let all = store.inspect().await.map_err(|error| error.to_string())?;
        if store.stats().waiting != all.len() as u64 {
            return Err("the count of waiting calls is wrong".to_owned());
        }
        let all = all.into_iter().map(|stored| (number(stored.call.json()), Location::Waiting));
        let letters = letters(store).await.map_err(|error| error.to_string())?;
        if store.stats().dead_letters != letters.len() as u64 {
            return Err("the count of dead letters is wrong".to_owned());
        }
        let letters = letters.iter().map(|letter| (number_of(letter), Location::DeadLetter));
        for (n, location) in all.chain(letters) {
            if !self.calls.contains_key(&n) || found.insert(n, location).is_some() {
                return Err(format!("call {n} was never appended, or is there twice"));
            }
        }
        for (n, call) in &self.calls {
            let location = found.get(n).unwrap_or(&Location::Absent);
            if !call.locations.contains(location) {
                return Err(format!("call {n} is {location:?}, and may be {:?}", call.locations));
            }
        }
        for group in &self.groups {
            let there = group.clone().filter(|n| found.contains_key(n)).count();
            if there > 0 && there < group.len() {
                return Err(format!("{there} calls of the group {group:?} are there"));
            }
        }
        for (n, call_) in &self.calls {
            let replayed = append(store, keyed(call("u", &n.to_string()), *n, *n)).await;
            let replayed = replayed.map_err(|error| error.to_string())?.replayed;
            if call_.is_key_known.is_some_and(|known| known != replayed) {
                return Err(format!("the key of call {n} is known: {replayed}"));
            }
        }
        Ok(())
    }
}

/// The number of a dead letter's call, or of its event.
fn number_of(letter: &DeadLetter) -> u8 {
    let event = letter.event.as_ref().and_then(|event| event.event.as_ref());
    letter.message_id.as_ref().or(event).unwrap().parse().unwrap()
}

/// Reads a call's number from its JSON.
fn number(json: &[u8]) -> u8 {
    serde_json::from_slice::<serde_json::Value>(json).unwrap()["messageId"].as_str().unwrap().parse().unwrap()
}
