//! Which calls go to Segment when. Nothing here waits or sends. Time is an argument, but for the `Retry-After` of a call that is
//! not taken.
//!
//! [`Schedule::next`] says what to send now, or until when to wait. [`Schedule::answered`] takes the answer to a request, and
//! settles its calls or puts them back in line (`answer`). `dispatch` runs the requests.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, PendingCall};
use super::keys::{KeyId, Keys, not_configured};
use super::pace::{Pace, RequestClass};
use super::queue::{Queue, Taken, UserId};
use super::trouble::{Gate, Trouble};
use crate::config::{Secret, WriteKeys};
use crate::metrics::Metrics;
use crate::segment::{ErrorCode, MIN_RETRY_AFTER, SegmentError, SendFence};

/// Each class of calls in trouble may hold one part in this many of the slots: such calls may hang, each until its timeout. So a
/// quarter is left to first attempts.
const TROUBLED_SLOTS_DIVISOR: usize = 4;

/// Interval at which calls in trouble are dropped whose callers have left. A user's next call waits at most this much longer.
const ABANDONED_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// All calls in memory, and what is known about Segment.
pub(super) struct Schedule {
    pub(super) queue: Queue,
    pub(super) trouble: Trouble,
    pub(super) keys: Keys,
    pub(super) pace: Pace,
    pub(super) slots: usize,
    /// Requests in flight by class, in the order of [`CLASSES`].
    pub(super) in_flight: [usize; CLASSES.len()],
    next_check: Option<Instant>,
    /// Whether nothing was there to send: a new call is news then.
    is_idle: bool,
    /// What lets stored calls be sent, if several relays have one outbox.
    fence: Option<Arc<SendFence>>,
    pub(super) metrics: Arc<Metrics>,
}

const CLASSES: [RequestClass; 4] =
    [RequestClass::Group, RequestClass::First, RequestClass::Suspect, RequestClass::Parked];

/// A request to Segment.
pub(super) struct Request {
    pub(super) batch: Batch,
    /// That of all calls in the batch.
    pub(super) key: KeyId,
    pub(super) write_key: Secret,
    pub(super) class: RequestClass,
    pub(super) is_probe: bool,
    /// It asks whether Segment accepts the write key.
    pub(super) is_key_probe: bool,
    /// The other half of a group that holds a culprit: its users wait for the answer to this half.
    pub(super) rest: Vec<UserId>,
    /// Whether the calls are a part of such a group.
    pub(super) is_search: bool,
    pub(super) started: Instant,
}

pub(super) enum Step {
    Send(Request),
    /// Nothing can be sent before this time, or before something changes.
    Wait(Option<Instant>),
}

impl Schedule {
    pub(super) fn new(
        slots: NonZeroUsize,
        requests_per_second: NonZeroU32,
        write_keys: &WriteKeys,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut queue = Queue::default();
        let keys;
        (keys, queue.key_of_calls) = Keys::new(write_keys);
        Self {
            queue,
            trouble: Trouble::default(),
            keys,
            pace: Pace::new(requests_per_second),
            slots: slots.get(),
            in_flight: [0; CLASSES.len()],
            next_check: None,
            is_idle: false,
            fence: None,
            metrics,
        }
    }

    /// Requests that are formed from now on have these keys.
    pub(super) fn replace_keys(&mut self, write_keys: &WriteKeys) {
        let key_of_calls = self.keys.replace(write_keys);
        self.queue.replace_keys(key_of_calls);
    }

    /// Puts a call in line. True if whoever waits for [`next`](Self::next) must ask again.
    ///
    /// # Errors
    /// If there is no room, or if the caller must not wait for the end of an outage.
    pub(super) fn push(&mut self, pending: PendingCall) -> Result<bool, SegmentError> {
        self.look_at_fence();
        if let Some(error) = self.error_at_once(&pending) {
            return Err(error);
        }
        if !self.queue.push(pending) {
            let message = "too many calls wait for Segment; this one was not sent";
            return Err(SegmentError::new(ErrorCode::Overloaded, message).retry_after(MIN_RETRY_AFTER));
        }
        Ok(std::mem::take(&mut self.is_idle))
    }

