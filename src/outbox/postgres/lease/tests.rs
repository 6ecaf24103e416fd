//! Tests of the lease: single steps, and histories of several relays (`model`).

mod model;

use std::time::Duration;

use super::{Answer, Lease, Sight, Statement, Step, Terms};
use model::{Fault, Histories};

const TIMEOUT: Duration = Duration::from_secs(5);

/// For histories: a shorter timeout makes shorter ones, so that there can be more.
const SHORT: Duration = Duration::from_secs(1);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn idle() -> Sight {
    Sight { has_all_back: true, ..Sight::default() }
}

/// A relay that took the lease in a statement from `at` to a tenth of a second later.
fn owner(at: f64) -> Lease {
    let mut lease = Lease::new(Terms::new(TIMEOUT));
    assert_eq!(lease.step(seconds(at - 0.1), idle()).statement, Some(Statement::Look));
    lease.answered(Answer::Lasts(Duration::ZERO), seconds(at));
    assert_eq!(lease.step(seconds(at), idle()).statement, Some(Statement::Take));
    lease.answered(Answer::Taken { epoch: 7 }, seconds(at + 0.1));
    lease
}

fn until(step: Step) -> Option<Duration> {
    step.allowed.map(|allowed| allowed.until)
}

#[test]
fn sending_is_allowed_for_four_seconds_from_the_start_of_the_last_renewal() {
    let mut lease = owner(10.0);
    assert_eq!(until(lease.step(seconds(10.2), idle())), Some(seconds(14.0)));
    let step = lease.step(seconds(12.0), idle());
    assert_eq!(step.statement, Some(Statement::Renew { epoch: 7 }));
    lease.answered(Answer::Done, seconds(13.5));
    assert_eq!(until(lease.step(seconds(13.5), idle())), Some(seconds(16.0)));
}

#[test]
fn a_renewal_without_an_answer_is_sent_again_and_sending_pauses_when_its_time_is_over() {
    let mut lease = owner(10.0);
    assert!(lease.step(seconds(12.0), idle()).statement.is_some());
    lease.answered(Answer::Lost, seconds(13.0));
    let step = lease.step(seconds(13.0), idle());
    assert_eq!((step.statement, step.wake), (None, Some(seconds(13.1))));
    assert_eq!(lease.step(seconds(13.1), idle()).statement, Some(Statement::Renew { epoch: 7 }));
    assert_eq!(until(lease.step(seconds(14.0), idle())), None);
    // An answer that comes later does not revive the tenure: the lease is taken under another epoch.
    lease.answered(Answer::Done, seconds(14.1));
    let step = lease.step(seconds(14.1), idle());
    assert_eq!((step.statement, step.allowed), (Some(Statement::Look), None));
}

#[test]
fn an_answer_that_comes_when_the_time_is_over_does_not_prolong_the_tenure() {
    let mut lease = owner(10.0);
    assert!(lease.step(seconds(13.0), idle()).statement.is_some());
    lease.answered(Answer::Done, seconds(14.0));
    assert_eq!(until(lease.step(seconds(14.0), idle())), None);
}

#[test]
fn a_relay_that_hears_of_another_owner_stops_at_once() {
    let mut lease = owner(10.0);
    lease.step(seconds(12.0), idle());
    lease.answered(Answer::NotOwner, seconds(12.1));
    assert_eq!(lease.step(seconds(12.1), idle()).allowed, None);
}

#[test]
fn a_candidate_tries_when_the_lease_ends_and_looks_each_half_second_before() {
    let mut lease = Lease::new(Terms::new(TIMEOUT));
    lease.step(seconds(1.0), idle());
    lease.answered(Answer::Lasts(seconds(8.0)), seconds(1.1));
    assert_eq!(lease.step(seconds(1.1), idle()).wake, Some(seconds(1.6)));
    assert_eq!(lease.step(seconds(1.6), idle()).statement, Some(Statement::Look));
    lease.answered(Answer::Lasts(seconds(0.2)), seconds(1.7));
    assert_eq!(lease.step(seconds(1.7), idle()).wake, Some(seconds(1.9)));
}

