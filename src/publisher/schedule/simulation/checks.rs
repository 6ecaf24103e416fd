//! What must hold at every moment, and what a call is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Simulation;
use super::sources::Source;
use crate::segment::Call;

impl Simulation {
    pub(super) fn call(&self, id: i64, user: usize) -> Call {
        let mut json = vec![b' '; self.plan.size.max(8)];
        json[..8].copy_from_slice(&id.to_le_bytes());
        Call::from_wire(self.names[user].clone(), self.source(id).name.as_deref().map(Arc::from), Bytes::from(json))
    }

    pub(super) fn source(&self, id: i64) -> &Source {
        &self.plan.sources[self.log.calls[usize::try_from(id).unwrap()].source]
    }

    /// A call is sent with the write key of its source, and only if that is configured.
    pub(super) fn check_key(&self, id: i64, key: &str) {
        let source = self.source(id);
        let is_right = source.key == key && source.configured_at <= self.now;
        assert!(is_right, "at {:?}: a call of {source:?} is sent with {key}", self.now);
    }

    /// In a second there start at most as many requests as the pace allows, and one.
    pub(super) fn note_start(&mut self) {
        self.recent_starts.push_back(self.now);
        while self.recent_starts.front().is_some_and(|at| *at + Duration::from_secs(1) <= self.now) {
            self.recent_starts.pop_front();
        }
        let most = self.plan.requests_per_second as usize + 1;
        assert!(self.recent_starts.len() <= most, "{} starts in a second", self.recent_starts.len());
    }

    pub(super) fn note_gate(&mut self) {
        let is_shut = self.schedule.trouble.shut_until().is_some();
        match self.log.shut_since {
            None if is_shut => self.log.shut_since = Some(self.now),
            Some(since) if !is_shut => {
                self.log.shut.push((since, self.now));
                self.log.shut_since = None;
            }
            _ => {}
        }
        let refused: BTreeMap<String, Duration> =
            self.schedule.keys.refused().map(|(_, key)| (key.secret.reveal().to_owned(), self.now)).collect();
        let before = std::mem::take(&mut self.log.refused_since);
        for (key, since) in before {
            if refused.contains_key(&key) {
                self.log.refused_since.insert(key, since);
            } else {
                self.log.refused.push((key, since, self.now));
            }
        }
        for (key, at) in refused {
            self.log.refused_since.entry(key).or_insert(at);
        }
    }
}
