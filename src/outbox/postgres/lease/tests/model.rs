//! Several relays and a server under a virtual clock: histories with processes that are stopped, killed and drained, clocks of
//! different rates, and statements that are slow, lost, or executed after nobody waits for them any more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::super::{Allowed, Answer, BEYOND_ATTEMPT, Lease, Sight, Statement, Step, Terms};
use crate::segment::SendFence;

/// The limit of a statement, by the relay's own clock.
const STATEMENT_LIMIT: Duration = Duration::from_secs(2);

/// Times are in microseconds.
const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// The histories of one test run: `PROPTEST_CASES`, if it is set.
pub(super) fn cases(most: u64) -> u64 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(most)
}

/// What a wrong relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    EndTakenForStart,
    /// It releases the lease while its requests are in flight.
    ReleasedEarly,
}

pub(super) struct Histories {
    pub(super) fault: Option<Fault>,
    pub(super) terms: Terms,
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) histories: u64,
    pub(super) tenures: u64,
    pub(super) attempts: u64,
    /// Two relays sent at once: in which history, and when.
    pub(super) overlap: Option<(u64, Duration)>,
}

impl Histories {
    /// Plays so many histories, or up to the first in which two send at once.
    pub(super) fn search(&self, cases: u64) -> Found {
        let mut found = Found::default();
        for seed in 0..cases {
            let mut world = World::new(seed, self);
            world.play();
            found.histories += 1;
            found.tenures += world.tenures;
            found.attempts += world.attempts;
            if let Some(at) = world.overlap {
                found.overlap = Some((seed, Duration::from_micros(at)));
                break;
            }
        }
        found
    }
}

/// Relays that all cannot reach Segment, beside a server that answers at once: when each tenure began, and the longest time without.
pub(super) fn blocked(relays: usize, time: Duration) -> (Vec<Duration>, Duration) {
    fastrand::seed(1);
    let terms = Terms::new(Duration::from_secs(5));
    let mut all: Vec<Lease> = (0..relays).map(|_| Lease::new(terms)).collect();
    let (mut row, mut takes, mut owned, mut gap) = (Row::default(), Vec::new(), Duration::ZERO, Duration::ZERO);
    let sight = Sight { gate_shut_for: Some(Duration::MAX), has_others: true, is_draining: false, has_all_back: true };
    let mut now = Duration::ZERO;
    while now < time {
        for (relay, lease) in all.iter_mut().enumerate() {
            let step = lease.step(now, sight);
            if let Some(statement) = step.statement {
                let answer = row.execute(relay, statement, u64::try_from(now.as_micros()).unwrap(), terms);
                takes.extend(matches!(answer, Answer::Taken { .. }).then_some(now));
                lease.answered(answer, now);
            }
            if step.allowed.is_some() {
                gap = gap.max(now - owned);
                owned = now;
            }
        }
        now += Duration::from_millis(50);
    }
    (takes, gap)
}

/// The lease in the database. Times are the server's.
#[derive(Default)]
struct Row {
    owner: usize,
    epoch: i64,
    expires: u64,
}

