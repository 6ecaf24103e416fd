//! When a parked user is tried again, and when the user's first call is given up, of whatever kind the store is.

/// The pause after the first failure. It doubles with each further one.
const FIRST_PAUSE: i64 = 1_000;

/// The longest pause: a mended cause is noticed within a few minutes.
pub(super) const MAX_PAUSE: i64 = 300_000;

/// A pause is up to one part in this many longer, so that users who failed together do not come back together.
const JITTER_DIVISOR: i64 = 8;

/// A call is given up after this many failures at least: after a clock that was set forward, too.
const MIN_FAILURES: i64 = 5;

/// Whether a call that has failed so often on its own, since this time, is given up now. Times are in milliseconds.
pub(super) fn is_given_up(give_up_after: Option<i64>, since: i64, failures: i64, now: i64) -> bool {
    failures >= MIN_FAILURES && give_up_after.is_some_and(|after| since.saturating_add(after) <= now)
}

/// The pause after so many failures: it doubles from one second to five minutes, and is a little longer at random.
pub(super) fn pause(failures: i64) -> i64 {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(16);
    let pause = (FIRST_PAUSE << doublings).min(MAX_PAUSE);
    pause + fastrand::i64(0..=pause / JITTER_DIVISOR)
}

#[cfg(test)]
mod tests {
    use super::{MAX_PAUSE, pause};

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_a_little_longer_at_random() {
        for (failures, shortest) in
            [(1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, MAX_PAUSE), (9_999, MAX_PAUSE)]
        {
            for _ in 0..50 {
                assert!((shortest..=shortest + shortest / 8).contains(&pause(failures)), "{failures}");
            }
        }
    }
}
