//! [`PostgresOutbox`]: prepares the database, starts the tasks, and hands each request to the part that answers it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::connect::{Connection, Connector, DatabaseError, ErrorKind};
use super::schema::{self, MIGRATIONS};
use super::shared::{Reopening, Shared};
use crate::config::{OutboxSettings, PostgresUrl};
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// How long the start waits for a database that cannot be reached: as long as one takes that starts beside the relay.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The outbox in a PostgreSQL database.
pub struct PostgresOutbox {
    pub(super) shared: Arc<Shared>,
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
        let connector = Connector::new(url)?;
        let shared = Arc::new(Shared::new(connector, settings, segment_timeout, metrics, supervisor.clone()));
        prepare(&shared.connector).await.with_context(|| format!("the outbox {url} cannot be used"))?;
        Ok(Arc::new(Self { shared }))
    }
}

/// Waits for the database, and makes its tables or migrates them.
async fn prepare(connector: &Connector) -> anyhow::Result<Connection> {
    let (mut reopening, end) = (Reopening::new("start"), Instant::now() + START_PATIENCE);
    loop {
        let prepared = match reopening.attempt(connector).await {
            Ok(connection) => schema::prepare(&connection, MIGRATIONS).await.map(|_version| connection),
            Err(error) => Err(error.into()),
        };
        match prepared {
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
