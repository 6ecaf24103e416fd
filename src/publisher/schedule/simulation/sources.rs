//! Sources with write keys of their own, which Segment refuses for a while, or which are configured late.

use std::time::Duration;

use super::plan::Plan;
use crate::config::{Secret, WriteKeys};

#[derive(Clone, Debug)]
pub(super) struct Source {
    /// `None`: `POST /customers`.
    pub(super) name: Option<String>,
    pub(super) key: String,
    /// How many times as many calls as another one's, if users have calls of any source.
    pub(super) share: usize,
    /// When Segment refuses the key.
    pub(super) refused: Option<(Duration, Duration)>,
    /// When the source is configured.
    pub(super) configured_at: Duration,
}

impl Source {
    pub(super) fn customers() -> Self {
        Self { name: None, key: "wk".to_owned(), share: 1, refused: None, configured_at: Duration::ZERO }
    }

    pub(super) fn new(name: &str) -> Self {
        Self { name: Some(name.to_owned()), key: format!("key-of-{name}"), ..Self::customers() }
    }

    pub(super) fn is_refused(&self, at: Duration) -> bool {
        self.refused.is_some_and(|(from, until)| (from..until).contains(&at))
    }

    /// Whether its calls must wait at some time.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.refused.is_some() || !self.configured_at.is_zero()
    }
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
