//! What must be true of a store whose disk failed: everything that was confirmed is there, nothing that was refused is,
//! what was left unsaid may be either, and nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};

use super::SqliteOutbox;
use crate::outbox::suite::{accepted, append, call, everybody, keyed, refused};
use crate::outbox::{DeadLetters, Outbox, OutboxError};

/// Where a call can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Waiting,
    Letter,
    /// It was never stored, or was accepted.
    Nowhere,
}

#[derive(Clone, Debug, Default)]
struct Call {
    /// Where it may be.
    places: BTreeSet<Place>,
    /// Whether its key is known, if that is certain.
    known: Option<bool>,
}

/// Calls by their number, which is their key as well.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    calls: BTreeMap<u8, Call>,
    /// Whether anything was left unsaid: the store must have ended then.
    pub(super) unsaid: bool,
}

impl Oracle {
    fn heard<T>(&mut self, n: u8, place: Place, result: &Result<T, OutboxError>) {
        let call = self.calls.entry(n).or_default();
        match result {
            Ok(_) => call.places = [place].into(),
            Err(OutboxError::Unconfirmed) => {
                call.places.insert(place);
                self.unsaid = true;
            }
            Err(OutboxError::Full | OutboxError::Closed) => {}
            Err(error) => panic!("{error:?} for call {n}"),
        }
    }

    pub(super) fn appended<T>(&mut self, n: u8, result: &Result<T, OutboxError>) {
        self.calls.insert(n, Call { places: [Place::Nowhere].into(), known: Some(false) });
        self.heard(n, Place::Waiting, result);
        let unsaid = matches!(result, Err(OutboxError::Unconfirmed));
        self.calls.entry(n).or_default().known = (!unsaid).then_some(result.is_ok());
    }

    /// A call was handed over, and nobody was told yet what became of it.
    pub(super) fn asked(&mut self, n: u8) {
        self.calls.insert(n, Call { places: [Place::Nowhere, Place::Waiting].into(), known: None });
    }

    /// A call that waits is being settled.
    pub(super) fn settling(&mut self, n: u8) {
        self.calls.entry(n).or_default().places.extend([Place::Nowhere, Place::Letter]);
    }

    pub(super) async fn append(&mut self, store: &SqliteOutbox, n: u8, size: usize) {
        let sized = crate::outbox::suite::sized("u", &n.to_string(), size);
        let result = append(store, keyed(sized, n, n)).await;
        self.appended(n, &result);
    }

    /// Settles a call that waits; nothing if it cannot be found.
    pub(super) async fn settle(&mut self, store: &SqliteOutbox, n: u8, accept: bool) {
        let Ok(page) = store.page(0, everybody(), usize::MAX).await else { return };
        let Some(stored) = page.calls.iter().find(|stored| number(stored.call.json()) == n) else { return };
        let delivered = if accept { accepted(stored.id) } else { refused(stored.id, "words") };
        let result = store.settle(vec![delivered].into()).await;
        self.heard(n, if accept { Place::Nowhere } else { Place::Letter }, &result);
    }

    pub(super) async fn replay(&mut self, store: &SqliteOutbox, n: u8) {
        let Ok(letters) = store.list(1000, None).await else { return };
        let Some(letter) = letters.iter().find(|letter| letter.message_id == n.to_string()) else { return };
        let result = store.replay(letter.id).await;
        self.heard(n, Place::Waiting, &result);
    }

    pub(super) async fn replay_all(&mut self, store: &SqliteOutbox) {
        let Ok(letters) = store.list(1000, None).await else { return };
        let result = store.replay_all().await;
        for letter in letters {
            self.heard(letter.message_id.parse().unwrap(), Place::Waiting, &result);
        }
    }

    /// Holds a store, opened on a sound disk, against what was said.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) async fn check(&self, store: &SqliteOutbox) -> Result<(), String> {
        let mut found: BTreeMap<u8, Place> = BTreeMap::new();
        // Few enough for one page.
        let all = store.page(0, everybody(), usize::MAX).await.map_err(|error| error.to_string())?.calls;
        if store.contents().waiting != all.len() as u64 {
            return Err("the count of waiting calls is wrong".to_owned());
        }
        let all = all.into_iter().map(|stored| (number(stored.call.json()), Place::Waiting));
        let letters = store.list(1000, None).await.map_err(|error| error.to_string())?;
        if store.contents().dead_letters != letters.len() as u64 {
            return Err("the count of dead letters is wrong".to_owned());
        }
        let letters = letters.into_iter().map(|letter| (letter.message_id.parse().unwrap(), Place::Letter));
        for (n, place) in all.chain(letters) {
            if !self.calls.contains_key(&n) || found.insert(n, place).is_some() {
                return Err(format!("call {n} was made up, or is there twice"));
            }
        }
        for (n, call) in &self.calls {
            let place = found.get(n).unwrap_or(&Place::Nowhere);
            if !call.places.contains(place) {
                return Err(format!("call {n} is {place:?}, and may be {:?}", call.places));
            }
        }
        for (n, call_) in &self.calls {
            let replayed = append(store, keyed(call("u", &n.to_string()), *n, *n)).await;
            let replayed = replayed.map_err(|error| error.to_string())?.replayed;
            if call_.known.is_some_and(|known| known != replayed) {
                return Err(format!("the key of call {n} is known: {replayed}"));
            }
        }
        Ok(())
    }
}

/// A call's number, from its JSON.
fn number(json: &[u8]) -> u8 {
    serde_json::from_slice::<serde_json::Value>(json).unwrap()["messageId"].as_str().unwrap().parse().unwrap()
}
