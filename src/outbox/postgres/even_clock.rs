//! Whether the server's clock runs evenly.
//!
//! A dead letter is the only copy of a call, so a clock that jumps must not delete it: nothing is deleted until the server's clock
//! has run evenly for an hour, as this relay sees it.

use std::time::Duration;

use tokio::time::Instant;

/// How long the clock must have run evenly. A machine that starts with a wrong clock sets it within minutes.
const EVEN_TIME: Duration = Duration::from_secs(60 * 60);

/// A difference between the clocks that is no jump.
const MAX_DRIFT: Duration = Duration::from_secs(60);

/// Knows whether the server's clock runs evenly.
pub(super) struct EvenClock {
    even_time: Duration,
    even_since: Option<Instant>,
    /// The last look: the server's clock, and the monotonic one.
    last: Option<(i64, Instant)>,
}

impl EvenClock {
    pub(super) fn new(retention: Option<Duration>) -> Self {
        // With a retention below an hour, as in a test, a letter is not to wait for long after its time.
        Self { even_time: retention.unwrap_or_default().min(EVEN_TIME), even_since: None, last: None }
    }

    /// Looks at the clocks: whether they have agreed for long enough.
    pub(super) fn look(&mut self, server: i64, monotonic: Instant) -> bool {
        let is_even = self.last.replace((server, monotonic)).is_some_and(|(last_server, last)| {
            let passed = monotonic.saturating_duration_since(last).as_millis();
            let expected = last_server.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
            u128::from(server.abs_diff(expected)) <= MAX_DRIFT.as_millis()
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
    use std::time::Duration;

    use tokio::time::Instant;

    use super::EvenClock;

    #[test]
    fn a_clock_that_jumped_must_run_evenly_for_an_hour() {
        let (mut clock, start) = (EvenClock::new(Some(Duration::from_secs(86_400))), Instant::now());
        let mut look =
            |server: i64, minutes: u64| clock.look(server * 60_000, start + Duration::from_secs(60 * minutes));
        assert!(!look(0, 0) && !look(59, 59) && look(60, 60));
        assert!(!look(600, 61), "it was set forward");
        assert!(!look(650, 111) && look(661, 122));
        assert!(!look(0, 123), "it was set back");
    }
}
