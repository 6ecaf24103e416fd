//! What the answer to a request leads to: its calls are settled, given up, parked, or back in line. Time is an argument.
//!
//! Invariants: a call leaves only by being settled, given up or parked. A user's outcomes are reported in the order of the
//! calls, before the user's next call can be sent. A caller who cannot wait for the next attempt gets its error at once.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, PendingCall};
use super::keys::KeyId;
use super::lines::End;
use super::pace::RequestClass;
use super::queue::{Standing, Suspect, UserId};
use super::retry::{self, ResponseClass};
use super::schedule::{Request, Schedule};
use super::trouble::{self, FailedRequest};
use crate::segment::{CallOutcome, ErrorCode, MIN_RETRY_AFTER, Refusal, SegmentError, Trouble};

/// Failures on its own, while others are accepted, after which a stored call is parked: one may be chance.
const FAILURES_OF_A_PARKED_CALL: u32 = 2;

/// The users who paused come back at random times within this period after an outage, not all at once.
const RECOVERY_SPREAD: Duration = Duration::from_secs(1);

/// For how long an acceptance shows that others are accepted while a parked call fails: as long as the longest pause of a parked
/// call, but for its jitter, so that on a quiet relay its failures count, too.
const PARKED_ACCEPTANCE_WINDOW: Duration = Duration::from_secs(300);

/// How a request failed.
struct Failed {
    error: SegmentError,
    /// The pause that the answer names.
    named: Option<Duration>,
    /// Whether later attempts are counted anew.
    restarts: bool,
    /// The write key that it is evidence about, and about nothing else.
    of_key: Option<KeyId>,
}

impl Schedule {
    /// Takes the answer to a request.
    pub(super) fn answered(&mut self, mut request: Request, class: ResponseClass, now: Instant) {
        self.has_left_flight(request.class);
        self.look_at_fence();
        if class != ResponseClass::Accepted {
            // Nothing is known about the other half of the group.
            self.queue.put_in_company(std::mem::take(&mut request.rest));
        }
        let of_key = match &class {
            ResponseClass::ConfigurationError(error) if self.keys.concerns_key(error) => Some(request.key),
            _ => None,
        };
        if class != ResponseClass::Accepted {
            self.note_answer(&request, of_key, now);
        }
        match class {
            ResponseClass::Accepted => self.accepted(request, now),
            ResponseClass::Refused { error, status } => self.refused(request, error, status, now),
            ResponseClass::Retryable { error, retry_after, outcome_unknown } => {
                if outcome_unknown {
                    request.batch.iter().for_each(|pending| pending.completion.mark_unknown());
                }
                let named = retry::usable_retry_after(retry_after);
                self.failed(request, Failed { error, named, restarts: false, of_key }, now);
            }
            ResponseClass::RetriesExhausted { error, pause } => {
                self.failed(request, Failed { error, named: Some(pause), restarts: true, of_key }, now);
            }
            ResponseClass::ConfigurationError(error) => {
                self.failed(request, Failed { error, named: None, restarts: false, of_key }, now);
            }
            ResponseClass::RateLimited { error, retry_after } => self.rate_limited(request, &error, retry_after, now),
        }
    }

    /// A probe has an answer that is no evidence about what it asked for.
    fn note_answer(&mut self, request: &Request, of_key: Option<KeyId>, now: Instant) {
        match self.keys.trouble(request.key) {
            Some(trouble) if of_key.is_none() => trouble.refused(request.is_key_probe, now),
            _ => {}
        }
        if of_key.is_some() {
            // Segment answers.
            self.trouble.refused(request.is_probe, now);
        }
    }

    /// What is known about what a failure is evidence of.
    fn evidence(&mut self, of_key: Option<KeyId>) -> &mut trouble::Trouble {
        of_key.and_then(|key| self.keys.trouble(key)).unwrap_or(&mut self.trouble)
    }

