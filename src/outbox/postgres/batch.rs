//! The requests whose calls are stored by one statement, and their results.

use std::collections::HashMap;

use super::counts::Counts;
use super::figures::{Allowance, BySource};
use super::keys::{Digest, KnownKey};
use super::queue::Request;
use super::rows::{Entry, StoredGroup};
use super::shared::Shared;
use super::watch::watch;
use crate::metrics::Metrics;
use crate::outbox::limits::row_bytes;
use crate::outbox::{Appended, CallId, OutboxError};

/// Requests that are answered together.
pub(super) struct Batch {
    requests: Vec<Request>,
    /// The error of each request that failed as a whole.
    errors: Vec<Option<OutboxError>>,
    /// Their calls, in order.
    entries: Vec<Entry>,
    has_stored: bool,
}

/// What is known after the statement.
pub(super) struct Known {
    pub(super) group: StoredGroup,
    /// The keys of the calls that it did not store now.
    pub(super) keys: HashMap<Digest, KnownKey>,
}

impl Batch {
    pub(super) fn new(mut requests: Vec<Request>) -> Self {
        let mut entries = Vec::new();
        for (number, request) in requests.iter_mut().enumerate() {
            let appends = std::mem::take(&mut request.appends);
            entries.extend(appends.into_iter().map(|append| Entry::new(append, number)));
        }
        Self { errors: vec![None; requests.len()], requests, entries, has_stored: false }
    }

    fn is_open(errors: &[Option<OutboxError>], entry: &Entry) -> bool {
        entry.result.is_none() && errors.get(entry.request).is_some_and(Option::is_none)
    }