impl Row {
    fn execute(&mut self, relay: usize, statement: Statement, now: u64, terms: Terms) -> Answer {
        let duration = u64::try_from(terms.duration.as_micros()).unwrap();
        let may_take = self.owner == relay || self.expires < now;
        let is_owner = |epoch| self.owner == relay && self.epoch == epoch;
        match statement {
            Statement::Look if may_take => Answer::Lasts(Duration::ZERO),
            Statement::Look => Answer::Lasts(Duration::from_micros(self.expires - now)),
            Statement::Take if may_take => {
                *self = Self { owner: relay, epoch: self.epoch + 1, expires: now + duration };
                Answer::Taken { epoch: self.epoch }
            }
            Statement::Renew { epoch } if is_owner(epoch) => {
                self.expires = now + duration;
                Answer::Done
            }
            Statement::Release { epoch } if is_owner(epoch) => {
                *self = Self { owner: relay, epoch: epoch + 1, expires: 0 };
                Answer::Done
            }
            _ => Answer::NotOwner,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The lease is asked what to do.
    Wake,
    /// The server executes a statement of this number.
    Executed(usize),
    Answered(usize),
    /// The relay gives up waiting for a statement.
    Limit(usize),
    /// The store opens the fence if it has all calls.
    Open(i64),
    /// A request may start.
    Attempt,
    Stopped,
    Killed,
    Drained,
    GateShut,
}

struct Relay {
    lease: Lease,
    fence: SendFence,
    /// The own clock's rate and reading at the beginning.
    rate: f64,
    offset: Duration,
    stopped_until: u64,
    is_killed: bool,
    is_draining: bool,
    gate_shut_since: Option<u64>,
    /// The statement that the relay waits for.
    sent: Option<(usize, Statement)>,
    answer: Option<Answer>,
    wake: u64,
    epoch: i64,
    /// When its last request in flight ends.
    busy_until: u64,
}

struct World<'a> {
    histories: &'a Histories,
    random: fastrand::Rng,
    now: u64,
    end: u64,
    /// How often a statement is not answered at once.
    trouble: f64,
    row: Row,
    relays: Vec<Relay>,
    events: BinaryHeap<Reverse<(u64, u64, usize, Event)>>,
    /// The statements, and how long their answers take.
    statements: Vec<(Statement, Option<u64>)>,
    tickets: u64,
    tenures: u64,
    attempts: u64,
    overlap: Option<u64>,
}

impl<'a> World<'a> {
    fn new(seed: u64, histories: &'a Histories) -> Self {
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let relays = (0..random.usize(2..=3)).map(|_| Relay {
            lease: Lease::new(histories.terms),
            fence: SendFence::new_shut(),
            rate: 0.96 + 0.08 * random.f64(),
            offset: Duration::from_secs(random.u64(1..1_000)),
            stopped_until: 0,
            is_killed: false,
            is_draining: false,
            gate_shut_since: None,
            sent: None,
            answer: None,
            wake: 0,
            epoch: 0,
            busy_until: 0,
        });
        let mut world = Self {
            histories,
            relays: relays.collect(),
            now: 0,
            end: u64::try_from(histories.terms.duration.as_micros()).unwrap() * 2,
            trouble: [0.05, 0.3, 0.6][random.usize(0..3)],
            row: Row { owner: usize::MAX, epoch: 0, expires: random.u64(0..2 * SECOND) },
            random,
            events: BinaryHeap::new(),
            statements: Vec::new(),
            tickets: 0,
            tenures: 0,
            attempts: 0,
            overlap: None,
        };
        for relay in 0..world.relays.len() {
            world.plan(0, relay, Event::Wake);
            let faults = [(Event::Stopped, 0.6), (Event::Killed, 0.1), (Event::Drained, 0.15), (Event::GateShut, 0.3)];
            for (event, chance) in faults {
                if world.random.f64() < chance {
                    let at = world.random.u64(0..world.end);
                    world.plan(at, relay, event);
                }
            }
        }
        world
    }

    fn plan(&mut self, at: u64, relay: usize, event: Event) {
        self.tickets += 1;
        self.events.push(Reverse((at, self.tickets, relay, event)));
    }

    fn play(&mut self) {
        while self.overlap.is_none()
            && let Some(Reverse((at, _, relay, event))) = self.events.pop()
            && at < self.end
        {
            self.now = at;
            let is_servers = matches!(event, Event::Executed(_));
            let Relay { stopped_until, is_killed, .. } = self.relays[relay];
            if is_servers || !is_killed && stopped_until <= at {
                self.happen(relay, event);
            } else if !is_killed {
                // What happened meanwhile is found in any order.
                let later = stopped_until + self.random.u64(0..5 * MILLISECOND);
                self.plan(later, relay, event);
            }
        }
    }

    fn clock(&self, relay: usize) -> Duration {
        let Relay { rate, offset, .. } = self.relays[relay];
        offset + Duration::from_micros((self.now as f64 * rate) as u64)
    }

    /// When the relay's clock shows this time.
    fn real(&self, relay: usize, time: Duration) -> u64 {
        let Relay { rate, offset, .. } = self.relays[relay];
        ((time.saturating_sub(offset).as_micros() as f64 / rate) as u64 + 1).max(self.now)
    }

    fn happen(&mut self, relay: usize, event: Event) {
        let now = self.now;
        match event {
            Event::Wake if self.relays[relay].wake > now => {}
            Event::Wake => self.step(relay),
            Event::Executed(number) => {
                let (statement, answered_after) = self.statements[number];
                let answer = self.row.execute(relay, statement, now, self.histories.terms);
                let is_waited_for = self.relays[relay].sent.is_some_and(|(sent, _)| sent == number);
                if let Some(after) = answered_after.filter(|_| is_waited_for) {
                    self.relays[relay].answer = Some(answer);
                    self.plan(now + after, relay, Event::Answered(number));
                }
            }
            Event::Answered(number) => self.answered(relay, number, None),
            Event::Limit(number) => self.answered(relay, number, Some(Answer::Lost)),
            Event::Open(epoch) => {
                let of = &self.relays[relay];
                if of.busy_until > now {
                    self.plan(of.busy_until + MILLISECOND, relay, event);
                } else if !of.fence.is_open() && of.fence.open(epoch) {
                    self.tenures += 1;
                    self.attempt(relay);
                }
            }
            Event::Attempt => self.attempt(relay),
            Event::Stopped => {
                let longest = [300 * MILLISECOND, 3 * SECOND, 8 * SECOND][self.random.usize(0..3)];
                self.relays[relay].stopped_until = now + self.random.u64(0..longest);
            }
            Event::Killed => self.relays[relay].is_killed = true,
            Event::Drained => {
                self.relays[relay].is_draining = true;
                self.step(relay);
            }
            Event::GateShut => {
                let shut_for = self.random.u64(0..20 * SECOND);
                self.relays[relay].gate_shut_since = Some(now.saturating_sub(shut_for));
            }
        }
    }