    fn accepted(&mut self, request: Request, now: Instant) {
        let calls = request.batch.len();
        self.metrics.calls_accepted.inc_by(calls as u64);
        if let Some(trouble) = self.keys.trouble(request.key) {
            trouble.accepted(calls, request.is_key_probe, self.slots, now);
        }
        let is_open = self.trouble.accepted(calls, request.is_probe, self.slots, now);
        let users = users_of(&request.batch);
        users.iter().take(1).for_each(|user_id| self.queue.note_accepted(user_id));
        for mut pending in request.batch.into_calls() {
            pending.completion.settle(&Ok(()));
            pending.span.end("accepted");
            self.queue.forget(&pending);
        }
        for user_id in users {
            match self.queue.failed_in_company(&user_id) {
                0 => self.queue.release(&user_id, Standing::Accepted),
                // The first half of the user's calls is accepted: the culprit is in the other half.
                _ if request.is_search && request.rest.is_empty() => self.queue.groups.push_front(vec![user_id]),
                _ => self.queue.enter(user_id, End::Returning),
            }
        }
        if !request.rest.is_empty() {
            self.queue.groups.push_front(request.rest);
        }
        self.queue.end_pauses(now, is_open.then_some(RECOVERY_SPREAD));
    }

    /// Segment refused the request for good: a single call is refused, several are split.
    fn refused(&mut self, request: Request, error: SegmentError, status: u16, now: Instant) {
        request.batch.mark_not_accepted();
        self.trouble.refused(request.is_probe, now);
        if request.class == RequestClass::First {
            self.trouble.culprit_found();
        }
        if request.batch.len() > 1 {
            return self.split(request);
        }
        self.metrics.calls_refused.inc();
        for mut pending in request.batch.into_calls() {
            let refusal = Refusal { status, reason: error.message.clone(), attempts: pending.attempts };
            pending.completion.settle(&Err(refusal));
            pending.span.end("refused");
            self.queue.forget(&pending);
            self.queue.release(pending.call.user_id(), Standing::Sound);
        }
    }

    fn rate_limited(&mut self, request: Request, error: &SegmentError, named: Option<Duration>, now: Instant) {
        request.batch.mark_not_accepted();
        self.trouble.rate_limited(error, named, request.is_probe, now);
        // Nobody is at fault: the users go first again when the gate opens.
        let users = users_of(&request.batch);
        let is_parked = request.batch.iter().all(|pending| pending.is_parked);
        self.queue.give_back(request.batch.into_calls());
        for user_id in users.into_iter().rev() {
            if is_parked {
                self.park(&user_id, &trouble_of(error, false));
            } else {
                self.queue.put_first(user_id, now);
            }
        }
        self.shut(now);
    }

    fn failed(&mut self, mut request: Request, failed: Failed, now: Instant) {
        request.batch.mark_not_accepted();
        let of_key = failed.of_key;
        if of_key.is_some() && self.keys.trouble(request.key).is_none() {
            return self.put_in_line(request.batch);
        }
        let started = request.started;
        let is_probe = if of_key.is_some() { request.is_key_probe } else { request.is_probe };
        let is_evidence = request.batch.iter().any(|pending| !pending.has_failed_alone);
        let is_parked = request.batch.iter().all(|pending| pending.is_parked);
        let evidence = self.evidence(of_key);
        let was_shut = evidence.shut_until().is_some();
        // Half of a group that holds a culprit fails at least every second time.
        let least = if request.is_search { 0.5 } else { 0.0 };
        let chance = evidence.chance_to_fail(request.batch.len()).max(least);
        let error = &failed.error;
        evidence.failed(&FailedRequest { error, started, is_probe, is_evidence, is_parked, chance }, now);
        if request.class == RequestClass::First && !was_shut {
            evidence.culprit_suspected();
        }
        let is_own = evidence.others_are_accepted(started);
        let is_perhaps_theirs = is_own || evidence.is_unjudged();
        let is_key_refused = of_key.is_some() && evidence.shut_until().is_some();
        let accepted_lately = evidence.are_accepted_within(PARKED_ACCEPTANCE_WINDOW, now);
        let is_alone = request.batch.len() == 1;
        let is_ours = matches!(failed.error.code, ErrorCode::Unauthorized | ErrorCode::Misconfigured);
        if is_ours && !(is_perhaps_theirs && users_of(&request.batch).len() > 1) {
            // Callers hear of wrong credentials and a wrong address at once. Stored calls wait for the operator.
            let told = request.batch.extract_callers(|_| true);
            self.give_up_sent(told, &failed.error);
        }
        if request.batch.is_empty() {
            // All callers were told.
        } else if is_parked {
            let users = users_of(&request.batch);
            self.put_back(request.batch, false);
            users.iter().for_each(|user_id| self.park(user_id, &trouble_of(&failed.error, accepted_lately)));
        } else if is_key_refused {
            self.put_in_line(request.batch);
        } else if is_alone {
            self.failed_alone(request, &failed, is_own, now);
        } else if is_own {
            self.split(request);
        } else {
            self.pause(request, &failed, now);
        }
        if of_key.is_none() && (is_probe || !was_shut) {
            self.shut(now);
        }
    }

