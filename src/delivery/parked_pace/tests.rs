//! Tests of the pace of the parked calls, over a clock that is given.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::{MAX_OUT, ParkedPace};

/// A pace at a clock that only this test moves.
struct Clock {
    pace: ParkedPace,
    now: Instant,
}

impl Clock {
    fn new(max_requests_per_second: u32) -> Self {
        let now = Instant::now();
        Self { pace: ParkedPace::new(NonZeroU32::new(max_requests_per_second).unwrap(), now), now }
    }

    /// Takes what may be taken in this time, if the outbox has it all. Each call ends at once, as `end` says.
    fn take_for(&mut self, time: Duration, end: fn(&mut ParkedPace)) -> usize {
        let (until, mut total) = (self.now + time, 0);
        while let Some(next) = self.pace.next_at().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            let taken = self.pace.take(self.now);
            self.pace.taken(taken, taken, self.now);
            (0..taken).for_each(|_| end(&mut self.pace));
            total += taken;
        }
        self.now = until;
        total
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_calls_a_second_are_taken_while_all_fail() {
    let mut clock = Clock::new(900);
    assert_eq!(clock.take_for(60 * SECOND, ParkedPace::failed), 120);
    assert!(!clock.pace.is_early());
}

#[test]
fn a_refusal_neither_raises_nor_lowers_the_pace() {
    let mut clock = Clock::new(900);
    assert_eq!(clock.take_for(10 * SECOND, ParkedPace::returned), 20);
    assert!(!clock.pace.is_early());
    clock.take_for(10 * SECOND, ParkedPace::accepted);
    assert!(clock.take_for(SECOND, ParkedPace::returned) >= 224);
    assert!(clock.pace.is_early());
}

#[test]
fn ten_thousand_users_return_within_a_minute_at_a_quarter_of_the_pace() {
    let mut clock = Clock::new(900);
    assert!(clock.take_for(60 * SECOND, ParkedPace::accepted) >= 10_000);
    let a_second = clock.take_for(SECOND, ParkedPace::accepted);
    assert!((224..=226).contains(&a_second), "{a_second}");
    assert!(clock.pace.is_early());
}

#[test]
fn a_failure_sets_the_pace_back() {
    let mut clock = Clock::new(900);
    clock.take_for(10 * SECOND, ParkedPace::accepted);
    clock.pace.failed();
    assert!(!clock.pace.is_early());
    assert_eq!(clock.take_for(10 * SECOND, ParkedPace::failed), 20);
}

#[test]
fn a_slow_relay_gives_parked_calls_a_quarter_too() {
    for (max_requests_per_second, calls) in [(1, 15), (4, 60), (8, 120)] {
        let mut clock = Clock::new(max_requests_per_second);
        assert_eq!(clock.take_for(60 * SECOND, ParkedPace::accepted), calls, "{max_requests_per_second}");
        // The last call was accepted, though the pace cannot rise.
        assert!(clock.pace.is_early());
    }
}

#[test]
fn a_fast_relay_takes_no_more_at_once_than_may_be_out() {
    let mut clock = Clock::new(1_000_000);
    clock.take_for(2 * SECOND, ParkedPace::accepted);
    let taken = clock.pace.take(clock.now + Duration::from_millis(1));
    assert_eq!(taken, MAX_OUT);
    clock.pace.taken(taken, taken, clock.now);
    assert_eq!(clock.pace.next_at(), None);
    clock.pace.accepted();
    assert!(clock.pace.next_at().is_some());
    assert_eq!(clock.pace.take(clock.now + SECOND), 1);
}

#[test]
fn calls_that_do_not_end_are_bounded() {
    let mut clock = Clock::new(900);
    assert_eq!(clock.take_for(60 * SECOND, |_| ()), MAX_OUT);
    assert_eq!(clock.pace.next_at(), None);
}

#[test]
fn an_outbox_without_due_calls_is_asked_twice_a_second() {
    let mut clock = Clock::new(900);
    clock.take_for(10 * SECOND, ParkedPace::accepted);
    let mut asked = 0;
    let until = clock.now + 10 * SECOND;
    while let Some(next) = clock.pace.next_at().filter(|next| *next <= until) {
        clock.now = next;
        let limit = clock.pace.take(clock.now);
        clock.pace.taken(0, limit, clock.now);
        asked += 1;
    }
    assert!((20..=21).contains(&asked), "{asked}");
}

#[test]
fn a_late_timer_is_caught_up_with_and_a_long_silence_is_not() {
    let mut clock = Clock::new(900);
    clock.take_for(10 * SECOND, ParkedPace::accepted);
    // 225 a second: 20 ms bring 4.5 of them, and the half is not lost.
    let (first, second) = (clock.now + Duration::from_millis(20), clock.now + Duration::from_millis(40));
    assert!((8..=9).contains(&(clock.pace.take(first) + clock.pace.take(second))));
    assert!(clock.pace.take(second + 60 * SECOND) <= 23);
    clock.pace.failed();
    assert_eq!(clock.pace.take(second + 120 * SECOND), 1);
}
