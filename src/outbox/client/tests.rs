//! Tests of the client with a fake store whose answers are set by the test.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{OutboxClients, fingerprint};
use crate::config::{Secret, WriteKeys};
use crate::customer::SegmentIdentifyPayload;
use crate::outbox::{Append, Appended, DeliveryOutcome, Outbox, OutboxError, OutboxStats, StoredCall};
use crate::segment::SegmentError;
use crate::segment::{
    DeliveryState, ErrorCode, IdempotencyKey, KeyKind, MessageIds, Receipt, SegmentClients, SettledCall,
};
use crate::supervisor::Supervisor;

const ADA: &str = r#"{"userId":"c-1042","traits":{"plan":"pro"}}"#;
const WAIT: Option<Duration> = Some(Duration::from_secs(5));

/// Records what it was given, and answers as it is set.
#[derive(Default)]
struct FakeStore {
    trouble: Mutex<Option<OutboxError>>,
    replays: Mutex<bool>,
    appended: Mutex<Vec<Append>>,
    watching: Mutex<Vec<oneshot::Sender<DeliveryOutcome>>>,
}

#[async_trait]
impl Outbox for FakeStore {
    async fn append(&self, append: Append, _deadline: Instant) -> Result<Appended, OutboxError> {
        if let Some(trouble) = *self.trouble.lock() {
            return Err(trouble);
        }
        let outcome = append.watch.then(|| {
            let (sender, receiver) = oneshot::channel();
            self.watching.lock().push(sender);
            receiver
        });
        self.appended.lock().push(append);
        Ok(Appended { replayed: *self.replays.lock(), outcome })
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

    async fn settle(&self, _delivered: Arc<[SettledCall]>) -> Result<(), OutboxError> {
        Err(OutboxError::Closed)
    }

    async fn next(&self, _room: usize) -> Result<Vec<StoredCall>, OutboxError> {
        Err(OutboxError::Unreadable)
    }

    async fn next_parked(&self, _limit: usize, _early: bool) -> Result<Vec<StoredCall>, OutboxError> {
        Err(OutboxError::Unreadable)
    }

    fn stats(&self) -> OutboxStats {
        OutboxStats::default()
    }

    async fn close(&self) {}
}

struct Fixture {
    store: Arc<FakeStore>,
    clients: OutboxClients,
    supervisor: Supervisor,
}

impl Fixture {
    fn new() -> Self {
        let (store, supervisor) = (Arc::new(FakeStore::default()), Supervisor::new());
        let clients = OutboxClients::new(
            store.clone(),
            MessageIds::new(&WriteKeys::new(Secret::new("wk"))).unwrap(),
            &supervisor,
        );
        Self { store, clients, supervisor }
    }

    async fn post(&self, body: &str, key: Option<&str>, wait: Option<Duration>) -> Result<Receipt, SegmentError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let key = key.map(|key| IdempotencyKey { kind: KeyKind::WebhookId, value: key.as_bytes().to_vec() });
        let mut client = self.clients.open(deadline, key, wait);
        client.identify(&SegmentIdentifyPayload::parse(body.as_bytes()).unwrap())?;
        client.flush().await
    }

    /// Posts with a wait, and sends the outcome to the watcher.
    async fn post_and_settle(&self, outcome: DeliveryOutcome) -> Result<Receipt, SegmentError> {
        let settle = async {
            while self.store.watching.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            self.store.watching.lock().pop().unwrap().send(outcome).unwrap();
        };
        tokio::join!(self.post(ADA, None, WAIT), settle).0
    }
}

#[tokio::test]
async fn the_receipt_of_a_stored_call_says_stored() {
    let relay = Fixture::new();
    let receipt = relay.post(ADA, None, None).await.unwrap();
    assert_eq!((receipt.state, receipt.replayed), (DeliveryState::Stored, false));
    let appended = relay.store.appended.lock();
    let sent = std::str::from_utf8(appended[0].call.json()).unwrap();
    assert!(sent.contains(&receipt.message_id) && !appended[0].watch && appended[0].key.is_none());
}

