//! Tests of the delivery loop: a fake store whose answers are set, and a Segment that accepts everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Delivery;
use crate::config::{WriteKeys, from_variables};
use crate::metrics::Metrics;
use crate::outbox::{Append, Appended, CallId, Outbox, OutboxError, OutboxStats, StoredCall};
use crate::publisher::LiveClients;
use crate::segment::{Call, CallOutcome, SendFence, SettledCall, boot_time};
use crate::supervisor::Supervisor;

type Calls = Result<Vec<StoredCall>, OutboxError>;

/// What the fake store answers from now on, and what it was asked.
#[derive(Default)]
struct Script {
    /// Answers of `next`. After the last one it waits.
    next: VecDeque<Calls>,
    /// Answers of `next_parked`. After the last one no user is due.
    parked: VecDeque<Calls>,
    /// Answers of `settle`. After the last one it succeeds.
    settle: VecDeque<OutboxError>,
    parked_users: u64,
    nexts: Vec<Instant>,
    /// Whether each `next_parked` was early.
    parked_asked: Vec<bool>,
    settled: Vec<Vec<SettledCall>>,
    fence: Option<Arc<SendFence>>,
}

#[derive(Default)]
struct FakeStore(Mutex<Script>);

#[async_trait]
impl Outbox for FakeStore {
    async fn append(&self, _append: Append, _deadline: Instant) -> Result<Appended, OutboxError> {
        Err(OutboxError::Closed)
    }