    /// The calls without a result.
    pub(super) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| Self::is_open(&self.errors, entry))
    }

    pub(super) fn has_open(&self) -> bool {
        self.open().next().is_some()
    }

    fn is_whole(&self, entry: &Entry) -> bool {
        self.requests.get(entry.request).is_some_and(|request| request.is_all_or_nothing)
    }

    /// Whether an all-or-nothing request may fail by the key of one of its calls after others of them were stored.
    pub(super) fn needs_check(&self) -> bool {
        let mut calls = vec![0_usize; self.requests.len()];
        for entry in self.open().filter(|entry| self.is_whole(entry)) {
            if let Some(calls) = calls.get_mut(entry.request) {
                *calls += 1;
            }
        }
        self.open().any(|entry| entry.key.is_some() && calls.get(entry.request).is_some_and(|calls| *calls > 1))
    }

    /// The calls that were not looked at before and for which there is no room, by their number.
    pub(super) fn refused(&mut self, allowance: &mut Allowance<'_>) -> Vec<(usize, OutboxError)> {
        let mut refused = Vec::new();
        for (number, entry) in self.entries.iter_mut().enumerate() {
            if entry.is_allowed || !Self::is_open(&self.errors, entry) {
                continue;
            }
            entry.is_allowed = true;
            match allowance.error(&entry.append.call, &entry.user_key) {
                Some(error) => refused.push((number, error)),
                None => allowance.take(&entry.append.call),
            }
        }
        refused
    }

    /// The keys that say what becomes of these calls, and of the others of a request that would fail with them.
    pub(super) fn keys_of_refused(&self, refused: &[(usize, OutboxError)]) -> Vec<Digest> {
        let mut is_wanted = vec![false; self.requests.len()];
        let mut keys = Vec::new();
        for entry in refused.iter().filter_map(|(number, _)| self.entries.get(*number)) {
            match is_wanted.get_mut(entry.request) {
                Some(is_wanted) if self.is_whole(entry) => *is_wanted = true,
                _ => keys.extend(entry.key.map(|key| key.key)),
            }
        }
        let whole = self.open().filter(|entry| is_wanted.get(entry.request).is_some_and(|is_wanted| *is_wanted));
        keys.extend(whole.filter_map(|entry| entry.key.map(|key| key.key)));
        keys
    }

    /// Gives these calls their errors, but for those whose keys are known: they are repeats, and the statement will not store them.
    pub(super) fn refuse(
        &mut self,
        refused: &[(usize, OutboxError)],
        known: &HashMap<Digest, KnownKey>,
        metrics: &Metrics,
    ) {
        let known_of = |entry: &Entry| entry.key.and_then(|key| Some((key, known.get(&key.key)?)));
        for (number, error) in refused {
            let Some(entry) = self.entries.get(*number) else { continue };
            if known_of(entry).is_some() {
                continue;
            }
            match error {
                OutboxError::UserShare => metrics.share_exhausted_user.inc(),
                OutboxError::ParkedShare => metrics.share_exhausted_parked.inc(),
                OutboxError::SourceShare => metrics.share_exhausted_source.inc(),
                _ => {}
            }
            let (request, is_whole) = (entry.request, self.is_whole(entry));
            // Trying again does not help against a reused key, so this is the error before any other.
            let is_reused = |entry: &Entry| known_of(entry).is_some_and(|(key, known)| key.body != known.body);
            let mut others = self.entries.iter().filter(|other| other.request == request);
            let error = if is_whole && others.any(is_reused) { OutboxError::KeyReused } else { *error };
            if is_whole {
                self.fail_request(request, error);
            } else if let Some(entry) = self.entries.get_mut(*number) {
                entry.result = Some(Err(error));
            }
        }
    }

    fn fail_request(&mut self, request: usize, error: OutboxError) {
        if let Some(before) = self.errors.get_mut(request) {
            before.get_or_insert(error);
        }
    }

    /// Gives the calls without a result this error.
    pub(super) fn fail(&mut self, error: OutboxError) {
        let open: Vec<usize> = self.open().map(|entry| entry.request).collect();
        for request in open {
            if self.requests.get(request).is_some_and(|request| request.is_all_or_nothing) {
                self.fail_request(request, error);
            }
        }
        for entry in self.entries.iter_mut().filter(|entry| Self::is_open(&self.errors, entry)) {
            entry.result = Some(Err(error));
        }
    }

    /// The open calls with the ids that the group has for them.
    fn with_ids(&self, first: CallId) -> impl Iterator<Item = (CallId, &Entry)> {
        (first + 1..).zip(self.open())
    }

    /// The keys of the calls that the statement did not store now.
    pub(super) fn keys_not_stored(&self, group: &StoredGroup) -> Vec<Digest> {
        let not_stored = self.with_ids(group.first).filter(|(id, _)| !group.has_stored(*id));
        not_stored.filter_map(|(_, entry)| entry.key.map(|key| key.key)).collect()
    }

    /// Gives the all-or-nothing requests their error that reuse a key. False if there is nothing against a commit.
    pub(super) fn fail_whole_requests(&mut self, known: &Known) -> bool {
        let (mut failed, mut is_undone) = (Vec::new(), false);
        for (id, entry) in self.with_ids(known.group.first) {
            let Some(key) = entry.key.filter(|_| self.is_whole(entry) && !known.group.has_stored(id)) else { continue };
            match known.keys.get(&key.key) {
                Some(known) if known.body != key.body => failed.push(entry.request),
                Some(_) => {}
                // It was forgotten just now: the call is to be stored with the others.
                None => is_undone = true,
            }
        }
        is_undone |= !failed.is_empty();
        failed.into_iter().for_each(|request| self.fail_request(request, OutboxError::KeyReused));
        is_undone
    }

    /// Gives the open calls their results after the commit. A call whose key was forgotten meanwhile stays open.
    pub(super) fn note_stored(&mut self, n: i64, mut known: Known, shared: &Shared) {
        let (mut id, mut last_id, mut stored) = (known.group.first, None, 0);
        let mut added = BySource::new();
        for entry in self.entries.iter_mut().filter(|entry| Self::is_open(&self.errors, entry)) {
            id += 1;
            let is_stored = known.group.has_stored(id)
                || entry.key.is_none()
                || entry.key.and_then(|key| known.keys.get(&key.key)).is_some_and(|known| known.call_id == id);
            if is_stored {
                let call = &entry.append.call;
                let counts = Counts {
                    waiting: 1,
                    waiting_bytes: row_bytes(call.json().len() as u64).cast_signed(),
                    keys: entry.key.is_some().into(),
                    ..Counts::default()
                };
                *added.entry(call.source().cloned()).or_default() += counts;
                (stored, last_id) = (stored + 1, Some(id));
                let outcome = entry.key.filter(|_| entry.append.watch).map(|key| watch(shared, id, key.key, None));
                entry.result = Some(Ok(Appended { replayed: false, outcome }));
            } else if let Some(key) = entry.key {
                entry.result = match known.keys.get_mut(&key.key) {
                    Some(known) if known.body != key.body => Some(Err(OutboxError::KeyReused)),
                    Some(known) => Some(Ok(repeat(shared, entry.append.watch, key.key, known))),
                    None if known.group.is_new => None,
                    // An earlier attempt stored it, or found its key.
                    None => Some(Err(OutboxError::Unconfirmed)),
                };
            }
        }
        shared.metrics.outbox_stored.inc_by(stored);
        self.has_stored |= stored > 0;
        let mut figures = shared.figures.lock();
        figures.note_group(n, added);
        last_id.into_iter().for_each(|id| figures.note_id(id));
    }

    /// Answers the requests.
    pub(super) fn answer(self, shared: &Shared) {
        if self.has_stored {
            shared.wake.notify_one();
        }
        let mut results: Vec<Vec<_>> = self.requests.iter().map(|_| Vec::new()).collect();
        for entry in self.entries {
            if let Some(results) = results.get_mut(entry.request) {
                results.push(entry.result.unwrap_or(Err(OutboxError::Unconfirmed)));
            }
        }
        for ((request, error), results) in self.requests.into_iter().zip(self.errors).zip(results) {
            request.answer(error.map_or(Ok(results), Err));
        }
    }
}

/// The result for a request whose key is known. Every caller is told of a dead letter; only those who wait are told of anything else.
pub(super) fn repeat(shared: &Shared, watches: bool, key: Digest, known: &KnownKey) -> Appended {
    let is_told = watches || known.is_dead_letter;
    let outcome = is_told.then(|| watch(shared, known.call_id, key, known.outcome.clone()));
    Appended { replayed: true, outcome }
}