    /// The calls of a batch wait in line again, and nobody is at fault: the write key is, or another one is in use by now.
    fn put_in_line(&mut self, batch: Batch) {
        let users = users_of(&batch);
        self.put_back(batch, false);
        for user_id in users {
            if self.queue.set_standing(&user_id, Standing::Sound) {
                self.queue.enter(user_id, End::Returning);
            }
        }
    }

    /// Splits a batch that holds a culprit.
    fn split(&mut self, request: Request) {
        let users = users_of(&request.batch);
        tracing::debug!(calls = request.batch.len(), users = users.len(), "batch split");
        let counts = counts(&request.batch);
        // The parts are new requests, so their retry counts start at 0.
        self.put_back(request.batch, true);
        let mut group = Vec::new();
        for (user_id, calls) in users.into_iter().zip(counts) {
            if self.queue.set_standing(&user_id, Standing::InCompany(calls)) {
                group.push(user_id);
            }
        }
        if !group.is_empty() {
            self.queue.groups.push_back(group);
        }
    }

    /// Puts the calls of a batch aside until its pause ends. Nobody is at fault so far.
    fn pause(&mut self, mut request: Request, failed: &Failed, now: Instant) {
        let failures = self.evidence(failed.of_key).failed_in_a_row();
        let backoff = retry::backoff(failures, request.batch.time_left(now), fastrand::f64());
        let Some(pause) = failed.named.or(backoff) else {
            let told = request.batch.extract_callers(|_| true);
            return self.give_up_sent(told, &failed.error.clone().retry_after(MIN_RETRY_AFTER));
        };
        let until = now + pause;
        tracing::debug!(calls = request.batch.len(), seconds = pause.as_secs_f64(), "batch paused");
        let told = request.batch.extract_callers(|pending| pending.completion.expires_by(until));
        self.give_up_sent(told, &failed.error.clone().retry_after(pause));
        let (users, counts) = (users_of(&request.batch), counts(&request.batch));
        self.put_back(request.batch, failed.restarts);
        for (user_id, calls) in users.into_iter().zip(counts) {
            if self.queue.set_standing(&user_id, Standing::InCompany(calls)) {
                let due = self.queue.due(until);
                self.queue.paused.insert(due, user_id);
            }
        }
    }

    /// A request with a single call failed.
    fn failed_alone(&mut self, mut request: Request, failed: &Failed, is_own: bool, now: Instant) {
        let Some(user_id) = users_of(&request.batch).pop() else { return };
        let mut suspect =
            self.queue.suspect(&user_id).unwrap_or(Suspect { first_failed: now, failures: 0, own_failures: 0 });
        let is_own = is_own || self.evidence(failed.of_key).others_are_accepted(suspect.first_failed);
        suspect.failures = suspect.failures.saturating_add(1);
        if is_own {
            suspect.own_failures += 1;
        }
        let backoff = retry::backoff(suspect.failures, request.batch.time_left(now), fastrand::f64());
        // Others are accepted, so nobody waits for the pause that the answer names.
        let Some(pause) = failed.named.filter(|_| !is_own).or(backoff) else {
            let told = request.batch.extract_callers(|_| true);
            return self.give_up_sent(told, &failed.error.clone().retry_after(MIN_RETRY_AFTER));
        };
        let until = now + pause;
        tracing::debug!(calls = request.batch.len(), seconds = pause.as_secs_f64(), "batch paused");
        let told = request.batch.extract_callers(|pending| pending.completion.expires_by(until));
        self.give_up_sent(told, &failed.error.clone().retry_after(pause));
        if request.batch.is_empty() {
            return;
        }
        let is_stored = request.batch.iter().any(|pending| pending.completion.is_stored());
        self.put_back(request.batch, failed.restarts);
        if !self.queue.set_standing(&user_id, Standing::Suspect(suspect)) {
            return;
        }
        let is_stuck = suspect.own_failures >= FAILURES_OF_A_PARKED_CALL || self.queue.memory.has_too_many_suspects();
        if is_stored && is_stuck {
            return self.park(&user_id, &trouble_of(&failed.error, is_own));
        }
        let due = self.queue.due(until);
        let line = if failed.named.is_some() && !is_own { &mut self.queue.paused } else { &mut self.queue.suspects };
        line.insert(due, user_id);
    }