    /// Room for more calls of the outbox, in bytes of their JSON. `None` if the largest call would not fit.
    pub(super) fn room(&self) -> Option<usize> {
        self.queue.memory.room(self.trouble.shut_until().is_some())
    }

    /// What a caller hears at once while the gate is shut, or while Segment refuses the write key.
    fn error_at_once(&self, pending: &PendingCall) -> Option<SegmentError> {
        let deadline = pending.completion.deadline()?;
        let user_id = pending.call.user_id();
        let error = |trouble: &Trouble, has_first: bool| {
            let (until, error) = trouble.shut_until()?;
            // One caller whose user was not asked yet waits, to be the next probe.
            let is_told = deadline <= until || trouble.is_ours() && (trouble.was_asked(user_id) || has_first);
            is_told.then(|| error.clone().retry_after(until.saturating_duration_since(Instant::now())))
        };
        let Some(key) = self.queue.key_of_calls.of(&pending.call) else { return Some(not_configured()) };
        let has_first = || self.queue.next_key(|key| self.keys.is_open(key)).is_some();
        let of_key = self.keys.get(key).and_then(|of| error(&of.trouble, self.queue.has_line(key)));
        of_key.or_else(|| error(&self.trouble, self.trouble.is_ours() && has_first()))
    }

    /// What to do now. A request that is returned counts as in flight until [`answered`](Self::answered).
    pub(super) fn next(&mut self, now: Instant) -> Step {
        self.look_at_fence();
        self.drop_abandoned(now);
        self.queue.end_pauses_due(now);
        loop {
            self.return_held_back(now);
            let gate = self.trouble.gate(now);
            let key_probe = if gate == Gate::Open { self.key_to_ask(now) } else { None };
            let (has_slot, class) = match gate {
                Gate::Open if key_probe.is_some() => (self.has_slot(), Some(RequestClass::First)),
                Gate::Open => (self.has_slot(), self.turn(now)),
                Gate::ProbeDue => (self.in_flight() < self.slots, self.probe_class(now)),
                Gate::ShutUntil(_) | Gate::Probing => (true, None),
            };
            let Some(class) = class.filter(|_| has_slot) else {
                self.pace.set_idle();
                self.is_idle = has_slot && matches!(gate, Gate::Open | Gate::ProbeDue);
                let gate_opens = if let Gate::ShutUntil(at) = gate { Some(at) } else { None };
                let times = [gate_opens, self.next_check, self.queue.next_due(now), self.next_key_probe(now)];
                return Step::Wait(times.into_iter().flatten().min());
            };
            let start = self.pace.start_at(now);
            if start > now {
                return Step::Wait(Some(start));
            }
            let request = match key_probe {
                Some(key) => self.take_key_probe(key, now),
                None => self.take(class, gate == Gate::ProbeDue, now),
            };
            if let Some(request) = request {
                self.pace.start(start);
                self.in_flight[class as usize] += 1;
                return Step::Send(request);
            }
        }
    }

    /// A request of this class is in flight no more.
    pub(super) fn has_left_flight(&mut self, class: RequestClass) {
        let in_flight = &mut self.in_flight[class as usize];
        *in_flight = in_flight.saturating_sub(1);
    }

    fn in_flight(&self) -> usize {
        self.in_flight.iter().sum()
    }

    fn has_slot(&self) -> bool {
        self.in_flight() < self.trouble.at_once(self.slots)
    }

    /// The class of the next request, if there is anything to send.
    fn turn(&self, now: Instant) -> Option<RequestClass> {
        let most = (self.slots / TROUBLED_SLOTS_DIVISOR).max(1);
        let has_slot = |class| self.in_flight[class as usize] < most;
        let waits = |class| match class {
            RequestClass::Group => has_slot(class) && !self.queue.groups.is_empty(),
            RequestClass::First => self.queue.next_key(|key| self.keys.is_open(key)).is_some(),
            RequestClass::Suspect => has_slot(class) && self.queue.has_suspect(now),
            RequestClass::Parked => has_slot(class) && self.queue.has_parked(),
        };
        let waiting: Vec<RequestClass> = CLASSES.into_iter().filter(|class| waits(*class)).collect();
        self.pace.turn(&waiting)
    }

