//! Vacuum: this relay vacuums the tables itself while it delivers. Autovacuum comes once a minute, and at 5,000 calls a second 300,000 dead
//! rows come between two of its visits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connect::Connection;
use super::database_error::{DatabaseError, ErrorKind};
use super::lease::Tenure;
use super::shared::{Reopening, Shared};

/// Between two sweeps.
const INTERVAL: Duration = Duration::from_secs(10);

/// So many settled calls begin one earlier.
const SETTLED: u64 = 50_000;

/// The time limit of one table. It takes milliseconds if nothing is in its way, and longer after an old transaction has ended.
const LIMIT: Duration = Duration::from_secs(600);

const TABLES: [&str; 8] =
    ["calls", "parked_calls", "parked", "keys", "settled_keys", "tallies", "groups", "dead_letters"];

/// What the deliverer tells its vacuum.
#[derive(Default)]
pub(super) struct Vacuum {
    settled: AtomicU64,
    is_due: Notify,
}

impl Vacuum {
    /// So many calls were settled.
    pub(super) fn note_settled(&self, calls: u64) {
        if self.settled.fetch_add(calls, Ordering::Relaxed) + calls >= SETTLED {
            self.settled.store(0, Ordering::Relaxed);
            self.is_due.notify_one();
        }
    }
}

/// Starts to sweep the tables while this relay delivers.
pub(super) fn start(shared: &Arc<Shared>, tenure: watch::Receiver<Option<Tenure>>) -> Arc<Vacuum> {
    let vacuum = Arc::new(Vacuum::default());
    let (of_task, vacuum_of_task) = (shared.clone(), vacuum.clone());
    shared.start("vacuum", async move {
        tokio::select! {
            () = run(&of_task, tenure, &vacuum_of_task) => {}
            () = of_task.closing.cancelled() => {}
        }
    });
    vacuum
}

async fn run(shared: &Shared, mut tenure: watch::Receiver<Option<Tenure>>, vacuum: &Vacuum) {
    let (mut reopening, mut connection, mut has_warned) = (Reopening::new("vacuum"), None, false);
    loop {
        if tenure.wait_for(Option::is_some).await.is_err() {
            // The store is closed.
            return;
        }
        let open = match connection.take() {
            Some(connection) => connection,
            None => reopening.open(&shared.connector).await.with_limit(LIMIT),
        };
        match sweep(&open).await {
            Ok(()) => (connection, has_warned) = (Some(open), false),
            Err(error) => {
                if !std::mem::replace(&mut has_warned, true) {
                    tracing::warn!(%error, "the outbox's tables could not be vacuumed");
                }
                if matches!(error.kind(), ErrorKind::Refused(_)) {
                    connection = Some(open);
                }
            }
        }
        let _ = timeout(INTERVAL, vacuum.is_due.notified()).await;
        if tenure.borrow().is_none() {
            connection = None;
        }
    }
}

async fn sweep(connection: &Connection) -> Result<(), DatabaseError> {
    for table in TABLES {
        connection.execute(&format!("VACUUM (TRUNCATE false) segment_relay.{table}"), &[]).await?;
    }
    Ok(())
}
