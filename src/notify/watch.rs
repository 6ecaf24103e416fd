//! What is to be told: a state machine over the figures of each second. Pure: the figures and the time are arguments.
//!
//! A state (an outage, parked users, a half full outbox) is told when it differs from what was told last. If a notice of its kind
//! was sent shortly before, it is told later, if it is still so. What is counted (dead letters, restarts) is told when there is
//! more of it, with all that was not told yet. The state at the start counts as told.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::notice::{Kind, Notice, rfc3339};

/// For how long the gate is shut, less the time in which it is open between, until this is an outage; and the reverse. It is two of
/// the longest pauses between two probes: an outage has failed more than once then, and one that is over has let calls through.
/// Users are parked for so long, too, while the gate is open: the calls that meet the beginning of an outage look like their own
/// users' trouble, and are delivered soon after its end.
const HOLD: Duration = Duration::from_secs(10);

/// What one look counts at most, so that a process that was suspended finds no outage.
const MAX_STEP: Duration = Duration::from_secs(3);

/// Figures of the relay, all of which are in memory. Counts are those since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// `None`: the gate is open, and calls pass it.
    pub gate: Option<ShutGate>,
    /// `None`: there is no outbox.
    pub outbox: Option<OutboxFigures>,
    /// Dead letters that came: refused, given up, unmapped.
    pub dead_letters: [u64; 3],
    /// Mapping workers that were replaced: out of time, out of memory, crashed.
    pub worker_restarts: [u64; 3],
}

/// Why nothing reaches Segment: the gate is shut, or nothing but failures passes it.
#[derive(Clone, Copy, Debug)]
pub struct ShutGate {
    pub shut_for: Duration,
    /// Segment is well and asks the relay to wait.
    pub is_rate_limit: bool,
    /// The code of the error that callers get.
    pub code: &'static str,
    /// Why the last request failed, in a word, and the status of its answer.
    pub reason: Option<&'static str>,
    pub status: Option<u16>,
}

/// What is in the outbox.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutboxFigures {
    pub waiting: u64,
    pub dead_letters: u64,
    pub parked_users: u64,
    pub parked_calls: u64,
    pub bytes: u64,
    pub max_bytes: u64,
}

/// What was told, and what is so.
#[derive(Default)]
pub(super) struct Watch {
    outage: Outage,
    /// Since when the outage was that was told last.
    told_since: Option<Timestamp>,
    outage_state: State,
    parked_state: State,
    half_full_state: State,
    /// How long users have been parked while the gate was open, up to [`HOLD`].
    parked_for: Duration,
    looked_at: Option<Instant>,
    dead_letters: Counts,
    restarts: Counts,
    pauses: Pauses,
}

/// The outcome of a look.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) notices: Vec<Notice>,
    /// How many notices were held back, because one of their kind was told shortly before.
    pub(super) held_back: u64,
}

impl Watch {
    /// What is already so counts as told.
    pub(super) fn new(figures: &Figures) -> Self {
        let outbox = figures.outbox.unwrap_or_default();
        Self {
            parked_state: State::told(outbox.parked_users > 0),
            half_full_state: State::told(outbox.is_half_full(false)),
            dead_letters: Counts::from(figures.dead_letters),
            restarts: Counts::from(figures.worker_restarts),
            ..Self::default()
        }
    }

    pub(super) fn look(&mut self, figures: &Figures, now: Instant, time: Timestamp) -> Told {
        let step = self.looked_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at).min(MAX_STEP));
        self.looked_at = Some(now);
        let mut notices = Vec::new();
        notices.extend(self.outage(figures, step, now, time));
        let pauses = &mut self.pauses;
        if let Some(totals) = self.dead_letters.due(figures.dead_letters, Kind::FirstDeadLetter, pauses, now) {
            let [refused, gave_up, unmapped] = totals;
            let kept = figures.outbox.unwrap_or_default().dead_letters;
            notices.push(Notice::FirstDeadLetter { refused, gave_up, unmapped, kept });
        }
        if let Some(outbox) = &figures.outbox {
            let OutboxFigures { waiting, dead_letters, bytes, max_bytes, .. } = *outbox;
            self.parked_for = match figures.gate {
                _ if outbox.parked_users == 0 => Duration::ZERO,
                None => (self.parked_for + step).min(HOLD),
                Some(_) => self.parked_for,
            };
            let is_parked = outbox.parked_users > 0 && (self.parked_for == HOLD || self.parked_state.is_so);
            if self.parked_state.due(is_parked, Kind::UserParked, None, pauses, now) {
                notices.push(Notice::UserParked { users: outbox.parked_users, calls: outbox.parked_calls });
            }
            let is_half_full = outbox.is_half_full(self.half_full_state.is_so);
            if self.half_full_state.due(is_half_full, Kind::OutboxHalfFull, None, pauses, now) {
                notices.push(Notice::OutboxHalfFull { bytes, max_bytes, waiting, dead_letters });
            }
        }
        if let Some(totals) = self.restarts.due(figures.worker_restarts, Kind::MapWorkerRestarted, pauses, now) {
            let [out_of_time, memory, crash] = totals;
            notices.push(Notice::MapWorkerRestarted { time: out_of_time, memory, crash });
        }
        Told { notices, held_back: std::mem::take(&mut self.pauses.held_back) }
    }

    fn outage(&mut self, figures: &Figures, step: Duration, now: Instant, time: Timestamp) -> Option<Notice> {
        let is_on = self.outage.look(figures.gate.as_ref(), step, time);
        let (begun, over) = (Kind::OutageBegun, Some(Kind::OutageOver));
        if !self.outage_state.due(is_on, begun, over, &mut self.pauses, now) {
            return None;
        }
        let waiting = figures.outbox.map(|outbox| outbox.waiting);
        let Outage { since, until, last_gate, .. } = &self.outage;
        Some(if is_on {
            self.told_since = Some(*since);
            let ShutGate { code, reason, status, .. } = (*last_gate)?;
            Notice::OutageBegun { since: rfc3339(*since), code, reason, status, waiting }
        } else {
            let since = self.told_since.take()?;
            let seconds = until.duration_since(since).as_secs().try_into().unwrap_or(0);
            Notice::OutageOver { since: rfc3339(since), until: rfc3339(*until), seconds, waiting }
        })
    }
}