    fn probe_class(&self, now: Instant) -> Option<RequestClass> {
        let has_first =
            self.queue.next_key(|key| self.keys.may_ask(key, now)).is_some() || !self.queue.groups.is_empty();
        let has_any = has_first || self.queue.has_suspect(now) || self.queue.has_parked();
        has_any.then_some(RequestClass::First)
    }

    /// Takes the calls of the next request. `None` if none of those who were looked at can be sent.
    fn take(&mut self, class: RequestClass, is_probe: bool, now: Instant) -> Option<Request> {
        let Self { queue, keys, trouble, .. } = self;
        let is_open = |key| keys.is_open(key);
        let (mut rest, mut is_search) = (Vec::new(), false);
        let taken = match class {
            _ if is_probe => queue.take_probe(|key| keys.may_ask(key, now), |user_id| trouble.was_asked(user_id)),
            RequestClass::Group => {
                let (taken, others) = queue.take_group(is_open);
                (rest, is_search) = (others, true);
                taken
            }
            RequestClass::First => {
                let key = queue.next_key(is_open)?;
                let size = keys.get(key).map_or(usize::MAX, |key| key.trouble.group_size());
                queue.take_first(key, size.min(trouble.group_size()))
            }
            RequestClass::Suspect => queue.take_suspect(is_open),
            RequestClass::Parked => queue.take_parked(is_open),
        };
        let Some(mut request) = self.request(taken, class, now) else {
            self.queue.put_in_company(rest);
            return None;
        };
        if is_probe && let Some(first) = request.batch.iter().next() {
            self.trouble.probe_sent(first.call.user_id());
            request.is_key_probe = self.keys.probe_sent(request.key, first.call.user_id());
        }
        Some(Request { is_probe, rest, is_search, ..request })
    }

    /// Takes a call of this key to ask whether Segment accepts it.
    fn take_key_probe(&mut self, key: KeyId, now: Instant) -> Option<Request> {
        let trouble = &self.keys.get(key)?.trouble;
        let taken = self.queue.take_key_probe(key, |user_id| trouble.was_asked(user_id));
        let mut request = self.request(taken, RequestClass::First, now)?;
        if let Some(first) = request.batch.iter().next() {
            request.is_key_probe = self.keys.probe_sent(key, first.call.user_id());
        }
        Some(request)
    }

    /// A request with these calls, unless all their callers have left.
    fn request(&self, taken: Taken, class: RequestClass, now: Instant) -> Option<Request> {
        self.metrics.calls_withdrawn.inc_by(taken.withdrawn as u64);
        let key = taken.key.filter(|_| !taken.batch.is_empty())?;
        // The lines hold users of keys in use alone.
        let write_key = self.keys.get(key)?.secret.clone();
        let (is_probe, is_key_probe, is_search, rest) = (false, false, false, Vec::new());
        Some(Request {
            batch: taken.batch,
            key,
            write_key,
            class,
            is_probe,
            is_key_probe,
            rest,
            is_search,
            started: now,
        })
    }

    /// Drops calls in trouble whose callers have left, so that their users' later calls need not wait for the end of a pause.
    fn drop_abandoned(&mut self, now: Instant) {
        let is_in_trouble = self.queue.has_callers && self.queue.has_pauses();
        if !is_in_trouble {
            self.next_check = None;
        } else if self.next_check.is_none_or(|at| at <= now) {
            if self.next_check.is_some() {
                let left = self.queue.extract_if(|_, pending| pending.completion.is_abandoned());
                self.metrics.calls_withdrawn.inc_by(left.len() as u64);
                self.queue.release_relieved();
            }
            self.next_check = Some(now + ABANDONED_CHECK_INTERVAL);
        }
    }

    /// Gives calls up: each caller hears `error`, or that the outcome is unknown.
    pub(super) fn give_up(&self, calls: Vec<PendingCall>, error: &SegmentError) {
        if !calls.is_empty() {
            tracing::debug!(calls = calls.len(), code = error.code.as_str(), "calls given up");
        }
        for mut pending in calls {
            let is_unknown = pending.completion.give_up(error);
            pending.span.end(if is_unknown { "unknown" } else { "failed" });
            if is_unknown { &self.metrics.calls_unknown } else { &self.metrics.calls_failed }.inc();
        }
    }
}

mod fenced;
mod held_back;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