#[tokio::test]
async fn a_key_has_one_record_per_user() {
    let relay = Fixture::new();
    for body in [ADA, ADA, r#"{"userId":"c-2","traits":{"plan":"pro"}}"#] {
        relay.post(body, Some("msg_1"), None).await.unwrap();
    }
    let records: Vec<_> = relay.store.appended.lock().iter().map(|append| append.key.unwrap()).collect();
    assert_eq!(records[0], records[1]);
    assert!(records[0].key != records[2].key && records[0].body != records[2].body);
}

#[tokio::test]
async fn a_repeated_call_is_marked_as_replayed() {
    let relay = Fixture::new();
    *relay.store.replays.lock() = true;
    assert!(relay.post(ADA, Some("msg_1"), None).await.unwrap().replayed);
}

#[tokio::test]
async fn a_waiting_caller_gets_the_outcome() {
    let relay = Fixture::new();
    assert_eq!(relay.post_and_settle(DeliveryOutcome::Accepted).await.unwrap().state, DeliveryState::Accepted);
    let refused = relay.post_and_settle(DeliveryOutcome::Refused("no such plan".to_owned())).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (ErrorCode::Rejected, "no such plan"));
    let gave_up = relay.post_and_settle(DeliveryOutcome::GaveUp("Segment answered 503".to_owned())).await.unwrap_err();
    assert_eq!(gave_up.code, ErrorCode::GaveUp);
    assert!(
        gave_up.message.starts_with("the relay gave this call up")
            && gave_up.message.ends_with(": Segment answered 503")
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_returns_stored() {
    let relay = Fixture::new();
    let begun = Instant::now();
    assert_eq!(relay.post(ADA, None, WAIT).await.unwrap().state, DeliveryState::Stored);
    assert_eq!(Some(begun.elapsed().as_secs()), WAIT.map(|wait| wait.as_secs()));
    // A wait never exceeds the deadline.
    assert_eq!(relay.post(ADA, None, Some(Duration::MAX)).await.unwrap().state, DeliveryState::Stored);
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_wait_returns_stored_when_the_relay_drains() {
    let relay = Fixture::new();
    relay.supervisor.cancel();
    let begun = Instant::now();
    assert_eq!(relay.post(ADA, None, WAIT).await.unwrap().state, DeliveryState::Stored);
    assert!(begun.elapsed().is_zero());
}

#[tokio::test]
async fn every_store_error_has_an_error_code() {
    let relay = Fixture::new();
    for (trouble, code, can_wait) in [
        (OutboxError::Full, ErrorCode::Overloaded, true),
        (OutboxError::Busy, ErrorCode::Overloaded, true),
        (OutboxError::Away, ErrorCode::Overloaded, true),
        (OutboxError::KeyReused, ErrorCode::KeyReused, false),
        (OutboxError::Unconfirmed, ErrorCode::OutboxTimeout, true),
        (OutboxError::Closed, ErrorCode::ShuttingDown, true),
    ] {
        *relay.store.trouble.lock() = Some(trouble);
        let error = relay.post(ADA, Some("msg_1"), WAIT).await.unwrap_err();
        assert_eq!((error.code, error.retry_after.is_some()), (code, can_wait), "{trouble}");
    }
}

#[test]
fn a_payload_without_a_body_has_a_fingerprint() {
    let parsed = SegmentIdentifyPayload::parse(ADA.as_bytes()).unwrap();
    let made = SegmentIdentifyPayload { body: None, ..parsed.clone() };
    assert_eq!(fingerprint(&made), fingerprint(&made.clone()));
    let other = SegmentIdentifyPayload { user_id: "c-2".into(), ..made.clone() };
    assert!(fingerprint(&made) != fingerprint(&other) && fingerprint(&made) != fingerprint(&parsed));
}
