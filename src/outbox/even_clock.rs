//! Whether a wall clock runs evenly: the machine's, or that of the database server.
//!
//! A dead letter is the only copy of a call, so a clock that jumps must not delete it: nothing is deleted until the clock has run
//! evenly for an hour, since the start or since it jumped. A wrong clock is set right meanwhile.

use std::time::{Duration, Instant};

/// How long the clock must have run evenly. A machine that starts with a wrong clock sets it within minutes.
const EVEN_TIME: Duration = Duration::from_secs(60 * 60);

/// A difference between the wall clock and the monotonic one that is no jump: between two looks, which are a second apart, a clock
/// that is corrected gains or loses far less.
const MAX_DRIFT: Duration = Duration::from_secs(60);

/// Compares a wall clock with the monotonic one.
#[derive(Debug)]
pub(super) struct EvenClock {
    even_time: Duration,
    /// `None` before the first look.
    even_since: Option<Instant>,
    /// The last look: the wall clock in milliseconds, and the monotonic one.
    last: Option<(i64, Instant)>,
}

impl EvenClock {
    pub(super) fn new(retention: Option<Duration>) -> Self {
        // With a retention below an hour, as in a test, a letter is not to wait for long after its time.
        Self { even_time: retention.unwrap_or_default().min(EVEN_TIME), even_since: None, last: None }
    }

    /// Looks at the clocks: whether they have agreed for long enough. `now` is the wall clock in milliseconds.
    pub(super) fn look(&mut self, now: i64, monotonic: Instant) -> bool {
        let is_even = self.last.replace((now, monotonic)).is_some_and(|(last_now, last)| {
            let passed = monotonic.saturating_duration_since(last).as_millis();
            let expected = last_now.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
            u128::from(now.abs_diff(expected)) <= MAX_DRIFT.as_millis()
        });
        if !is_even {
            self.even_since = None;
        }
        let since = *self.even_since.get_or_insert(monotonic);
        monotonic.saturating_duration_since(since) >= self.even_time
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::EvenClock;

    #[test]
    fn a_clock_that_jumped_must_run_evenly_for_an_hour() {
        let (mut clock, start) = (EvenClock::new(Some(Duration::from_secs(86_400))), Instant::now());
        let mut look = |wall: i64, minutes: u64| clock.look(wall * 60_000, start + Duration::from_secs(60 * minutes));
        assert!(!look(0, 0) && !look(59, 59) && look(60, 60));
        assert!(!look(600, 61), "it was set forward");
        assert!(!look(650, 111) && look(661, 122));
        assert!(!look(0, 123), "it was set back");
    }
}
