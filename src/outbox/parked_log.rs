//! When users are parked, and when nobody is any more: which of these changes are logged.
//!
//! A user who is parked, wakes and is parked again all the time must not fill the log. So of the lines that users are parked
//! there is at most one a second, with the number of those parked since the line before. That nobody is parked is said once
//! after such a line.

use std::time::{Duration, Instant};

/// The shortest time between two lines that users are parked.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct ParkedLog {
    /// When it was logged last that users are parked.
    parked_at: Option<Instant>,
    /// The last line says that users are parked.
    is_parked: bool,
    /// The number of parkings that the lines so far have told of.
    told: u64,
}

/// What is logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParkedChange {
    /// `count` users were parked since the last line.
    Parked {
        count: u64,
    },
    NobodyParked,
}

impl ParkedLog {
    /// `users` are parked now, after `total` parkings since the start.
    pub(super) fn change(&mut self, users: u64, total: u64, now: Instant) -> Option<ParkedChange> {
        if users == 0 {
            return std::mem::take(&mut self.is_parked).then_some(ParkedChange::NobodyParked);
        }
        // Those of before the start are told of, too.
        let is_news = !self.is_parked || total > self.told;
        if !is_news || self.parked_at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return None;
        }
        let count = total.saturating_sub(self.told);
        *self = Self { parked_at: Some(now), is_parked: true, told: total };
        Some(ParkedChange::Parked { count })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ParkedChange, ParkedLog};

    #[test]
    fn a_line_says_how_many_were_parked_since_the_last_one_and_then_that_nobody_is() {
        let (mut log, start) = (ParkedLog::default(), Instant::now());
        let mut change = |users, total, ms| log.change(users, total, start + Duration::from_millis(ms));
        assert_eq!(change(0, 0, 0), None);
        assert_eq!(change(2, 2, 1), Some(ParkedChange::Parked { count: 2 }));
        assert_eq!(change(3, 3, 2), None);
        assert_eq!(change(900, 950, 1000), None);
        assert_eq!(change(901, 1000, 1001), Some(ParkedChange::Parked { count: 998 }));
        assert_eq!(change(500, 1000, 5000), None, "some woke");
        assert_eq!(change(0, 1000, 5001), Some(ParkedChange::NobodyParked));
        assert_eq!(change(0, 1000, 9000), None);
    }

    #[test]
    fn users_who_were_parked_before_the_start_are_told_of_once() {
        let (mut log, start) = (ParkedLog::default(), Instant::now());
        assert_eq!(log.change(7, 0, start), Some(ParkedChange::Parked { count: 0 }));
        assert_eq!(log.change(6, 0, start + Duration::from_secs(9)), None);
        assert_eq!(log.change(0, 0, start + Duration::from_secs(10)), Some(ParkedChange::NobodyParked));
    }

    #[test]
    fn one_who_is_parked_and_wakes_all_the_time_makes_two_lines_a_second_and_no_parking_is_left_out() {
        let (mut log, start) = (ParkedLog::default(), Instant::now());
        let (mut lines, mut told) = (0, 0);
        for step in 0..10_000_u64 {
            let (users, total) = (1 - step % 2, step / 2 + 1);
            match log.change(users, total, start + Duration::from_millis(step)) {
                None => {}
                Some(ParkedChange::NobodyParked) => lines += 1,
                Some(ParkedChange::Parked { count }) => {
                    lines += 1;
                    told += count;
                    assert_eq!(told, total);
                }
            }
        }
        assert_eq!(lines, 20, "in ten seconds");
    }
}