    /// Gives a user's stored calls back to the store, the first one as parked.
    pub(super) fn park(&mut self, user_id: &UserId, trouble: &Trouble) {
        if self.queue.key_of_first(user_id).is_none() {
            // The calls have left: the store would not confirm that the user is parked.
            return self.queue.release(user_id, Standing::Sound);
        }
        for (index, mut pending) in self.queue.park(user_id).into_iter().enumerate() {
            pending.span.end("parked");
            let outcome = if index == 0 {
                CallOutcome::Parked(Trouble { attempts: pending.attempts, ..trouble.clone() })
            } else {
                CallOutcome::Behind
            };
            pending.completion.leave(outcome);
        }
    }

    /// The calls of a failed request go back in front of their users' others.
    fn put_back(&mut self, batch: Batch, restarts: bool) {
        let is_alone = batch.len() == 1;
        let mut calls = batch.into_calls();
        for pending in &mut calls {
            pending.retries = if restarts { 0 } else { pending.retries.saturating_add(1) };
            self.queue.memory.mark_failed(pending, is_alone);
        }
        self.queue.give_back(calls);
    }

    /// Tells callers whose calls were in a request, and lets their users go on.
    fn give_up_sent(&mut self, calls: Vec<PendingCall>, error: &SegmentError) {
        calls.iter().for_each(|pending| self.queue.forget(pending));
        let mut users: Vec<UserId> = calls.iter().map(|pending| pending.call.user_id().clone()).collect();
        users.dedup();
        users.iter().for_each(|user_id| self.queue.release(user_id, Standing::Sound));
        self.give_up(calls, error);
    }

    /// The gate was shut, or stays so for longer: groups are no longer searched, and callers who cannot wait are told.
    fn shut(&mut self, now: Instant) {
        let Some((until, error)) = self.trouble.shut_until() else { return };
        let error = error.clone().retry_after(until.saturating_duration_since(now));
        self.queue.dissolve_groups();
        if !self.queue.has_callers {
            return;
        }
        // Trouble with the credentials or the address is told to all but one, who is asked next.
        let is_ours = self.trouble.is_ours();
        let kept = self.queue.first_unasked(|user_id| self.trouble.was_asked(user_id));
        let told = self.queue.extract_if(|user_id, pending| {
            pending.completion.expires_by(until)
                || is_ours && !pending.completion.is_stored() && kept.as_ref() != Some(user_id)
        });
        self.give_up(told, &error);
    }
}

/// The users of a batch, in the order of their first calls: a user's calls are next to each other.
pub(super) fn users_of(batch: &Batch) -> Vec<UserId> {
    let mut users: Vec<UserId> = batch.iter().map(|pending| pending.call.user_id().clone()).collect();
    users.dedup();
    users
}

/// The number of calls of each of these users.
fn counts(batch: &Batch) -> Vec<usize> {
    let users: Vec<&UserId> = batch.iter().map(|pending| pending.call.user_id()).collect();
    users.chunk_by(|one, next| one == next).map(<[_]>::len).collect()
}

pub(super) fn trouble_of(error: &SegmentError, is_own: bool) -> Trouble {
    Trouble { status: error.status(), reason: error.message.clone(), attempts: 0, is_own }
}
