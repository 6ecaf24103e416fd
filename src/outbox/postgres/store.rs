//! [`PostgresOutbox`]: prepares the database, starts the tasks, and hands each request to the part that answers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use tokio::sync::watch as channel;
use tokio::time::Instant;

use super::append::Appender;
use super::asking::{Users, Verb, count};
use super::commands::DelivererHandle;
use super::connect::{Connection, Connector};
use super::database_error::{DatabaseError, ErrorKind};
use super::deliverer;
use super::forget_requests::AskToForget;
use super::lease::Tenure;
use super::lease_keeper::LeaseKeeper;
use super::queue::Appends;
use super::schema::{self, MIGRATIONS};
use super::server;
use super::shared::{Reopening, Shared};
use super::watch;
use crate::config::{OutboxSettings, PostgresUrl};
use crate::metrics::Metrics;
use crate::outbox::limits::check_size;
use crate::outbox::wishes::Wish;
use crate::outbox::{
    Append, Appended, FleetReport, ForgetRequests, Forgetting, Outbox, OutboxError, OutboxStats, ParkedFilter,
    ParkedUser, ParkedUsers, PersonStore, SourceStats, Store, StoredCall,
};
use crate::segment::{SendFence, SettledCall};
use crate::supervisor::Supervisor;

/// How long the start waits for a database that cannot be reached: as long as one takes that starts beside the relay.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// For how long Segment cannot be reached, if it cannot.
pub type OutageLasts = Box<dyn Fn() -> Option<Duration> + Send + Sync>;

/// The outbox in a PostgreSQL database.
pub struct PostgresOutbox {
    pub(super) shared: Arc<Shared>,
    appends: Appends,
    pub(super) deliverer: DelivererHandle,
}

impl PostgresOutbox {
    /// Opens the outbox, or creates a new one, and starts its tasks. This relay delivers when it is its turn; one for which Segment's
    /// `outage_lasts` lets another try.
    ///
    /// # Errors
    /// If the database cannot be used. The error is for the operator, and names the server without the password.
    pub async fn open(
        url: &PostgresUrl,
        settings: &OutboxSettings,
        segment_timeout: Duration,
        outage_lasts: OutageLasts,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Arc<Self>> {
        let shared = Arc::new(Shared::new(Connector::new(url)?, settings, metrics, supervisor.clone()));
        let connection = prepare(&shared).await.with_context(|| format!("the outbox {url} cannot be used"))?;
        let (tenure, changes) = channel::channel(None);
        let store = Self::start(&shared, connection, changes);
        let returns = shared.clone();
        let keeper = LeaseKeeper {
            connector: shared.connector.clone(),
            relay: shared.relay,
            name: host_name(),
            segment_timeout,
            fence: shared.fence.clone(),
            tenure,
            gate_shut_for: outage_lasts,
            has_all_back: Box::new(move || returns.has_all_back.load(Ordering::Acquire)),
            supervisor: supervisor.clone(),
        };
        keeper.start();
        Ok(store)
    }

    /// Starts the tasks over a database that is prepared.
    pub(super) fn start(
        shared: &Arc<Shared>,
        connection: Connection,
        tenure: channel::Receiver<Option<Tenure>>,
    ) -> Arc<Self> {
        let (appends, queue) = Appends::new(shared);
        shared.start("appender", Appender::new(shared, queue, connection).run());
        shared.start("figures", watch::run(shared.clone()));
        let deliverer = deliverer::start(shared, tenure);
        Arc::new(Self { shared: shared.clone(), appends, deliverer })
    }

    /// Asks the relay that delivers to do something with parked users.
    async fn act_on_parked(&self, wish: Wish, users: Users) -> Result<u64, OutboxError> {
        let answer = self.shared.ask(&Verb::Users(wish, users)).await?;
        Ok(count(&answer))
    }
}

#[async_trait]
impl Outbox for PostgresOutbox {
    async fn append(&self, append: Append, deadline: Instant) -> Result<Appended, OutboxError> {
        self.appends.store(vec![append], false, deadline).await?.pop().unwrap_or(Err(OutboxError::Unconfirmed))
    }

