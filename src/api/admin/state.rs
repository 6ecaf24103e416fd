//! What the operators' routes share.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::history::History;
use super::report::{OutboxReport, SegmentReport};
use crate::api::error::ApiError;
use crate::auth::Tokens;
use crate::outbox::{Backups, Calls, DeadLetters, FleetReport, Forgetting, ParkedUsers};

/// Pages that are read or sent at once, each of 32 MiB at most: a few operators and their scripts. A request that replays or
/// deletes many letters counts as one.
const MAX_PAGES_IN_PROGRESS: usize = 4;

/// Streams of events that are open at once: a few operators with several windows each.
const MAX_STREAMS: usize = 16;

/// The composition root makes it and injects it.
pub struct AdminState {
    pub(in crate::api) token: RwLock<Tokens>,
    /// `None` without an outbox.
    pub(super) dead_letters: Option<Arc<dyn DeadLetters>>,
    /// `None` without an outbox.
    pub(super) parked: Option<Arc<dyn ParkedUsers>>,
    /// `None` without an outbox.
    pub(super) calls: Option<Arc<dyn Calls>>,
    /// `None` without an outbox.
    pub(super) forgetting: Option<Arc<dyn Forgetting>>,
    /// `None` without an outbox.
    pub(super) backups: Option<Arc<dyn Backups>>,
    pub(super) segment_report: Box<dyn Fn() -> SegmentReport + Send + Sync>,
    pub(super) outbox_report: Box<dyn Fn() -> Option<OutboxReport> + Send + Sync>,
    pub(super) fleet_report: Box<dyn Fn() -> Option<FleetReport> + Send + Sync>,
    pub(super) history: Arc<History>,
    pub(super) stream_permits: Arc<Semaphore>,
    page_permits: Arc<Semaphore>,
    /// One permit: the paces of two replays would add up.
    pub(super) paced_permit: Arc<Semaphore>,
    pub(super) started_at: Timestamp,
    pub(super) started: Instant,
}

impl AdminState {
    /// Requests with `token` may read the status and manage `dead_letters`.
    pub fn new(token: &str, dead_letters: Option<Arc<dyn DeadLetters>>) -> Self {
        Self {
            token: RwLock::new(Tokens::new(&[token])),
            dead_letters,
            parked: None,
            calls: None,
            forgetting: None,
            backups: None,
            segment_report: Box::new(|| SegmentReport::new(String::new(), 0, None)),
            outbox_report: Box::new(|| None),
            fleet_report: Box::new(|| None),
            history: Arc::default(),
            stream_permits: Arc::new(Semaphore::new(MAX_STREAMS)),
            page_permits: Arc::new(Semaphore::new(MAX_PAGES_IN_PROGRESS)),
            paced_permit: Arc::new(Semaphore::new(1)),
            started_at: Timestamp::now(),
            started: Instant::now(),
        }
    }

    /// The right to one of the pages in progress. `refused` says why there is none.
    pub(super) fn page_permit(&self, refused: &'static str) -> Result<OwnedSemaphorePermit, ApiError> {
        self.page_permits.clone().try_acquire_owned().map_err(|_| ApiError::overloaded(refused))
    }

    /// What happened lately. Whoever starts the relay lets it be recorded.
    pub fn history(&self) -> Arc<History> {
        self.history.clone()
    }

    /// Manages the parked users of this outbox.
    #[must_use]
    pub fn with_parked(self, parked: Option<Arc<dyn ParkedUsers>>) -> Self {
        Self { parked, ..self }
    }

    /// Says what became of the calls of this outbox.
    #[must_use]
    pub fn with_calls(self, calls: Option<Arc<dyn Calls>>) -> Self {
        Self { calls, ..self }
    }

    /// Forgets persons of this outbox.
    #[must_use]
    pub fn with_forgetting(self, forgetting: Option<Arc<dyn Forgetting>>) -> Self {
        Self { forgetting, ..self }
    }

    /// Makes copies of this outbox.
    #[must_use]
    pub fn with_backups(self, backups: Option<Arc<dyn Backups>>) -> Self {
        Self { backups, ..self }
    }

    /// Shows the relays that have this outbox.
    #[must_use]
    pub fn with_fleet(self, fleet: impl Fn() -> Option<FleetReport> + Send + Sync + 'static) -> Self {
        Self { fleet_report: Box::new(fleet), ..self }
    }

    /// Takes the reports of the status from these functions.
    #[must_use]
    pub fn with_reports(
        self,
        segment: impl Fn() -> SegmentReport + Send + Sync + 'static,
        outbox: impl Fn() -> Option<OutboxReport> + Send + Sync + 'static,
    ) -> Self {
        Self { segment_report: Box::new(segment), outbox_report: Box::new(outbox), ..self }
    }
}
