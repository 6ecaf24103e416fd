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
use super::pace::{Pace, RequestClass};
use super::queue::{Queue, Taken, UserId};
use super::trouble::{Gate, Trouble};
use crate::metrics::Metrics;
use crate::segment::{ErrorCode, MIN_RETRY_AFTER, SegmentError};

/// Each class of calls in trouble may hold one part in this many of the slots: such calls may hang, each until its timeout. So a
/// quarter is left to first attempts.
const TROUBLED_SLOTS_DIVISOR: usize = 4;

/// Interval at which calls in trouble are dropped whose callers have left. A user's next call waits at most this much longer.
const ABANDONED_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// All calls in memory, and what is known about Segment.
pub(super) struct Schedule {
    pub(super) queue: Queue,
    pub(super) trouble: Trouble,
    pub(super) pace: Pace,
    pub(super) slots: usize,
    /// Requests in flight by class, in the order of [`CLASSES`].
    pub(super) in_flight: [usize; CLASSES.len()],
    next_check: Option<Instant>,
    /// Whether nothing was there to send: a new call is news then.
    is_idle: bool,
    pub(super) metrics: Arc<Metrics>,
}

const CLASSES: [RequestClass; 4] =
    [RequestClass::Group, RequestClass::First, RequestClass::Suspect, RequestClass::Parked];

/// A request to Segment.
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) class: RequestClass,
    pub(super) is_probe: bool,
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
    pub(super) fn new(slots: NonZeroUsize, requests_per_second: NonZeroU32, metrics: Arc<Metrics>) -> Self {
        Self {
            queue: Queue::default(),
            trouble: Trouble::default(),
            pace: Pace::new(requests_per_second),
            slots: slots.get(),
            in_flight: [0; CLASSES.len()],
            next_check: None,
            is_idle: false,
            metrics,
        }
    }

    /// Puts a call in line. True if whoever waits for [`next`](Self::next) must ask again.
    ///
    /// # Errors
    /// If there is no room, or if the caller must not wait for the end of an outage.
    pub(super) fn push(&mut self, pending: PendingCall) -> Result<bool, SegmentError> {
        if let Some(error) = self.error_at_once(&pending) {
            return Err(error);
        }
        self.queue.push(pending).map_err(|_pending| {
            SegmentError::new(ErrorCode::Overloaded, "too many calls wait for Segment; this one was not sent")
                .retry_after(MIN_RETRY_AFTER)
        })?;
        Ok(std::mem::take(&mut self.is_idle))
    }

    /// Room for more calls of the outbox, in bytes of their JSON. `None` if the largest call would not fit.
    pub(super) fn room(&self) -> Option<usize> {
        self.queue.memory.room(self.trouble.shut_until().is_some())
    }

    /// What a caller hears at once while the gate is shut.
    fn error_at_once(&self, pending: &PendingCall) -> Option<SegmentError> {
        let deadline = pending.completion.deadline()?;
        let (until, error) = self.trouble.shut_until()?;
        // One caller whose user was not asked yet waits, to be the next probe.
        let is_told = deadline <= until
            || self.trouble.is_ours() && (self.trouble.was_asked(pending.call.user_id()) || self.queue.has_first());
        is_told.then(|| error.clone().retry_after(until.saturating_duration_since(Instant::now())))
    }

    /// What to do now. A request that is returned counts as in flight until [`answered`](Self::answered).
    pub(super) fn next(&mut self, now: Instant) -> Step {
        self.drop_abandoned(now);
        self.queue.end_pauses_due(now);
        loop {
            let gate = self.trouble.gate(now);
            let (has_slot, class) = match gate {
                Gate::Open => (self.has_slot(), self.turn(now)),
                Gate::ProbeDue => (self.in_flight() < self.slots, self.probe_class(now)),
                Gate::ShutUntil(_) | Gate::Probing => (true, None),
            };
            let Some(class) = class.filter(|_| has_slot) else {
                self.pace.set_idle();
                self.is_idle = has_slot && matches!(gate, Gate::Open | Gate::ProbeDue);
                let gate_opens = if let Gate::ShutUntil(at) = gate { Some(at) } else { None };
                return Step::Wait([gate_opens, self.next_check, self.queue.next_due(now)].into_iter().flatten().min());
            };
            let start = self.pace.start_at(now);
            if start > now {
                return Step::Wait(Some(start));
            }
            if let Some(request) = self.take(class, gate == Gate::ProbeDue, now) {
                self.pace.start(start);
                self.in_flight[class as usize] += 1;
                return Step::Send(request);
            }
        }
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
            RequestClass::First => self.queue.has_first(),
            RequestClass::Suspect => has_slot(class) && self.queue.has_suspect(now),
            RequestClass::Parked => has_slot(class) && self.queue.has_parked(),
        };
        let waiting: Vec<RequestClass> = CLASSES.into_iter().filter(|class| waits(*class)).collect();
        self.pace.turn(&waiting)
    }

    fn probe_class(&self, now: Instant) -> Option<RequestClass> {
        let has_first = self.queue.has_first() || !self.queue.groups.is_empty();
        let has_any = has_first || self.queue.has_suspect(now) || self.queue.has_parked();
        has_any.then_some(RequestClass::First)
    }

    /// Takes the calls of the next request. `None` if all their callers have left.
    fn take(&mut self, class: RequestClass, is_probe: bool, now: Instant) -> Option<Request> {
        let size = self.trouble.group_size();
        let (mut rest, mut is_search) = (Vec::new(), false);
        let Taken { batch, withdrawn, .. } = match class {
            _ if is_probe => self.queue.take_probe(|user_id| self.trouble.was_asked(user_id)),
            RequestClass::Group => {
                let (taken, others) = self.queue.take_group();
                (rest, is_search) = (others, true);
                taken
            }
            RequestClass::First => self.queue.take_first(size),
            RequestClass::Suspect => self.queue.take_suspect(),
            RequestClass::Parked => self.queue.take_parked(),
        };
        self.metrics.calls_withdrawn.inc_by(withdrawn as u64);
        if batch.is_empty() {
            self.queue.put_in_company(rest);
            return None;
        }
        if is_probe && let Some(first) = batch.iter().next() {
            self.trouble.probe_sent(first.call.user_id());
        }
        Some(Request { batch, class, is_probe, rest, is_search, started: now })
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
            if is_unknown { &self.metrics.calls_unknown } else { &self.metrics.calls_failed }.inc();
        }
    }
}

#[cfg(test)]
mod tests;