    /// Does what the task that drives the lease does.
    fn step(&mut self, relay: usize) {
        let clock = self.clock(relay);
        let releases_early = self.histories.fault == Some(Fault::ReleasedEarly);
        let of = &mut self.relays[relay];
        let sight = Sight {
            gate_shut_for: of.gate_shut_since.map(|since| Duration::from_micros(self.now - since)),
            has_others: true,
            is_draining: of.is_draining,
            has_all_back: releases_early || of.busy_until <= self.now,
        };
        let Step { statement, allowed, wake } = of.lease.step(clock, sight);
        match allowed {
            Some(Allowed { epoch, until }) => {
                if !of.fence.allow(epoch, until) {
                    of.lease.ended(epoch, clock);
                    return self.step(relay);
                }
                if std::mem::replace(&mut of.epoch, epoch) != epoch {
                    let soon = self.now + self.random.u64(0..30 * MILLISECOND);
                    self.plan(soon, relay, Event::Open(epoch));
                }
            }
            None => of.fence.shut(),
        }
        if let Some(statement) = statement {
            self.send(relay, statement);
        }
        if let Some(wake) = wake {
            let at = self.real(relay, wake);
            self.relays[relay].wake = at;
            self.plan(at, relay, Event::Wake);
        }
    }

    fn send(&mut self, relay: usize, statement: Statement) {
        let number = self.statements.len();
        let (fast, slow) = (10 * MILLISECOND, 5 * SECOND / 2);
        let (mut first, mut second) = (self.random.u64(0..fast), Some(self.random.u64(0..fast)));
        let mut is_executed = true;
        if self.random.f64() < self.trouble {
            match self.random.u8(0..6) {
                0 | 1 => second = Some(self.random.u64(0..slow)),
                2 => first = self.random.u64(0..slow),
                3 => is_executed = false,
                4 => second = None,
                _ => (first, second) = (self.random.u64(0..12 * SECOND), None),
            }
        }
        if self.random.f64() < 0.01 {
            // The process is stopped between the look at its clock and the statement.
            let pause = self.random.u64(0..8 * SECOND);
            self.relays[relay].stopped_until = self.now + pause;
            first += pause;
        }
        self.statements.push((statement, second));
        (self.relays[relay].sent, self.relays[relay].answer) = (Some((number, statement)), None);
        if is_executed {
            self.plan(self.now + first, relay, Event::Executed(number));
        }
        if !is_executed || second.is_none_or(|second| first + second > SECOND) {
            let limit = self.real(relay, self.clock(relay) + STATEMENT_LIMIT);
            self.plan(limit, relay, Event::Limit(number));
        }
    }

    fn answered(&mut self, relay: usize, number: usize, lost: Option<Answer>) {
        let clock = self.clock(relay);
        let of = &mut self.relays[relay];
        let Some((_, statement)) = of.sent.filter(|(sent, _)| *sent == number) else { return };
        let Some(answer) = lost.or(of.answer) else { return };
        of.sent = None;
        if self.histories.fault == Some(Fault::EndTakenForStart) {
            of.lease.in_progress = Some((statement, clock));
        }
        of.lease.answered(answer, clock);
        self.step(relay);
    }

    /// Starts a request if the fence lets it, which lasts for up to the timeout.
    fn attempt(&mut self, relay: usize) {
        let clock = self.clock(relay);
        if self.relays[relay].is_draining || !self.relays[relay].fence.may_send_at(clock) {
            return;
        }
        self.attempts += 1;
        let is_other_busy = |(other, of): (usize, &Relay)| other != relay && of.busy_until > self.now;
        if self.relays.iter().enumerate().any(is_other_busy) {
            self.overlap = Some(self.now);
        }
        let timeout = self.histories.terms.duration - BEYOND_ATTEMPT;
        let lasts = timeout.mul_f64(if self.random.bool() { 1.0 } else { self.random.f64() });
        let end = self.real(relay, clock + lasts);
        let busy_until = &mut self.relays[relay].busy_until;
        *busy_until = end.max(*busy_until);
        let next = self.now + self.random.u64(0..SECOND / 2);
        self.plan(next, relay, Event::Attempt);
    }
}
