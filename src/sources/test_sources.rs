//! Sources, filters and a store of events for tests, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::event::Filters;
use super::mapping::{Event, Filter, MapError};
use super::settings::SourceSettings;
use crate::auth::{Scheme, Verifier};
use crate::outbox::{Append, Appended, Events, KeptEvent, OutboxError};

/// A source for everyone, whose filter is run by [`FakeFilters`].
pub(crate) fn source(name: &str) -> SourceSettings {
    let filter = Filter { place: format!("{name}.jq"), text: ".".to_owned() };
    SourceSettings { filter: Some(Arc::new(filter)), ..own_payload(name) }
}

/// A source for everyone without a filter.
pub(crate) fn own_payload(name: &str) -> SourceSettings {
    SourceSettings {
        name: name.into(),
        verify: "none".to_owned(),
        scheme: Scheme::None,
        verifier: Verifier::new(&Scheme::None, &[], None).unwrap(),
        challenge: None,
        filter: None,
        key: Vec::new(),
        window: Duration::from_hours(192),
        write_key: None,
        answer: None,
        max_body: 256 * 1024,
        on_error: None,
        examples: Vec::new(),
    }
}

/// An event with this body.
pub(crate) fn event(body: &str) -> Event {
    Event { headers: Vec::new(), body: Bytes::copy_from_slice(body.as_bytes()), received_at: 1_700_000_000_007 }
}

/// What every filter makes of every event. They run one at a time.
pub(crate) struct FakeFilters(pub(crate) Mutex<Result<Vec<&'static str>, MapError>>, Arc<Semaphore>);

impl FakeFilters {
    pub(crate) fn making(made: Result<Vec<&'static str>, MapError>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(made), Arc::new(Semaphore::new(1))))
    }

    /// Filters hang until this is dropped.
    pub(crate) fn hang(&self) -> OwnedSemaphorePermit {
        self.1.clone().try_acquire_owned().unwrap()
    }
}

#[async_trait]
impl Filters for FakeFilters {
    async fn run(&self, _source: &str, _filter: &Arc<Filter>, _event: Event) -> Result<Vec<Bytes>, MapError> {
        let _runs = self.1.acquire().await.unwrap();
        self.0.lock().clone().map(|texts| texts.into_iter().map(|text| Bytes::from_static(text.as_bytes())).collect())
    }
}

/// Events that are dead letters, and the calls that took the place of some.
#[derive(Default)]
pub(crate) struct FakeEvents {
    pub(crate) kept: Mutex<Vec<(i64, KeptEvent)>>,
    pub(crate) calls: Mutex<Vec<Append>>,
    pub(crate) trouble: Mutex<Option<OutboxError>>,
    last_id: AtomicI64,
}

impl FakeEvents {
    /// Keeps an event of this source, without headers and key.
    pub(crate) async fn keep_one(&self, source: &str) {
        let event = KeptEvent {
            source: source.into(),
            headers: Vec::new(),
            body: Bytes::from_static(br#"{"id":7}"#),
            received_at: 1_700_000_000_007,
            reason: "as it was".to_owned(),
            key: None,
        };
        self.keep(event, Instant::now()).await.unwrap();
    }

    fn in_order(&self) -> Result<(), OutboxError> {
        (*self.trouble.lock()).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Events for FakeEvents {
    async fn keep(&self, event: KeptEvent, _deadline: Instant) -> Result<(), OutboxError> {
        self.in_order()?;
        let mut kept = self.kept.lock();
        let is_there = event.key.is_some() && kept.iter().any(|(_, own)| own.key == event.key);
        if !is_there {
            kept.push((self.last_id.fetch_add(1, Ordering::Relaxed) + 1, event));
        }
        Ok(())
    }

    async fn find(&self, id: i64) -> Result<Option<KeptEvent>, OutboxError> {
        Ok(self.kept.lock().iter().find(|(own, _)| *own == id).map(|(_, event)| event.clone()))
    }

    async fn replace(&self, id: i64, calls: Vec<Append>) -> Result<Option<Vec<Appended>>, OutboxError> {
        self.in_order()?;
        let mut kept = self.kept.lock();
        let Some(index) = kept.iter().position(|(own, _)| *own == id) else { return Ok(None) };
        kept.remove(index);
        let appended = calls.iter().map(|_| Appended { replayed: false, outcome: None }).collect();
        self.calls.lock().extend(calls);
        Ok(Some(appended))
    }

    async fn note_reason(&self, id: i64, reason: String) -> Result<(), OutboxError> {
        self.kept
            .lock()
            .iter_mut()
            .filter(|(own, _)| *own == id)
            .for_each(|(_, event)| event.reason.clone_from(&reason));
        Ok(())
    }
}
