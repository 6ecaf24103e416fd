//! Tests of whose trouble it is: the evidence, the gate and the probes, under a clock of their own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FailedRequest, Gate, MAX_PROBE_PAUSE, Trouble};
use crate::publisher::retry::MAX_RETRY_AFTER;
use crate::segment::{ErrorCode, FailureReason, SegmentError};

const SLOTS: usize = 256;

fn unavailable() -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, "503").because(FailureReason::Status(503))
}

fn rate_limited() -> SegmentError {
    SegmentError::new(ErrorCode::RateLimited, "429").because(FailureReason::Status(429))
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn fail(trouble: &mut Trouble, error: &SegmentError, is_probe: bool, is_evidence: bool, now: Instant) {
    trouble.failed(&FailedRequest { error, started: now, is_probe, is_evidence, is_parked: false, chance: 0.0 }, now);
}

/// An outage that has just begun.
fn outage(now: Instant) -> Trouble {
    let mut trouble = Trouble::default();
    for _ in 0..3 {
        fail(&mut trouble, &unavailable(), false, true, now);
    }
    trouble
}

/// Sends a probe when it is due, which fails at once. Returns how long it had to wait.
fn failed_probe(trouble: &mut Trouble, error: &SegmentError, now: &mut Instant) -> Duration {
    let before = *now;
    if let Gate::ShutUntil(at) = trouble.gate(*now) {
        *now = at;
    }
    assert_eq!(trouble.gate(*now), Gate::ProbeDue);
    trouble.probe_sent(&Arc::from("u"));
    assert_eq!(trouble.gate(*now), Gate::Probing);
    fail(trouble, error, true, true, *now);
    *now - before
}

#[test]
fn three_failures_in_a_row_shut_the_gate_and_two_do_not() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    for expected in [true, true, false] {
        fail(&mut trouble, &unavailable(), false, true, now);
        assert_eq!(trouble.gate(now) == Gate::Open, expected);
    }
}

#[test]
fn an_acceptance_between_failures_shows_that_there_is_no_outage() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    for _ in 0..20 {
        fail(&mut trouble, &unavailable(), false, true, now);
        fail(&mut trouble, &unavailable(), false, true, now);
        trouble.accepted(1, false, SLOTS, now);
    }
    assert_eq!(trouble.gate(now), Gate::Open);
}

#[test]
fn a_request_that_was_sent_before_the_last_acceptance_is_no_evidence_of_an_outage() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    trouble.accepted(1, false, SLOTS, now + ms(1));
    for _ in 0..5 {
        let failed = FailedRequest {
            error: &unavailable(),
            started: now,
            is_probe: false,
            is_evidence: true,
            is_parked: false,
            chance: 0.0,
        };
        trouble.failed(&failed, now + ms(5_000));
    }
    assert_eq!(trouble.gate(now + ms(5_000)), Gate::Open);
}

#[test]
fn failures_of_suspects_alone_are_no_evidence_of_an_outage_and_their_acceptance_ends_one() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    for _ in 0..100 {
        fail(&mut trouble, &unavailable(), false, false, now);
    }
    assert_eq!(trouble.gate(now), Gate::Open);
    let mut trouble = outage(now);
    assert!(trouble.accepted(1, false, SLOTS, now));
    assert_eq!(trouble.gate(now), Gate::Open);
}

#[test]
fn probes_come_after_a_tenth_of_a_second_at_first_and_after_five_seconds_at_last() {
    let mut now = Instant::now();
    let mut trouble = outage(now);
    let pauses: Vec<u128> = (0..9).map(|_| failed_probe(&mut trouble, &unavailable(), &mut now).as_millis()).collect();
    for (pause, most) in pauses.iter().zip([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]) {
        assert!((most * 9 / 10..=most).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_proxy_that_refuses_the_credentials_is_asked_after_five_seconds_at_first_and_a_minute_at_last() {
    for reason in [FailureReason::Proxy(Some(403)), FailureReason::Status(407)] {
        let error = SegmentError::new(ErrorCode::Unauthorized, "proxy").because(reason);
        let mut now = Instant::now();
        let mut trouble = Trouble::default();
        fail(&mut trouble, &error, false, true, now);
        // Those that were in flight say nothing new.
        fail(&mut trouble, &error, false, true, now);
        let pauses: Vec<u64> = (0..6).map(|_| failed_probe(&mut trouble, &error, &mut now).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    }
}

#[test]
fn a_403_of_segment_is_judged_like_any_other_failure() {
    let error = SegmentError::new(ErrorCode::Unauthorized, "403").because(FailureReason::Status(403));
    let now = Instant::now();
    let mut trouble = Trouble::default();
    fail(&mut trouble, &error, false, true, now);
    assert!(trouble.gate(now) == Gate::Open && !trouble.is_ours());
    fail(&mut trouble, &error, false, true, now);
    fail(&mut trouble, &error, false, true, now);
    assert!(matches!(trouble.gate(now), Gate::ShutUntil(_)) && trouble.is_ours());
}

#[test]
fn a_rate_limit_shuts_the_gate_for_the_time_named_whatever_is_accepted() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    trouble.rate_limited(&rate_limited(), Some(ms(30_000)), false, now);
    trouble.rate_limited(&rate_limited(), Some(ms(2_000)), false, now);
    trouble.rate_limited(&rate_limited(), None, false, now);
    assert!(!trouble.accepted(1, false, SLOTS, now + ms(100)));
    assert_eq!(trouble.gate(now + ms(29_999)), Gate::ShutUntil(now + ms(30_000)));
    assert_eq!(trouble.gate(now + ms(30_000)), Gate::ProbeDue);
    trouble.probe_sent(&Arc::from("u"));
    assert!(trouble.accepted(1, true, SLOTS, now + ms(30_001)));
    assert_eq!(trouble.gate(now + ms(30_001)), Gate::Open);
}

#[test]
fn segment_cannot_shut_the_gate_for_longer_than_five_minutes() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    trouble.rate_limited(&rate_limited(), Some(ms(3_600_000)), false, now);
    assert_eq!(trouble.gate(now), Gate::ShutUntil(now + MAX_RETRY_AFTER));
}

#[test]
fn rate_limits_without_a_time_pause_longer_each_time_up_to_five_seconds() {
    let mut now = Instant::now();
    let mut trouble = Trouble::default();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        trouble.rate_limited(&rate_limited(), None, true, now);
        let Gate::ShutUntil(until) = trouble.gate(now) else { panic!("open") };
        pauses.push((until - now).as_millis());
        now = until;
        trouble.probe_sent(&Arc::from("u"));
    }
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 5_000, MAX_PROBE_PAUSE.as_millis()]);
}

