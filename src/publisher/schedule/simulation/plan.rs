//! What is played, and what happened.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::segment::{Kind, Phase};
use super::sources::Source;
use crate::config::{Secret, WriteKeys};
use crate::segment::ErrorCode;

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) requests_per_second: u32,
    pub(super) slots: usize,
    pub(super) latency: Duration,
    /// The kinds of users, and how many there are of each.
    pub(super) users: Vec<(Kind, usize)>,
    /// By which sources the calls come: those of a user by one of them, or by any if `is_mixed`.
    pub(super) sources: Vec<Source>,
    pub(super) is_mixed: bool,
    /// Calls a second of all users together.
    pub(super) calls_per_second: u32,
    /// Bytes of a call.
    pub(super) size: usize,
    /// When the last call comes.
    pub(super) until: Duration,
    /// When the users in trouble are healed.
    pub(super) healed_at: Duration,
    pub(super) phases: Vec<Phase>,
    /// When the process is killed and started again.
    pub(super) restarts: Vec<Duration>,
    /// When the fence's time is over, and after how long the store is told, and may open it again if it has all calls.
    pub(super) fences: Vec<(Duration, Duration)>,
    /// Whether callers wait, for so long. Otherwise calls are stored.
    pub(super) patience: Option<Duration>,
}

impl Plan {
    pub(super) fn write_keys(&self, now: Duration) -> WriteKeys {
        let configured = self.sources.iter().filter(|source| source.configured_at <= now);
        configured.fold(WriteKeys::new(Secret::new("wk")), |keys, source| match &source.name {
            Some(name) => keys.with_source((&**name).into(), Some(Secret::new(&source.key))),
            None => keys,
        })
    }

    /// By which source a call of this user comes.
    pub(super) fn source_of(&self, user: usize, random: &mut fastrand::Rng) -> usize {
        if !self.is_mixed {
            return user % self.sources.len();
        }
        let mut at = random.usize(0..self.sources.iter().map(|source| source.share).sum());
        let is_it = |source: &Source| match at.checked_sub(source.share) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        };
        self.sources.iter().position(is_it).unwrap()
    }

    /// Whether Segment refuses this key.
    pub(super) fn is_refused(&self, key: &str, now: Duration) -> bool {
        self.sources.iter().any(|source| source.key == key && source.is_refused(now))
    }
}

/// A call, and what became of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) user: usize,
    pub(super) source: usize,
    pub(super) arrived: Duration,
    pub(super) end: Option<(Duration, End)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Accepted,
    Refused,
    /// The caller heard of a failure.
    Told(ErrorCode),
    /// The caller's deadline passed.
    Left,
}

pub(super) struct Sent {
    pub(super) at: Duration,
    pub(super) users: Vec<usize>,
    pub(super) is_probe: bool,
    pub(super) key: String,
}

/// What happened.
#[derive(Default)]
pub(super) struct Log {
    pub(super) calls: Vec<Record>,
    pub(super) sent: Vec<Sent>,
    /// When the gate was shut, and until when.
    pub(super) shut: Vec<(Duration, Duration)>,
    pub(super) shut_since: Option<Duration>,
    /// When a write key was taken for refused, and until when.
    pub(super) refused: Vec<(String, Duration, Duration)>,
    pub(super) refused_since: BTreeMap<String, Duration>,
    /// Stored calls that were parked.
    pub(super) parked: HashSet<i64>,
    /// Requests that were not started because the fence was shut, and calls that went back to the store.
    pub(super) held: usize,
    pub(super) taken_back: usize,
}
