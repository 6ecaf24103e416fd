//! The lease: which relay sends. Pure: times are readings of the relay's boot-time clock, and statements are answered later or never.
//!
//! One row in the database names the owner and the server's time at which the lease ends. The owner renews it; any other relay may
//! take it once it has ended. A relay sends from a take or a renewal on, counted from the *start* of the statement: the server's
//! term began later. It stops [`reserve`](Terms::reserve) before the end, so that its last attempt is over when another begins.
//!
//! Each time a relay becomes the one that sends is a *tenure*, and has an epoch of its own. Settlements name the epoch.
//!
//! What remains possible: a process that is stopped between the look at its clock and the write to the socket sends that request when it
//! goes on. Nothing it settles counts, and Segment drops a `messageId` that it has. The clocks of relay and server may differ in rate
//! by some percent, and a server's clock that jumps forward ends the lease too early.

use std::time::Duration;

/// How much longer the lease is than an attempt. But for [`MARGIN`] this is how long sending goes on after the start of a renewal: a next
/// renewal that fails at once is repeated meanwhile, and one that is never answered uses up the time.
const BEYOND_ATTEMPT: Duration = Duration::from_secs(5);

/// From the end of the last attempt to the end of the lease: the difference of two clocks, and a busy machine.
const MARGIN: Duration = Duration::from_secs(1);

/// From the start of a renewal to the next one.
const RENEWAL: Duration = Duration::from_secs(2);

/// How often a relay that wants the lease looks.
const LOOK: Duration = Duration::from_millis(500);

/// Pause after a renewal or a release without an answer. The connection was dropped, and is opened again.
const RETRY: Duration = Duration::from_millis(100);

/// Longest time for which a relay that stepped down does not compete.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// This relay is the one that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) epoch: i64,
}

/// How long the terms are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// From a take or a renewal to the end of the lease.
    pub(super) duration: Duration,
    /// How long before that end sending stops.
    pub(super) reserve: Duration,
}

impl Terms {
    pub(super) fn new(segment_timeout: Duration) -> Self {
        Self { duration: segment_timeout + BEYOND_ATTEMPT, reserve: segment_timeout + MARGIN }
    }
}

/// What to ask the server. One statement is in progress at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// How long another's lease lasts.
    Look,
    /// Take the lease if it has ended, or is this relay's own.
    Take,
    Renew {
        epoch: i64,
    },
    Release {
        epoch: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To a look. Zero: the lease has ended, or is this relay's own.
    Lasts(Duration),
    Taken {
        epoch: i64,
    },
    /// To a renewal or a release.
    Done,
    /// Another relay is the owner.
    NotOwner,
    /// No answer: whether the statement was executed, or will be, is unknown.
    Lost,
}

/// What the relay sees beside the lease.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    /// For how long Segment cannot be reached from here. A 429 does not count.
    pub(super) gate_shut_for: Option<Duration>,
    /// Another relay was seen lately.
    pub(super) has_others: bool,
    /// The process ends.
    pub(super) is_draining: bool,
    /// The store has all calls back that it gave out, and they are settled.
    pub(super) has_all_back: bool,
}

/// This relay may send under this epoch until this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) epoch: i64,
    pub(super) until: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) statement: Option<Statement>,
    /// `None`: nothing may be sent.
    pub(super) allowed: Option<Allowed>,
    /// When to ask again, if nothing happens before. `None`: never, the lease is done with.
    pub(super) wake: Option<Duration>,
}

pub(super) struct Lease {
    terms: Terms,
    /// With the time at which it was sent.
    in_progress: Option<(Statement, Duration)>,
    held: Option<Held>,
    /// A lease that is to be released when all calls are back, and when it ends anyway.
    owed: Option<(i64, Duration)>,
    /// When the next statement is due, but for renewals.
    next_at: Duration,
    /// Since when every look found the lease free.
    free_since: Option<Duration>,
    /// After stepping down: until then this relay neither competes with others nor steps down again.
    pause_until: Duration,
    /// How often it stepped down since Segment was reached.
    step_downs: u32,
}

#[derive(Clone, Copy)]
struct Held {
    allowed: Allowed,
    since: Duration,
    ends: Duration,
    renew_at: Duration,
}

