//! The client over a store in memory that says what it is told to say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{OutboxClients, fingerprint};
use crate::customer::SegmentIdentifyPayload;
use crate::outbox::{Append, Appended, CallId, Contents, Outbox, OutboxError, Outcome, Page, UserFilter};
use crate::segment::SegmentError;
use crate::segment::{
    Delivered, DeliveryState, ErrorCode, IdempotencyKey, KeyKind, MessageIds, Receipt, SegmentClients,
};
use crate::supervisor::Supervisor;

const ADA: &str = r#"{"userId":"c-1042","traits":{"plan":"pro"}}"#;
const WAIT: Option<Duration> = Some(Duration::from_secs(5));

/// What it answers, and what it was given.
#[derive(Default)]
struct Store {
    trouble: Mutex<Option<OutboxError>>,
    replays: Mutex<bool>,
    appended: Mutex<Vec<Append>>,
    watching: Mutex<Vec<oneshot::Sender<Outcome>>>,
}

#[async_trait]
impl Outbox for Store {
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

    async fn settle(&self, _delivered: Arc<[Delivered]>) -> Result<(), OutboxError> {
        Err(OutboxError::Closed)
    }

    async fn page(&self, _from: CallId, _whose: UserFilter, _limit: usize) -> Result<Page, OutboxError> {
        Err(OutboxError::Unreadable)
    }

    fn contents(&self) -> Contents {
        Contents::default()
    }

    async fn close(&self) {}
}

struct Relay {
    store: Arc<Store>,
    clients: OutboxClients,
    supervisor: Supervisor,
}

impl Relay {
    fn new() -> Self {
        let (store, supervisor) = (Arc::new(Store::default()), Supervisor::new());
        let clients = OutboxClients::new(store.clone(), MessageIds::new("wk").unwrap(), &supervisor);
        Self { store, clients, supervisor }
    }

    async fn post(&self, body: &str, key: Option<&str>, wait: Option<Duration>) -> Result<Receipt, SegmentError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let key = key.map(|key| IdempotencyKey { kind: KeyKind::WebhookId, value: key.as_bytes().to_vec() });
        let mut client = self.clients.open(deadline, key, wait);
        client.identify(&SegmentIdentifyPayload::parse(body.as_bytes()).unwrap())?;
        client.flush().await
    }

    /// Posts for a caller who waits, and tells the outcome.
    async fn post_and_settle(&self, outcome: Outcome) -> Result<Receipt, SegmentError> {
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
async fn a_call_that_is_stored_has_a_receipt_that_says_so() {
    let relay = Relay::new();
    let receipt = relay.post(ADA, None, None).await.unwrap();
    assert_eq!((receipt.standing, receipt.replayed), (DeliveryState::Stored, false));
    let appended = relay.store.appended.lock();
    let sent = std::str::from_utf8(appended[0].call.json()).unwrap();
    assert!(sent.contains(&receipt.message_id) && !appended[0].watch && appended[0].key.is_none());
}

#[tokio::test]
async fn one_key_is_one_record_for_one_user_and_another_for_another() {
    let relay = Relay::new();
    for body in [ADA, ADA, r#"{"userId":"c-2","traits":{"plan":"pro"}}"#] {
        relay.post(body, Some("msg_1"), None).await.unwrap();
    }
    let records: Vec<_> = relay.store.appended.lock().iter().map(|append| append.key.unwrap()).collect();
    assert_eq!(records[0], records[1]);
    assert!(records[0].key != records[2].key && records[0].body != records[2].body);
}

#[tokio::test]
async fn a_repeat_is_said_to_be_one() {
    let relay = Relay::new();
    *relay.store.replays.lock() = true;
    assert!(relay.post(ADA, Some("msg_1"), None).await.unwrap().replayed);
}

#[tokio::test]
async fn whoever_waits_hears_the_outcome() {
    let relay = Relay::new();
    assert_eq!(relay.post_and_settle(Outcome::Accepted).await.unwrap().standing, DeliveryState::Accepted);
    let refused = relay.post_and_settle(Outcome::Refused("no such plan".to_owned())).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (ErrorCode::Rejected, "no such plan"));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_waited_long_enough_hears_that_it_is_stored() {
    let relay = Relay::new();
    let begun = Instant::now();
    assert_eq!(relay.post(ADA, None, WAIT).await.unwrap().standing, DeliveryState::Stored);
    assert_eq!(Some(begun.elapsed().as_secs()), WAIT.map(|wait| wait.as_secs()));
    // Never past the deadline, whatever was asked for.
    assert_eq!(relay.post(ADA, None, Some(Duration::MAX)).await.unwrap().standing, DeliveryState::Stored);
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_when_the_grace_is_over_hears_that_it_is_stored() {
    let relay = Relay::new();
    relay.supervisor.cancel();
    let begun = Instant::now();
    assert_eq!(relay.post(ADA, None, WAIT).await.unwrap().standing, DeliveryState::Stored);
    assert!(begun.elapsed().is_zero());
}

#[tokio::test]
async fn whatever_the_store_says_the_caller_hears_what_it_means() {
    let relay = Relay::new();
    for (trouble, code, can_wait) in [
        (OutboxError::Full, ErrorCode::Overloaded, true),
        (OutboxError::Busy, ErrorCode::Overloaded, true),
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
fn a_payload_made_by_a_program_has_a_fingerprint_too() {
    let parsed = SegmentIdentifyPayload::parse(ADA.as_bytes()).unwrap();
    let made = SegmentIdentifyPayload { body: None, ..parsed.clone() };
    assert_eq!(fingerprint(&made), fingerprint(&made.clone()));
    let other = SegmentIdentifyPayload { user_id: "c-2".into(), ..made.clone() };
    assert!(fingerprint(&made) != fingerprint(&other) && fingerprint(&made) != fingerprint(&parsed));
}