#[test]
fn a_probe_that_fails_does_not_shorten_a_wait_that_segment_named_meanwhile() {
    let mut now = Instant::now();
    let mut trouble = outage(now);
    let Gate::ShutUntil(at) = trouble.gate(now) else { panic!("open") };
    now = at;
    trouble.probe_sent(&Arc::from("u"));
    trouble.rate_limited(&rate_limited(), Some(ms(60_000)), false, now);
    fail(&mut trouble, &unavailable(), true, true, now);
    assert_eq!(trouble.gate(now), Gate::ShutUntil(now + ms(60_000)));
}

#[test]
fn a_refused_probe_is_followed_by_the_next_one_soon() {
    let mut now = Instant::now();
    let mut trouble = outage(now);
    for _ in 0..8 {
        failed_probe(&mut trouble, &unavailable(), &mut now);
    }
    let Gate::ShutUntil(at) = trouble.gate(now) else { panic!("open") };
    trouble.probe_sent(&Arc::from("u"));
    trouble.refused(true, at);
    assert_eq!(trouble.gate(at), Gate::ShutUntil(at + ms(100)));
}

#[test]
fn after_an_outage_few_requests_are_sent_at_once_and_each_acceptance_doubles_them() {
    let mut now = Instant::now();
    let mut trouble = outage(now);
    for _ in 0..7 {
        failed_probe(&mut trouble, &unavailable(), &mut now);
    }
    trouble.accepted(1, false, SLOTS, now);
    let at_once: Vec<usize> = (0..8)
        .map(|_| {
            let at_once = trouble.at_once(SLOTS);
            trouble.accepted(1, false, SLOTS, now);
            at_once
        })
        .collect();
    assert_eq!(at_once, [2, 4, 8, 16, 32, 64, 128, 256]);
    // What was over after a moment was no outage.
    let mut trouble = outage(now);
    trouble.accepted(1, false, SLOTS, now);
    assert_eq!(trouble.at_once(SLOTS), SLOTS);
}

#[test]
fn each_outage_makes_the_next_one_within_a_minute_need_four_times_the_failures() {
    let mut now = Instant::now();
    let mut trouble = Trouble::default();
    let mut alarms = Vec::new();
    for _ in 0..8 {
        let mut failures = 0;
        while trouble.gate(now) == Gate::Open {
            fail(&mut trouble, &unavailable(), false, true, now);
            failures += 1;
        }
        alarms.push(failures);
        now += ms(100);
        trouble.accepted(1, false, SLOTS, now);
        now += ms(1);
    }
    assert_eq!(alarms, [3, 12, 48, 192, 192, 192, 192, 192]);
    now += ms(60_001);
    for expected in [true, true, false] {
        fail(&mut trouble, &unavailable(), false, true, now);
        assert_eq!(trouble.gate(now) == Gate::Open, expected);
    }
}

#[test]
fn the_more_calls_fail_the_smaller_are_the_groups() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    assert_eq!(trouble.group_size(), super::MAX_CALLS);
    for _ in 0..2_000 {
        trouble.culprit_found();
        trouble.accepted(19, false, SLOTS, now);
    }
    assert!((10..=20).contains(&trouble.group_size()), "{}", trouble.group_size());
    for _ in 0..2_000 {
        trouble.culprit_found();
    }
    assert_eq!(trouble.group_size(), 1);
    trouble.accepted(2_500, false, SLOTS, now);
    assert_eq!(trouble.group_size(), super::MAX_CALLS);
}

#[test]
fn others_count_as_accepted_for_five_seconds_before_a_request_began_and_since() {
    let now = Instant::now();
    let mut trouble = Trouble::default();
    assert!(!trouble.others_are_accepted(now));
    trouble.accepted(1, false, SLOTS, now);
    assert!(trouble.others_are_accepted(now + ms(5_000)));
    assert!(!trouble.others_are_accepted(now + ms(5_001)));
    assert!(trouble.others_are_accepted(now - ms(60_000)));
}
