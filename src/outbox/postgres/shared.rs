//! What the tasks of the store share, and how they open their connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{Connection, Connector};
use super::database_error::DatabaseError;
use super::figures::Figures;
use super::operator_connections::Operators;
use super::watched::WatchedKeys;
use crate::config::OutboxSettings;
use crate::metrics::Metrics;
use crate::outbox::FleetReport;
use crate::outbox::watchers::Watchers;
use crate::segment::SendFence;
use crate::supervisor::Supervisor;

/// The pause after the first failure to connect. It doubles with each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the tasks of the store share.
pub(super) struct Shared {
    pub(super) connector: Connector,
    /// The name of this relay in the tables: at random, at the start, and greater than 0.
    pub(super) relay: i64,
    pub(super) rules: Rules,
    pub(super) figures: Mutex<Figures>,
    /// The relays that have this outbox, as last read.
    pub(super) fleet: Mutex<FleetReport>,
    /// One reading of the figures at a time, so that a later one ends later.
    pub(super) reading: tokio::sync::Mutex<()>,
    /// The connections for what operators read and change.
    pub(super) operators: Operators,
    pub(super) watchers: Mutex<Watchers>,
    /// The keys of the calls that are watched.
    pub(super) watched: Mutex<WatchedKeys>,
    /// How long the keys of each source are remembered. `None`: it was not said yet.
    pub(super) windows: Mutex<Option<BTreeMap<Arc<str>, Duration>>>,
    /// Notified when an append of this relay was committed.
    pub(super) wake: Notify,
    pub(super) fence: Arc<SendFence>,
    /// Whether all calls that were handed out came back and are settled.
    pub(super) has_all_back: AtomicBool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) supervisor: Supervisor,
    /// Cancelled when the store is closed: each task finishes what it does, and ends.
    pub(super) closing: CancellationToken,
    /// The tasks that have not ended.
    tasks: TaskTracker,
}

/// The settings that the store keeps to.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) max_bytes: u64,
    /// How long a key of `POST /customers` is remembered after its call was accepted.
    pub(super) window: Duration,
    pub(super) dead_letter_retention: Option<Duration>,
    pub(super) give_up_after: Option<Duration>,
}

impl Shared {
    pub(super) fn new(
        connector: Connector,
        settings: &OutboxSettings,
        metrics: Arc<Metrics>,
        supervisor: Supervisor,
    ) -> Self {
        let rules = Rules {
            max_bytes: settings.max_bytes,
            window: settings.window,
            dead_letter_retention: settings.dead_letter_retention,
            give_up_after: settings.give_up_after,
        };
        Self {
            connector,
            relay: fastrand::i64(1..),
            figures: Mutex::new(Figures::new(rules.max_bytes)),
            fleet: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            rules,
            operators: Operators::new(),
            watchers: Mutex::default(),
            watched: Mutex::default(),
            windows: Mutex::default(),
            wake: Notify::new(),
            fence: Arc::new(SendFence::new_shut()),
            has_all_back: AtomicBool::new(true),
            metrics,
            supervisor,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts a task, which ends when the store is closed and not before.
    pub(super) fn start(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (task, supervisor) = (self.tasks.track_future(task), self.supervisor.clone());
        let closing = self.closing.clone();
        self.supervisor.supervise(name, async move {
            task.await;
            if closing.is_cancelled() {
                // A store may be closed before the process drains.
                supervisor.draining().await;
            }
        });
    }

    /// The relays that have this outbox, and how the database is.
    pub(super) fn fleet_report(&self) -> FleetReport {
        let mut report = self.fleet.lock().clone();
        report.database.is_reachable &= !self.figures.lock().is_away;
        if !report.database.is_reachable {
            // What was read last may be long ago. This relay knows of itself whether it still delivers.
            report.delivering = report.delivering.filter(|deliverer| deliverer.is_this && self.fence.may_send());
        }
        report
    }

    /// Closes the store, and waits for the end of its tasks.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.operators.close().await;
        // Their callers hear that no outcome comes.
        *self.watchers.lock() = Watchers::default();
    }
}

/// Opens the connection of one task, again and again if need be.
pub(super) struct Reopening {
    name: &'static str,
    pause: Duration,
    has_logged: bool,
}

impl Reopening {
    /// The server shows the connection under this name.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, pause: FIRST_PAUSE, has_logged: false }
    }

    /// Tries once. The first failure is logged, and so is the end of the failures.
    pub(super) async fn attempt(&mut self, connector: &Connector) -> Result<Connection, DatabaseError> {
        match connector.open(self.name).await {
            Ok(connection) => {
                if std::mem::take(&mut self.has_logged) {
                    tracing::info!(connection = self.name, "the outbox's database can be reached again");
                }
                self.pause = FIRST_PAUSE;
                Ok(connection)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_logged, true) {
                    tracing::warn!(connection = self.name, %error, "the outbox's database cannot be used");
                }
                Err(error)
            }
        }
    }

    /// The pause before the next attempt: it grows, and is up to a quarter longer at random, so that relays do not come together.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.pause.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
    }

    /// Tries until the connection is open.
    pub(super) async fn open(&mut self, connector: &Connector) -> Connection {
        loop {
            match self.attempt(connector).await {
                Ok(connection) => return connection,
                Err(_logged) => self.pause().await,
            }
        }
    }
}
