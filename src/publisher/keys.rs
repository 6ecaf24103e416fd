//! The write keys: which one a call is sent with, and what is known about each. Pure.
//!
//! A request holds calls of one write key. Segment may refuse the credentials of one key and accept those of another, so each key
//! has evidence of its own for that. With a single key there is nothing to tell apart: then all evidence is in one place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::trouble::{Gate, Trouble, is_proxys};
use crate::config::{Secret, WriteKeys};
use crate::segment::{Call, ErrorCode, MIN_RETRY_AFTER, SegmentError};

/// A write key. Sources with the same text share one; a text keeps its number as long as it is in use, and no number is used
/// twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyId(u32);

#[cfg(test)]
impl KeyId {
    /// That of `POST /customers`, as long as it was never replaced.
    pub(super) const DEFAULT: Self = Self(0);
}

/// Which calls have which write key.
#[derive(Default)]
pub(super) struct KeyOfCalls {
    /// Of `POST /customers`.
    default: KeyId,
    of_sources: HashMap<Arc<str>, KeyId>,
}

impl KeyOfCalls {
    /// `None`: the source of the call is not configured, so nothing may send it.
    pub(super) fn of(&self, call: &Call) -> Option<KeyId> {
        call.source().map_or(Some(self.default), |name| self.of_sources.get(name).copied())
    }
}

/// A write key in use.
pub(super) struct Key {
    pub(super) secret: Secret,
    /// Whether Segment refuses it, and who was asked. With a single key nothing is noted here.
    pub(super) trouble: Trouble,
}

pub(super) struct Keys {
    keys: BTreeMap<KeyId, Key>,
    next: u32,
}

impl Keys {
    pub(super) fn new(write_keys: &WriteKeys) -> (Self, KeyOfCalls) {
        let mut keys = Self { keys: BTreeMap::new(), next: 0 };
        let of_calls = keys.replace(write_keys);
        (keys, of_calls)
    }

    /// Uses these keys from now on. What is known about a key that stays is kept.
    pub(super) fn replace(&mut self, write_keys: &WriteKeys) -> KeyOfCalls {
        let mut before = std::mem::take(&mut self.keys);
        let default = self.keep(&mut before, write_keys.default_key());
        let of_sources =
            write_keys.of_sources().map(|(name, secret)| (name.clone(), self.keep(&mut before, secret))).collect();
        for (id, key) in &mut self.keys {
            let names = write_keys.of_sources().filter(|(_, secret)| **secret == key.secret).map(|(name, _)| &**name);
            let customers = (*id == default).then_some("POST /customers");
            key.trouble.name_sources(customers.into_iter().chain(names).map(str::to_owned).collect());
        }
        before.values_mut().for_each(|key| key.trouble.log_replaced());
        if let (1, Some(key)) = (self.keys.len(), self.keys.values_mut().next()) {
            // From now on nothing is noted here, so nothing would open its gate.
            key.trouble.log_replaced();
            key.trouble = Trouble::default();
        }
        KeyOfCalls { default, of_sources }
    }

    fn keep(&mut self, before: &mut BTreeMap<KeyId, Key>, secret: &Secret) -> KeyId {
        let id_of = |keys: &BTreeMap<KeyId, Key>| keys.iter().find(|(_, key)| key.secret == *secret).map(|(id, _)| *id);
        if let Some(id) = id_of(&self.keys) {
            return id;
        }
        let kept = id_of(before).and_then(|id| before.remove_entry(&id));
        let (id, key) = kept.unwrap_or_else(|| {
            self.next += 1;
            (KeyId(self.next - 1), Key { secret: secret.clone(), trouble: Trouble::default() })
        });
        self.keys.insert(id, key);
        id
    }

    pub(super) fn get(&self, id: KeyId) -> Option<&Key> {
        self.keys.get(&id)
    }

    pub(super) fn has_many(&self) -> bool {
        self.keys.len() > 1
    }

    /// What is known about this key alone. `None`: it is the only one, or it is not in use any more.
    pub(super) fn trouble(&mut self, id: KeyId) -> Option<&mut Trouble> {
        if self.has_many() { self.keys.get_mut(&id).map(|key| &mut key.trouble) } else { None }
    }

    /// Whether a failure is evidence about the key alone: its credentials are refused, and not by a proxy.
    pub(super) fn concerns_key(&self, error: &SegmentError) -> bool {
        self.has_many() && error.code == ErrorCode::Unauthorized && !is_proxys(error)
    }

    /// Whether calls of this key may be sent.
    pub(super) fn is_open(&self, id: KeyId) -> bool {
        self.keys.get(&id).is_some_and(|key| key.trouble.shut_until().is_none())
    }

    /// Whether a call of this key may ask whether an outage is over.
    pub(super) fn may_ask(&self, id: KeyId, now: Instant) -> bool {
        self.keys.get(&id).is_some_and(|key| matches!(key.trouble.gate(now), Gate::Open | Gate::ProbeDue))
    }

    /// A request that may be a probe is sent with calls of this user. True if it is one: Segment refuses the key so far.
    pub(super) fn probe_sent(&mut self, id: KeyId, user_id: &Arc<str>) -> bool {
        let is_probe = !self.is_open(id);
        if let Some(key) = self.keys.get_mut(&id).filter(|_| is_probe) {
            key.trouble.probe_sent(user_id);
        }
        is_probe
    }

    /// The keys that Segment refuses.
    pub(super) fn refused(&self) -> impl Iterator<Item = (KeyId, &Key)> {
        self.keys.iter().filter(|(_, key)| key.trouble.shut_until().is_some()).map(|(id, key)| (*id, key))
    }
}

/// What a caller hears whose source is not configured any more, and the reason of a stored call.
pub(super) fn not_configured() -> SegmentError {
    SegmentError::new(ErrorCode::Overloaded, "the source is not configured").retry_after(MIN_RETRY_AFTER)
}
