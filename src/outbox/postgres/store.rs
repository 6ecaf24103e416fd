//! [`PostgresOutbox`]: prepares the database, starts the tasks, and hands each request to the part that answers it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::append::Appender;
use super::connect::{Connection, Connector, DatabaseError, ErrorKind};
use super::queue::Appends;
use super::schema::{self, MIGRATIONS};
use super::shared::{Reopening, Shared};
use super::watch;
use crate::config::{OutboxSettings, PostgresUrl};
use crate::metrics::Metrics;
use crate::outbox::limits::check_size;
use crate::outbox::{Append, Appended, OutboxError, OutboxStats};
use crate::supervisor::Supervisor;

/// How long the start waits for a database that cannot be reached: as long as one takes that starts beside the relay.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The outbox in a PostgreSQL database.
pub struct PostgresOutbox {
    pub(super) shared: Arc<Shared>,
    appends: Appends,
}

impl PostgresOutbox {
    /// Opens the outbox, or creates a new one, and starts its tasks.
    ///
    /// # Errors
    /// If the database cannot be used. The error is for the operator, and names the server without the password.
    pub async fn open(
        url: &PostgresUrl,
        settings: &OutboxSettings,
        segment_timeout: Duration,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Arc<Self>> {
        let shared =
            Arc::new(Shared::new(Connector::new(url)?, settings, segment_timeout, metrics, supervisor.clone()));
        let prepared = prepare(&shared).await;
        let connection = prepared.with_context(|| format!("the outbox {url} cannot be used"))?;
        let (appends, queue) = Appends::new(&shared);
        shared.start("appender", Appender::new(&shared, queue, connection).run());
        shared.start("figures", watch::run(shared.clone()));
        Ok(Arc::new(Self { shared, appends }))
    }

    pub(super) async fn append(&self, append: Append, deadline: Instant) -> Result<Appended, OutboxError> {
        self.appends.store(vec![append], false, deadline).await?.pop().unwrap_or(Err(OutboxError::Unconfirmed))
    }

    pub(super) async fn append_group(
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

    pub(super) fn stats(&self) -> OutboxStats {
        self.shared.figures.lock().stats()
    }

    pub(super) async fn close(&self) {
        self.shared.close().await;
    }
}

/// Waits for the database, makes its tables or migrates them, and reads the figures. Returns the connection for appends.
async fn prepare(shared: &Shared) -> anyhow::Result<Connection> {
    let (mut reopening, end) = (Reopening::new("appends"), Instant::now() + START_PATIENCE);
    loop {
        let prepared = async {
            let connection = reopening.attempt(&shared.connector).await?;
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