impl OutboxFigures {
    /// `was`: it was half full before. Then it is so until two fifths, so that calls that come and go around the half are one event.
    fn is_half_full(&self, was: bool) -> bool {
        let limit = if was { self.max_bytes / 5 * 2 } else { self.max_bytes / 2 };
        self.max_bytes > 0 && self.bytes > limit
    }
}

/// Whether there is an outage, of a gate that may open and shut often.
#[derive(Default)]
struct Outage {
    is_on: bool,
    /// How long the gate was shut, less how long it was open, from zero to [`HOLD`].
    shut_for: Duration,
    since: Timestamp,
    /// When the gate opened last.
    until: Timestamp,
    /// The last look found the gate open.
    is_open: bool,
    /// Why it was shut last, for another reason than a rate limit.
    last_gate: Option<ShutGate>,
}

impl Outage {
    fn look(&mut self, gate: Option<&ShutGate>, step: Duration, time: Timestamp) -> bool {
        match gate {
            // In a rate limit nothing shows whether an outage is over.
            Some(gate) if gate.is_rate_limit => {}
            Some(gate) => {
                if !self.is_on && self.shut_for.is_zero() {
                    self.since = time.checked_sub(gate.shut_for).unwrap_or(time);
                }
                self.shut_for = (self.shut_for + step).min(HOLD);
                self.last_gate = Some(*gate);
            }
            None => {
                if !self.is_open {
                    self.until = time;
                }
                self.shut_for = self.shut_for.saturating_sub(step);
            }
        }
        self.is_open = gate.is_none();
        self.is_on = if self.is_on { !self.shut_for.is_zero() } else { self.shut_for == HOLD };
        self.is_on
    }
}

/// Something that is so or is not.
#[derive(Default)]
struct State {
    is_so: bool,
    is_told: bool,
    /// The notice that is due was held back, which is counted once.
    is_held_back: bool,
}

impl State {
    fn told(is_so: bool) -> Self {
        Self { is_so, is_told: is_so, is_held_back: false }
    }

    /// Whether a notice is to be sent. Without the kind `over` the end is not told.
    fn due(&mut self, is_so: bool, begun: Kind, over: Option<Kind>, pauses: &mut Pauses, now: Instant) -> bool {
        self.is_so = is_so;
        let kind = if is_so { Some(begun) } else { over };
        match kind.filter(|_| is_so != self.is_told) {
            None => *self = Self::told(is_so),
            Some(kind) if pauses.allow(kind, now) => {
                *self = Self::told(is_so);
                return true;
            }
            Some(_) => {
                pauses.held_back += u64::from(!self.is_held_back);
                self.is_held_back = true;
            }
        }
        false
    }
}

/// Something that is counted, in three parts.
#[derive(Default)]
struct Counts {
    last: [u64; 3],
    untold: [u64; 3],
}

impl From<[u64; 3]> for Counts {
    fn from(last: [u64; 3]) -> Self {
        Self { last, untold: [0; 3] }
    }
}

impl Counts {
    /// All that was not told yet, if there is more than at the last look and a notice may be sent.
    fn due(&mut self, totals: [u64; 3], kind: Kind, pauses: &mut Pauses, now: Instant) -> Option<[u64; 3]> {
        let mut is_more = false;
        for ((untold, last), total) in self.untold.iter_mut().zip(&mut self.last).zip(totals) {
            // A total that shrank lost a part, such as a source that is not configured any more.
            let more = total.saturating_sub(*last);
            (*last, *untold) = (total, untold.saturating_add(more));
            is_more |= more > 0;
        }
        if !is_more {
            return None;
        }
        if pauses.allow(kind, now) {
            return Some(std::mem::take(&mut self.untold));
        }
        pauses.held_back += 1;
        None
    }
}

/// When a notice of each kind was sent last.
#[derive(Default)]
struct Pauses {
    told_at: HashMap<Kind, Instant>,
    held_back: u64,
}

impl Pauses {
    /// Whether a notice of this kind may be sent. If so, it is sent now, and its next pause begins.
    fn allow(&mut self, kind: Kind, now: Instant) -> bool {
        let told_at = self.told_at.get(&kind);
        let may = told_at.is_none_or(|at| now.saturating_duration_since(*at) >= kind.pause());
        if may {
            self.told_at.insert(kind, now);
        }
        may
    }
}

#[cfg(test)]
mod tests;
