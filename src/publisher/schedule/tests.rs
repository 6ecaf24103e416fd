//! Tests of the schedule: who goes when, and what an answer leads to. A test answers each request as it likes, under a clock
//! of its own.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Request, Schedule, Step};
use crate::config::{Secret, WriteKeys};
use crate::metrics::Metrics;
use crate::publisher::batch::PendingCall;
use crate::publisher::completion::{Completion, CompletionHandle};
use crate::publisher::retry::ResponseClass;
use crate::publisher::test_calls::{pending_call_with_handle, stored_call_to};
use crate::segment::{CallOutcome, ErrorCode, FailureReason, SegmentError, SettledCall};

struct Fixture {
    schedule: Schedule,
    now: Instant,
    delivered: mpsc::UnboundedSender<SettledCall>,
    outcomes: mpsc::UnboundedReceiver<SettledCall>,
    next_id: i64,
}

fn failure(status: u16) -> ResponseClass {
    let code = if status == 403 { ErrorCode::Unauthorized } else { ErrorCode::Unavailable };
    let error = SegmentError::new(code, "failed").because(FailureReason::Status(status));
    match code {
        ErrorCode::Unauthorized => ResponseClass::ConfigurationError(error),
        _ => ResponseClass::Retryable { error, retry_after: None, outcome_unknown: false },
    }
}

fn named(seconds: u64) -> ResponseClass {
    let error = SegmentError::new(ErrorCode::Unavailable, "failed").because(FailureReason::Status(503));
    ResponseClass::Retryable { error, retry_after: Some(Duration::from_secs(seconds)), outcome_unknown: false }
}

fn users(request: &Request) -> Vec<String> {
    request.batch.iter().map(|pending| pending.call.user_id().to_string()).collect()
}

impl Fixture {
    fn new() -> Self {
        let (delivered, outcomes) = mpsc::unbounded_channel();
        let keys = WriteKeys::new(Secret::new("wk"));
        let (slots, pace) = (NonZeroUsize::new(16).unwrap(), NonZeroU32::new(1_000).unwrap());
        let schedule = Schedule::new(slots, pace, &keys, Arc::new(Metrics::new().unwrap()));
        Self { schedule, now: Instant::now(), delivered, outcomes, next_id: 0 }
    }

    /// Stores a call, and returns its id.
    fn store(&mut self, user_id: &str) -> i64 {
        self.next_id += 1;
        let pending = stored_call_to(user_id, self.next_id, &self.delivered);
        self.schedule.push(pending).unwrap();
        self.next_id
    }

    fn store_parked(&mut self, user_id: &str) -> i64 {
        self.next_id += 1;
        let pending = stored_call_to(user_id, self.next_id, &self.delivered).parked();
        self.schedule.push(pending).unwrap();
        self.next_id
    }

    fn post(&mut self, user_id: &str) -> Result<CompletionHandle, SegmentError> {
        let (pending, handle) = pending_call_with_handle(user_id, "m", 0);
        self.schedule.push(pending).map(|_| handle)
    }

    /// The next request, if one may start within this time.
    fn next_within(&mut self, time: Duration) -> Option<Request> {
        let end = self.now + time;
        loop {
            match self.schedule.next(self.now) {
                Step::Send(request) => return Some(request),
                Step::Wait(Some(until)) if until <= end => {
                    assert!(until > self.now, "a wait that is over");
                    self.now = until;
                }
                Step::Wait(_) => {
                    self.now = end;
                    return None;
                }
            }
        }
    }

    fn next(&mut self) -> Request {
        self.next_within(Duration::from_secs(60)).expect("nothing was sent")
    }

    fn answer(&mut self, request: Request, class: ResponseClass) {
        self.schedule.answered(request, class, self.now);
    }

    /// Answers all requests that start within this time: those that hold a call of a user whose id begins with `stuck` fail.
    /// Returns the number of requests.
    fn run(&mut self, time: Duration, failure: impl Fn() -> ResponseClass) -> usize {
        let end = self.now + time;
        let mut requests = 0;
        while let Some(request) = self.next_within(end.saturating_duration_since(self.now)) {
            requests += 1;
            let is_stuck = users(&request).iter().any(|user| user.starts_with("stuck"));
            self.answer(request, if is_stuck { failure() } else { ResponseClass::Accepted });
        }
        requests
    }