impl Lease {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            in_progress: None,
            held: None,
            owed: None,
            next_at: Duration::ZERO,
            free_since: None,
            pause_until: Duration::ZERO,
            step_downs: 0,
        }
    }

    pub(super) fn step(&mut self, now: Duration, sight: Sight) -> Step {
        if self.held.is_some_and(|held| held.allowed.until <= now) {
            // The row may still name this relay, which takes it anew: under another epoch the store begins anew, too.
            self.lose(now);
        }
        self.owed = self.owed.filter(|(_, ends)| *ends > now);
        if let Some(held) = self.held {
            self.judge_gate(held, now, sight);
            if sight.is_draining && sight.has_all_back {
                self.give_up(held, now);
            }
        }
        let statement = if self.in_progress.is_none() { self.statement(now, sight) } else { None };
        if let Some(statement) = statement {
            self.in_progress = Some((statement, now));
        }
        Step { statement, allowed: self.held.map(|held| held.allowed), wake: self.wake(now, sight) }
    }

    /// The statement in progress was answered, or is given up.
    pub(super) fn answered(&mut self, answer: Answer, now: Duration) {
        let Some((statement, started)) = self.in_progress.take() else { return };
        match (statement, answer) {
            (Statement::Look, Answer::Lasts(lasts)) => {
                self.next_at = now + lasts.min(LOOK);
                self.free_since = lasts.is_zero().then_some(self.free_since.unwrap_or(now));
            }
            (Statement::Take, Answer::Taken { epoch }) => {
                self.free_since = None;
                self.held = Some(self.held_since(now, epoch, started));
            }
            (Statement::Renew { epoch }, Answer::Done) => {
                // A tenure whose time is over has ended: the store has begun to take its calls back.
                let held = self.held.filter(|held| held.allowed.epoch == epoch && now < held.allowed.until);
                if let Some(held) = held {
                    self.held = Some(self.held_since(held.since, epoch, started));
                } else if let Some((_, ends)) = self.owed.as_mut().filter(|(owed, _)| *owed == epoch) {
                    *ends = started + self.terms.duration;
                }
            }
            (Statement::Renew { epoch }, Answer::NotOwner) => self.ended(epoch, now),
            (Statement::Renew { .. }, _) => {
                if let Some(held) = &mut self.held {
                    held.renew_at = now + RETRY;
                }
            }
            (Statement::Release { .. }, Answer::Done | Answer::NotOwner) => {
                self.owed = None;
                self.next_at = now + LOOK;
            }
            (Statement::Release { .. }, _) => self.next_at = now + RETRY,
            (Statement::Look | Statement::Take, _) => {
                self.free_since = None;
                self.next_at = now + LOOK;
            }
        }
    }

    /// The tenure with this epoch has ended for another reason than those that [`step`](Self::step) knows.
    pub(super) fn ended(&mut self, epoch: i64, now: Duration) {
        if self.held.is_some_and(|held| held.allowed.epoch == epoch) {
            self.lose(now);
        }
    }

    fn held_since(&self, since: Duration, epoch: i64, started: Duration) -> Held {
        let ends = started + self.terms.duration;
        let until = ends.saturating_sub(self.terms.reserve);
        Held { allowed: Allowed { epoch, until }, since, ends, renew_at: started + RENEWAL }
    }

    fn lose(&mut self, next_at: Duration) {
        self.held = None;
        self.next_at = next_at;
    }

    /// Ends the tenure. The lease is kept until the calls in requests are settled.
    fn give_up(&mut self, held: Held, now: Duration) {
        self.owed = Some((held.allowed.epoch, held.ends));
        // Not in this step: calls may be given out until the fence is shut, after which it is asked again what is out.
        self.lose(now + RETRY);
    }

    /// Steps down if Segment cannot be reached from here, and perhaps from elsewhere.
    fn judge_gate(&mut self, held: Held, now: Duration, sight: Sight) {
        // What was before the tenure says nothing: no request was sent.
        let is_judged = now.saturating_sub(held.since) > self.terms.duration;
        let is_shut = sight.gate_shut_for.map(|time| time > self.terms.duration);
        match is_shut {
            None if is_judged => self.step_downs = 0,
            Some(true) if is_judged && sight.has_others && now >= self.pause_until => {
                let pause = self.terms.duration.saturating_mul(2_u32.saturating_pow(self.step_downs)).min(MAX_PAUSE);
                // Two relays that both cannot reach Segment do not go on in step.
                self.pause_until = now + pause.mul_f64(1.0 + fastrand::f64() / 2.0);
                self.step_downs = self.step_downs.saturating_add(1);
                self.give_up(held, now);
            }
            _ => {}
        }
    }

    /// Whether this relay takes a free lease. One that stepped down lets others have it, unless nobody does.
    fn competes(&self, now: Duration, sight: Sight) -> bool {
        let is_left = self.free_since.is_some_and(|since| now.saturating_sub(since) >= self.terms.duration);
        now >= self.pause_until || !sight.has_others || is_left
    }

    fn statement(&self, now: Duration, sight: Sight) -> Option<Statement> {
        if let Some((epoch, _)) = self.owed {
            return (sight.has_all_back && self.next_at <= now).then_some(Statement::Release { epoch });
        }
        if let Some(held) = self.held {
            return (held.renew_at <= now).then_some(Statement::Renew { epoch: held.allowed.epoch });
        }
        if sight.is_draining || self.next_at > now {
            return None;
        }
        let takes = self.free_since.is_some() && self.competes(now, sight);
        Some(if takes { Statement::Take } else { Statement::Look })
    }

    fn wake(&self, now: Duration, sight: Sight) -> Option<Duration> {
        if self.held.is_none() && self.owed.is_none() && self.in_progress.is_none() && sight.is_draining {
            return None;
        }
        let until = self.held.map(|held| held.allowed.until);
        let next = match self.held {
            _ if self.in_progress.is_some() => None,
            Some(held) => Some(held.renew_at),
            // It waits for its calls: what is seen changes without a word.
            None if self.owed.is_some() => Some(self.next_at.max(now + RETRY)),
            None => Some(self.next_at),
        };
        let look = now + if sight.is_draining { RETRY } else { LOOK };
        [Some(look), until, next].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
