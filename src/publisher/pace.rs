//! The pace: when the next request may start, and whose turn it is. Pure.
//!
//! The pace is both the rate limit and the batching: a request may start a fixed interval after the last one, and takes all
//! calls that wait by then. There is no linger: if no request went out lately, the next one starts at once.
//!
//! Requests have classes. While one class waits, all lower ones together get a quarter of the requests, no more and no less.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// While a higher class waits, every fourth request is of a lower one: lower classes go on, and delay the higher one by a third.
const LOWER_CLASS_PERIOD: u32 = 4;

/// What a request is for, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestClass {
    /// Half of a group that holds a culprit. The others in it are held up, and there are at most log2 of its size such requests.
    Group,
    /// Calls that never failed alone.
    First,
    /// Calls that failed alone.
    Suspect,
    /// Parked calls.
    Parked,
}

pub(super) struct Pace {
    interval: Duration,
    next_start: Option<Instant>,
    /// Since when a request could start but for the pace.
    ready_since: Option<Instant>,
    /// Number of started requests.
    started: u32,
}

impl Pace {
    pub(super) fn new(requests_per_second: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / requests_per_second.get();
        Self { interval, next_start: None, ready_since: None, started: 0 }
    }

    /// When a request may start that could start now but for the pace.
    pub(super) fn start_at(&mut self, now: Instant) -> Instant {
        let ready_since = *self.ready_since.get_or_insert(now);
        self.next_start.map_or(ready_since, |next| next.max(ready_since))
    }

    /// No request could start now: a later one makes up for nothing.
    pub(super) fn set_idle(&mut self) {
        self.ready_since = None;
    }

    /// A request starts. Its time was `start`, or it is late by what timers are late.
    pub(super) fn start(&mut self, start: Instant) {
        self.next_start = Some(start + self.interval);
        self.ready_since = None;
        self.started = self.started.wrapping_add(1);
    }

    /// A request was sent again out of turn.
    pub(super) fn charge(&mut self) {
        self.next_start = self.next_start.map(|next| next + self.interval);
    }

    /// Whose turn it is of these classes, which are ordered and have something to send.
    pub(super) fn turn(&self, waiting: &[RequestClass]) -> Option<RequestClass> {
        let (mut waiting, mut turn) = (waiting, self.started);
        while waiting.len() > 1 && turn % LOWER_CLASS_PERIOD == LOWER_CLASS_PERIOD - 1 {
            (waiting, turn) = (&waiting[1..], turn / LOWER_CLASS_PERIOD);
        }
        waiting.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::RequestClass::{First, Parked, Suspect};
    use super::{Pace, RequestClass};
    use std::num::NonZeroU32;
    use std::time::Duration;
    use tokio::time::Instant;

    fn pace(requests_per_second: u32) -> Pace {
        Pace::new(NonZeroU32::new(requests_per_second).unwrap())
    }

    fn start(pace: &mut Pace, now: Instant) -> Instant {
        let start = pace.start_at(now);
        pace.start(start);
        start
    }

    #[test]
    fn the_first_request_starts_at_once_and_the_others_at_the_pace() {
        let (mut pace, now) = (pace(100), Instant::now());
        let starts: Vec<u128> = (0..4).map(|_| (start(&mut pace, now) - now).as_millis()).collect();
        assert_eq!(starts, [0, 10, 20, 30]);
    }

    #[test]
    fn a_pause_is_not_followed_by_a_burst() {
        let (mut pace, now) = (pace(100), Instant::now());
        start(&mut pace, now);
        let later = now + Duration::from_secs(1);
        assert_eq!(start(&mut pace, later), later);
        assert_eq!(start(&mut pace, later), later + Duration::from_millis(10));
    }

    #[test]
    fn a_request_that_could_not_start_for_another_reason_makes_up_for_nothing() {
        let (mut pace, now) = (pace(10), Instant::now());
        pace.start_at(now);
        pace.set_idle();
        let later = now + Duration::from_secs(5);
        assert_eq!(start(&mut pace, later), later);
    }

    #[test]
    fn a_lower_class_gets_a_quarter_while_a_higher_one_waits() {
        let (mut pace, now) = (pace(100), Instant::now());
        let mut count = |waiting: &[RequestClass]| {
            let turns: Vec<RequestClass> = (0..64)
                .map(|_| {
                    let turn = pace.turn(waiting).unwrap();
                    start(&mut pace, now);
                    turn
                })
                .collect();
            [First, Suspect, Parked].map(|class| turns.iter().filter(|turn| **turn == class).count())
        };
        assert_eq!(count(&[First, Suspect, Parked]), [48, 12, 4]);
        assert_eq!(count(&[First, Parked]), [48, 0, 16]);
        assert_eq!(count(&[Suspect]), [0, 64, 0]);
    }
}