    fn outcomes(&mut self) -> Vec<(i64, CallOutcome)> {
        std::iter::from_fn(|| self.outcomes.try_recv().ok()).map(|settled| (settled.id, settled.outcome)).collect()
    }

    fn accepted(&mut self) -> Vec<i64> {
        self.outcomes().into_iter().filter(|(_, outcome)| *outcome == CallOutcome::Accepted).map(|(id, _)| id).collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn of_five_hundred_calls_to_an_idle_relay_only_the_stuck_one_stays_behind() {
    for status in [500, 403] {
        let mut relay = Fixture::new();
        for number in 0..500 {
            relay.store(&if number == 77 { "stuck".to_owned() } else { format!("c-{number}") });
        }
        relay.run(MINUTE, || failure(status));
        let outcomes = relay.outcomes();
        let parked = outcomes.iter().filter(|(_, outcome)| matches!(outcome, CallOutcome::Parked(_)));
        assert_eq!(parked.map(|(id, _)| *id).collect::<Vec<_>>(), [78]);
        assert_eq!(outcomes.iter().filter(|(_, outcome)| *outcome == CallOutcome::Accepted).count(), 499);
    }
}

#[test]
fn the_calls_behind_a_parked_one_go_back_to_the_store_until_it_knows() {
    let mut relay = Fixture::new();
    relay.store("c-1");
    let [first, second] = [relay.store("stuck"), relay.store("stuck")];
    relay.run(MINUTE, || failure(500));
    let behind = relay.store("stuck");
    let left: Vec<_> = relay.outcomes().into_iter().skip(1).collect();
    assert!(matches!(&left[0], (id, CallOutcome::Parked(trouble)) if *id == first && trouble.status == Some(500)));
    assert_eq!(left[1..], [(second, CallOutcome::Behind), (behind, CallOutcome::Behind)]);
    relay.schedule.queue.confirm_parked(&Arc::from("stuck"));
    let later = relay.store("stuck");
    let request = relay.next();
    relay.answer(request, ResponseClass::Accepted);
    assert_eq!(relay.outcomes(), [(later, CallOutcome::Accepted)]);
}

#[test]
fn a_parked_call_is_sent_once_and_alone_and_shuts_no_gate() {
    let mut relay = Fixture::new();
    for number in 0..10 {
        let parked = relay.store_parked(&format!("stuck-{number}"));
        let request = relay.next();
        assert_eq!(request.batch.len(), 1);
        relay.answer(request, failure(500));
        let outcomes = relay.outcomes();
        assert!(matches!(&outcomes[..], [(id, CallOutcome::Parked(_))] if *id == parked));
        relay.schedule.queue.confirm_parked(&Arc::from(format!("stuck-{number}")));
    }
    assert!(relay.schedule.trouble.shut_until().is_none());
}

#[test]
fn nothing_is_refused_or_parked_in_an_outage_and_all_arrives_after_it() {
    for status in [500, 403] {
        let mut relay = Fixture::new();
        for number in 0..300 {
            relay.store(&format!("stuck-{number}"));
        }
        let requests = relay.run(Duration::from_secs(600), || failure(status));
        assert!(requests < 3 + 8 + 600 / 4, "{requests}");
        assert_eq!(relay.outcomes(), []);
        relay.run(Duration::from_secs(25), || ResponseClass::Accepted);
        assert_eq!(relay.accepted().len(), 300);
    }
}

#[test]
fn a_probe_holds_one_users_calls_and_the_next_one_another_users() {
    let mut relay = Fixture::new();
    for number in 0..100 {
        relay.store(&format!("c-{}", number % 10));
    }
    let mut asked = Vec::new();
    while asked.len() < 10 {
        let request = relay.next();
        if request.is_probe {
            assert_eq!(request.batch.len(), 1);
            asked.push(users(&request)[0].clone());
        }
        relay.answer(request, failure(500));
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 10);
}

#[test]
fn a_stranger_who_comes_in_an_outage_is_the_next_probe() {
    let mut relay = Fixture::new();
    for number in 0..50 {
        relay.store(&format!("stuck-{number}"));
    }
    relay.run(MINUTE, || failure(500));
    let stranger = relay.store("c-1");
    relay.run(Duration::from_secs(5), || failure(500));
    assert!(relay.accepted().contains(&stranger));
}

#[test]
fn the_pause_that_a_failure_names_ends_when_another_request_is_accepted() {
    let mut relay = Fixture::new();
    let paused = relay.store("c-1");
    let request = relay.next();
    relay.answer(request, named(25));
    let stranger = relay.store("c-2");
    let start = relay.now;
    relay.run(Duration::from_secs(2), || failure(500));
    assert_eq!(relay.accepted(), [stranger, paused]);
    assert!(relay.now - start <= Duration::from_secs(2));
}

#[test]
fn without_another_acceptance_the_named_pause_is_waited_out() {
    let mut relay = Fixture::new();
    relay.store("c-1");
    let request = relay.next();
    relay.answer(request, named(25));
    assert!(relay.next_within(Duration::from_secs(24)).is_none());
    assert!(relay.next_within(Duration::from_secs(2)).is_some());
}

#[test]
fn callers_of_one_customers_403_hear_it_at_once_and_others_are_sent() {
    let mut relay = Fixture::new();
    let request = {
        let _first = relay.post("c-0").unwrap();
        let request = relay.next();
        relay.answer(request, ResponseClass::Accepted);
        let handles: Vec<_> = ["c-1", "stuck", "c-2"].map(|user| relay.post(user).unwrap()).into();
        let request = relay.next();
        assert_eq!(request.batch.len(), 3);
        (request, handles)
    };
    let (request, mut handles) = request;
    relay.answer(request, failure(403));
    relay.run(Duration::from_secs(1), || failure(403));
    let outcomes: Vec<_> = handles.iter_mut().map(|handle| handle.try_outcome()).collect();
    assert!(matches!(&outcomes[0], Some(Ok(()))) && matches!(&outcomes[2], Some(Ok(()))), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Some(Err(error)) if error.code == ErrorCode::Unauthorized), "{outcomes:?}");
}

#[test]
fn wrong_credentials_are_told_at_once_after_three_requests_and_one_caller_waits_to_ask() {
    let mut relay = Fixture::new();
    for number in 0..3 {
        let mut handle = relay.post(&format!("c-{number}")).unwrap();
        let request = relay.next();
        relay.answer(request, failure(403));
        assert!(matches!(handle.try_outcome(), Some(Err(error)) if error.code == ErrorCode::Unauthorized));
    }
    let mut asked = relay.post("c-3").unwrap();
    assert_eq!(relay.post("c-4").unwrap_err().code, ErrorCode::Unauthorized);
    let request = relay.next();
    assert!(request.is_probe);
    relay.answer(request, failure(403));
    assert!(matches!(asked.try_outcome(), Some(Err(error)) if error.code == ErrorCode::Unauthorized));
    // The customer who was asked is not asked again, and a stranger is.
    assert!(relay.post("c-3").is_err());
    let mut stranger = relay.post("c-5").unwrap();
    let request = relay.next();
    relay.answer(request, ResponseClass::Accepted);
    assert!(matches!(stranger.try_outcome(), Some(Ok(()))));
    assert!(relay.post("c-3").is_ok());
}

#[test]
fn one_users_refused_call_among_many_is_found_and_the_rest_arrives_in_order() {
    let mut relay = Fixture::new();
    let ids: Vec<i64> = (0..100).map(|_| relay.store("c-1")).collect();
    let mut sent: Vec<i64> = Vec::new();
    while let Some(request) = relay.next_within(MINUTE) {
        let numbers: Vec<i64> = request.batch.iter().map(id_of).collect();
        if numbers.contains(&60) {
            let error = SegmentError::new(ErrorCode::Rejected, "no");
            relay.answer(request, ResponseClass::Refused { error, status: 400 });
        } else {
            sent.extend(numbers);
            relay.answer(request, ResponseClass::Accepted);
        }
    }
    let expected: Vec<i64> = ids.into_iter().filter(|id| *id != 60).collect();
    assert_eq!(sent, expected);
    let refused = relay.outcomes().into_iter().filter(|(_, outcome)| matches!(outcome, CallOutcome::Refused(_)));
    assert_eq!(refused.map(|(id, _)| id).collect::<Vec<_>>(), [60]);
}

fn id_of(pending: &PendingCall) -> i64 {
    match &pending.completion {
        Completion::Stored { id, .. } => *id,
        Completion::Caller { .. } => panic!("not stored"),
    }
}