    async fn append_group(
        &self,
        group: Vec<Append>,
        is_all_or_nothing: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<Appended, OutboxError>>, OutboxError> {
        check_size(&group)?;
        if group.is_empty() {
            return Ok(Vec::new());
        }
        self.appends.store(group, is_all_or_nothing, deadline).await
    }

    async fn settle(&self, delivered: Arc<[SettledCall]>) -> Result<(), OutboxError> {
        self.deliverer.settle(delivered).await
    }

    async fn next(&self, room: usize) -> Result<Vec<StoredCall>, OutboxError> {
        self.deliverer.next(room).await
    }

    async fn next_parked(&self, limit: usize, early: bool) -> Result<Vec<StoredCall>, OutboxError> {
        self.deliverer.next_parked(limit, early).await
    }

    fn stats(&self) -> OutboxStats {
        self.shared.figures.lock().stats()
    }

    fn fence(&self) -> Option<Arc<SendFence>> {
        Some(self.shared.fence.clone())
    }

    async fn delivery_ended(&self) {
        self.deliverer.delivery_ended().await;
    }

    async fn close(&self) {
        self.shared.close().await;
    }
}

#[async_trait]
impl ParkedUsers for PostgresOutbox {
    async fn list(
        &self,
        limit: usize,
        before: Option<i64>,
        user_id: Option<String>,
    ) -> Result<Vec<ParkedUser>, OutboxError> {
        self.shared.list_parked(limit, before, user_id.as_deref()).await
    }

    async fn retry(&self, id: i64) -> Result<bool, OutboxError> {
        self.act_on_parked(Wish::Retry, Users::One(id)).await.map(|users| users > 0)
    }

    async fn retry_all(&self, filter: ParkedFilter) -> Result<u64, OutboxError> {
        self.act_on_parked(Wish::Retry, Users::All(filter)).await
    }

    async fn give_up(&self, id: i64) -> Result<bool, OutboxError> {
        self.act_on_parked(Wish::GiveUp, Users::One(id)).await.map(|users| users > 0)
    }

    async fn give_up_all(&self, filter: ParkedFilter) -> Result<u64, OutboxError> {
        self.act_on_parked(Wish::GiveUp, Users::All(filter)).await
    }
}

impl Store for PostgresOutbox {
    fn set_key_windows(&self, windows: BTreeMap<Arc<str>, Duration>) {
        self.shared.figures.lock().has_sources = !windows.is_empty();
        *self.shared.windows.lock() = Some(windows);
    }

    fn source_stats(&self) -> Vec<SourceStats> {
        self.shared.figures.lock().source_stats()
    }

    fn fleet(&self) -> Option<FleetReport> {
        Some(self.shared.fleet_report())
    }

    fn persons(self: Arc<Self>) -> Option<Arc<dyn PersonStore>> {
        Some(Arc::new(self.deliverer.clone()))
    }

    fn forget_requests(self: Arc<Self>) -> Option<Arc<dyn ForgetRequests>> {
        Some(Arc::new(self.deliverer.clone()))
    }

    fn forgetting(self: Arc<Self>) -> Option<Arc<dyn Forgetting>> {
        Some(Arc::new(AskToForget(self.shared.clone())))
    }
}

/// This machine's name, or that of its container, as operators know it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// Waits for the database, makes its tables or migrates them, and reads the figures. Returns the connection for appends.
pub(super) async fn prepare(shared: &Shared) -> anyhow::Result<Connection> {
    let (mut reopening, end) = (Reopening::new("appends"), Instant::now() + START_PATIENCE);
    loop {
        let prepared = async {
            let connection = reopening.attempt(&shared.connector).await?;
            server::refuse_unsafe(&connection).await?;
            schema::prepare(&connection, MIGRATIONS).await?;
            shared.read_figures(&connection).await?;
            anyhow::Ok(connection)
        };
        match prepared.await {
            Err(error) if Instant::now() < end && is_passing(&error) => reopening.pause().await,
            prepared => return prepared,
        }
    }
}

/// Whether another attempt may work.
fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<DatabaseError>().is_some_and(|error| match error.kind() {
        ErrorKind::Lost => true,
        ErrorKind::Connect => !error.is_final(),
        ErrorKind::Refused(_) => false,
    })
}