    async fn append_group(
        &self,
        group: Vec<Append>,
        _is_all_or_nothing: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<Appended, OutboxError>>, OutboxError> {
        let mut results = Vec::new();
        for append in group {
            results.push(self.append(append, deadline).await);
        }
        Ok(results)
    }

    async fn settle(&self, delivered: Arc<[SettledCall]>) -> Result<(), OutboxError> {
        let script = &mut *self.0.lock();
        script.settled.push(delivered.to_vec());
        script.settle.pop_front().map_or(Ok(()), Err)
    }

    async fn next(&self, room: usize) -> Calls {
        assert!(room > 0);
        let answer = {
            let script = &mut *self.0.lock();
            script.nexts.push(Instant::now());
            script.next.pop_front()
        };
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn next_parked(&self, limit: usize, early: bool) -> Calls {
        assert!(limit > 0);
        let script = &mut *self.0.lock();
        script.parked_asked.push(early);
        script.parked.pop_front().unwrap_or_else(|| Ok(Vec::new()))
    }

    fn stats(&self) -> OutboxStats {
        OutboxStats { parked_users: self.0.lock().parked_users, ..OutboxStats::default() }
    }

    fn fence(&self) -> Option<Arc<SendFence>> {
        self.0.lock().fence.clone()
    }

    async fn close(&self) {}
}

fn stored(id: CallId, is_parked: bool) -> StoredCall {
    let user_id: Arc<str> = format!("c-{id}").into();
    let json = format!(r#"{{"type":"identify","messageId":"m-{id}","userId":"{user_id}","traits":{{}}}}"#);
    StoredCall { id, call: Call::from_wire(user_id, None, json.into_bytes().into()), is_parked }
}

fn accepted(id: CallId) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::Accepted }
}

/// Starts delivery from a store with this script, to a Segment that accepts everything.
async fn start(script: Script) -> (Arc<FakeStore>, Supervisor) {
    start_to(script, Router::new().fallback(async || r#"{"success":true}"#)).await
}

async fn start_to(script: Script, segment: Router) -> (Arc<FakeStore>, Supervisor) {
    let (store, _, supervisor) = start_with_clients(script, segment).await;
    (store, supervisor)
}

async fn start_with_clients(script: Script, segment: Router) -> (Arc<FakeStore>, Arc<LiveClients>, Supervisor) {
    let supervisor = Supervisor::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    supervisor.spawn("segment", async { axum::serve(listener, segment).await.unwrap() });
    let variables = [("SEGMENT_WRITE_KEY", "wk"), ("SEGMENT_ENDPOINT", &*endpoint)];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = from_variables(variables).unwrap().segment;
    let pace = settings.max_requests_per_second;
    let write_keys = WriteKeys::new(settings.write_key.clone());
    let clients = LiveClients::start(settings, &write_keys, Arc::new(Metrics::new().unwrap()), &supervisor).unwrap();
    let (store, clients) = (Arc::new(FakeStore(Mutex::new(script))), Arc::new(clients));
    Delivery::start(store.clone(), clients.clone(), pace, &supervisor);
    (store, clients, supervisor)
}

/// Waits until the store was asked for this.
async fn until(store: &FakeStore, condition: impl Fn(&Script) -> bool) {
    let begun = Instant::now();
    while !condition(&store.0.lock()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn accepted_calls_are_settled_and_more_is_asked_for_at_once() {
    let next = VecDeque::from([Ok(vec![stored(1, false), stored(2, false)]), Ok(vec![stored(3, false)])]);
    let (store, _supervisor) = start(Script { next, ..Script::default() }).await;
    until(&store, |script| script.settled.concat().len() == 3).await;
    let mut settled = store.0.lock().settled.concat();
    settled.sort_by_key(|call| call.id);
    assert_eq!(settled, [accepted(1), accepted(2), accepted(3)]);
    assert_eq!(store.0.lock().nexts.len(), 3, "the third one waits");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_asked_again_after_a_pause() {
    let next = VecDeque::from([Err(OutboxError::Unreadable), Err(OutboxError::Full), Ok(vec![stored(1, false)])]);
    let (store, supervisor) = start(Script { next, ..Script::default() }).await;
    until(&store, |script| script.settled == [[accepted(1)]]).await;
    let nexts = &store.0.lock().nexts;
    assert!(nexts[1] - nexts[0] >= super::STORE_RETRY_PAUSE && nexts[2] - nexts[1] >= super::STORE_RETRY_PAUSE);
    assert!(!supervisor.has_failed());
}

#[tokio::test]
async fn a_closed_store_ends_the_process_and_is_not_asked_again() {
    for error in [OutboxError::Closed, OutboxError::Unconfirmed] {
        let (store, supervisor) = start(Script { next: [Err(error)].into(), ..Script::default() }).await;
        until(&store, |_| supervisor.has_failed()).await;
        assert_eq!(store.0.lock().nexts.len(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_settlement_for_which_there_is_no_space_is_tried_again() {
    let script =
        Script { next: [Ok(vec![stored(1, false)])].into(), settle: [OutboxError::Full].into(), ..Script::default() };
    let (store, supervisor) = start(script).await;
    until(&store, |script| script.settled == [[accepted(1)], [accepted(1)]]).await;
    assert!(!supervisor.has_failed());
}

#[tokio::test]
async fn nobody_asks_for_parked_calls_while_no_user_is_parked() {
    let (store, _supervisor) = start(Script { next: [Ok(vec![stored(1, false)])].into(), ..Script::default() }).await;
    until(&store, |script| script.settled == [[accepted(1)]]).await;
    assert!(store.0.lock().parked_asked.is_empty());
}

#[tokio::test]
async fn a_parked_call_that_is_accepted_lets_others_come_before_they_are_due() {
    let parked = VecDeque::from([Err(OutboxError::Full), Ok(vec![stored(1, true)]), Ok(vec![stored(2, true)])]);
    let (store, supervisor) = start(Script { parked, parked_users: 2, ..Script::default() }).await;
    until(&store, |script| script.settled.concat().len() == 2 && script.parked_asked.contains(&true)).await;
    assert_eq!(store.0.lock().parked_asked[..2], [false, false], "nothing was accepted before");
    assert!(!supervisor.has_failed());
}

#[tokio::test]
async fn a_process_that_drains_settles_what_is_out_and_takes_nothing_more() {
    let script = Script { next: [Ok(vec![stored(1, false)])].into(), parked_users: 1, ..Script::default() };
    let (store, supervisor) = start(script).await;
    until(&store, |script| script.settled == [[accepted(1)]]).await;
    supervisor.cancel();
    until(&store, |_| Arc::strong_count(&store) == 1).await;
    assert!(!supervisor.has_failed());
    assert_eq!(store.0.lock().nexts.len(), 2);
}

fn taken_back(id: CallId) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::TakenBack }
}

fn fence_until(until: Duration) -> Arc<SendFence> {
    let fence = Arc::new(SendFence::new_shut());
    fence.allow(1, until);
    assert!(fence.open(1));
    fence
}

#[tokio::test]
async fn calls_go_back_unsent_when_the_time_of_the_fence_is_over() {
    let requests = Arc::new(Mutex::new(0));
    let count = requests.clone();
    let segment = Router::new().fallback(async move || {
        *count.lock() += 1;
        r#"{"success":true}"#
    });
    // The time is over before the first look.
    let fence = Some(fence_until(boot_time()));
    let next = VecDeque::from([Ok(vec![stored(1, false)]), Ok(vec![stored(2, false)])]);
    let (store, _supervisor) = start_to(Script { next, fence, ..Script::default() }, segment).await;
    until(&store, |script| script.settled.concat().len() == 2).await;
    let mut settled = store.0.lock().settled.concat();
    settled.sort_by_key(|call| call.id);
    assert_eq!(settled, [taken_back(1), taken_back(2)]);
    assert_eq!(*requests.lock(), 0);
}

#[tokio::test]
async fn a_request_in_flight_ends_by_itself_when_the_fence_shuts_and_what_waits_for_a_retry_goes_back() {
    let (is_there, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let segment = {
        let (is_there, answer) = (is_there.clone(), answer.clone());
        Router::new().fallback(async move || {
            is_there.notify_one();
            answer.notified().await;
            StatusCode::SERVICE_UNAVAILABLE
        })
    };
    let fence = fence_until(boot_time() + Duration::from_secs(3_600));
    let script = Script { next: [Ok(vec![stored(1, false)])].into(), fence: Some(fence.clone()), ..Script::default() };
    let (store, _supervisor) = start_to(script, segment).await;
    // The first failure is followed by a pause, after which the second attempt starts.
    for _ in 0..2 {
        is_there.notified().await;
        assert!(store.0.lock().settled.is_empty());
        answer.notify_one();
    }
    is_there.notified().await;
    fence.shut();
    answer.notify_one();
    until(&store, |script| script.settled == [[taken_back(1)]]).await;
}

#[tokio::test]
async fn a_call_that_waits_behind_a_shut_gate_goes_back_when_the_fence_shuts() {
    let segment = Router::new().fallback(async || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "200")]));
    let fence = fence_until(boot_time() + Duration::from_secs(3_600));
    let script = Script { next: [Ok(vec![stored(1, false)])].into(), fence: Some(fence.clone()), ..Script::default() };
    let (store, clients, _supervisor) = start_with_clients(script, segment).await;
    until(&store, |_| clients.gate_shut_until().is_some()).await;
    assert_eq!(clients.outage_lasts(), None, "Segment is there");
    fence.shut();
    until(&store, |script| script.settled == [[taken_back(1)]]).await;
}