#[test]
fn a_relay_that_drains_renews_until_all_is_settled_and_then_releases() {
    let mut lease = owner(10.0);
    let draining = Sight { is_draining: true, has_all_back: false, ..idle() };
    let step = lease.step(seconds(12.0), draining);
    assert_eq!(step.statement, Some(Statement::Renew { epoch: 7 }));
    lease.answered(Answer::Done, seconds(12.1));
    let settled = Sight { has_all_back: true, ..draining };
    let step = lease.step(seconds(12.2), settled);
    assert_eq!((step.statement, step.allowed), (None, None), "the fence is shut before the lease is released");
    let step = lease.step(seconds(12.3), settled);
    assert_eq!(step.statement, Some(Statement::Release { epoch: 7 }));
    lease.answered(Answer::Done, seconds(12.4));
    assert_eq!(lease.step(seconds(12.4), settled), Step { statement: None, allowed: None, wake: None });
}

#[test]
fn a_relay_that_drains_and_is_not_the_owner_is_done_at_once() {
    let mut lease = Lease::new(Terms::new(TIMEOUT));
    let step = lease.step(seconds(1.0), Sight { is_draining: true, ..idle() });
    assert_eq!(step, Step { statement: None, allowed: None, wake: None });
}

/// Renews until `end`, with such a gate. Returns when the tenure ended.
fn renew_until(lease: &mut Lease, from: f64, end: f64, sight: impl Fn(Duration) -> Sight) -> Option<Duration> {
    let mut now = seconds(from);
    while now < seconds(end) {
        let step = lease.step(now, sight(now));
        if step.allowed.is_none() {
            return Some(now);
        }
        if step.statement.is_some() {
            lease.answered(Answer::Done, now);
        }
        now += seconds(0.1);
    }
    None
}

#[test]
fn an_owner_that_cannot_reach_segment_for_longer_than_a_lease_steps_down_if_others_live() {
    let shut = |has_others| move |_| Sight { gate_shut_for: Some(seconds(60.0)), has_others, ..idle() };
    assert_eq!(renew_until(&mut owner(10.0), 10.2, 60.0, shut(false)), None);
    // What was before the tenure does not count.
    let ended = renew_until(&mut owner(10.0), 10.2, 60.0, shut(true)).unwrap();
    assert!(ended > seconds(20.0) && ended < seconds(20.5), "{ended:?}");
    let lately = |now: Duration| Sight { gate_shut_for: now.checked_sub(seconds(30.0)), has_others: true, ..idle() };
    let ended = renew_until(&mut owner(10.0), 10.2, 60.0, lately).unwrap();
    assert!(ended > seconds(40.0) && ended < seconds(40.5), "{ended:?}");
}

#[test]
fn relays_that_all_cannot_reach_segment_hand_the_lease_over_ever_more_rarely_and_one_has_it_mostly() {
    for relays in 2..=4 {
        let (takes, gaps) = model::blocked(relays, seconds(3_600.0));
        let late = takes.iter().filter(|at| **at > seconds(1_800.0)).count();
        assert!(takes.len() >= 2 * relays && takes.len() <= 12 * relays, "{relays}: {takes:?}");
        assert!(late <= 4 * relays, "{relays}: {takes:?}");
        assert!(gaps < seconds(600.0), "{relays} relays: nobody had the lease for {gaps:?}");
    }
}

#[test]
fn no_two_relays_send_at_once_in_a_hundred_thousand_histories() {
    let found = Histories { fault: None, terms: Terms::new(SHORT) }.search(model::cases(100_000));
    assert_eq!(found.overlap, None);
    assert!(found.tenures > found.histories && found.attempts > found.histories, "{found:?}");
}

#[test]
fn the_histories_find_the_fault_when_the_margin_is_taken_out() {
    for reserve in [Duration::ZERO, SHORT] {
        let terms = Terms { reserve, ..Terms::new(SHORT) };
        let found = Histories { fault: None, terms }.search(model::cases(100_000).max(20_000));
        assert!(found.overlap.is_some(), "{reserve:?}: {found:?}");
    }
}

#[test]
fn the_histories_find_the_fault_when_the_end_of_a_renewal_is_taken_for_its_start() {
    let fault = Some(Fault::EndTakenForStart);
    let found = Histories { fault, terms: Terms::new(SHORT) }.search(model::cases(100_000).max(20_000));
    assert!(found.overlap.is_some(), "{found:?}");
}

#[test]
fn the_histories_find_the_fault_when_a_lease_is_released_before_all_calls_are_back() {
    let fault = Some(Fault::ReleasedEarly);
    let found = Histories { fault, terms: Terms::new(SHORT) }.search(model::cases(100_000).max(20_000));
    assert!(found.overlap.is_some(), "{found:?}");
}
