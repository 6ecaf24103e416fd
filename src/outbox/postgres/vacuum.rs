//! Vacuum: the tables of calls are swept all the time, because autovacuum comes once a minute, and 300,000 dead rows come between
//! two of its visits. The sizes of the tables and the oldest transaction, which keeps dead rows, are reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connect::{Connection, DatabaseError, ErrorKind};
use super::deliverer::Tenure;
use super::shared::{Reopening, Shared};

/// Between two sweeps.
const INTERVAL: Duration = Duration::from_secs(10);

/// So many settled calls begin one earlier.
const SETTLED: u64 = 50_000;

/// The time limit of one table. It takes milliseconds if nothing is in its way, and longer after an old transaction has ended.
const LIMIT: Duration = Duration::from_secs(600);

const TABLES: [&str; 8] =
    ["calls", "parked_calls", "parked", "keys", "settled_keys", "tallies", "groups", "dead_letters"];

/// Bytes and dead rows of each table, and since when the oldest transaction is open.
const REPORT: &str = "
    SELECT relname::text, pg_total_relation_size(relid), n_dead_tup, NULL::float8 FROM pg_stat_user_tables
    WHERE schemaname = 'segment_relay'
    UNION ALL SELECT NULL, NULL, NULL, extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()";

/// What the deliverer and its vacuum say to each other.
#[derive(Default)]
pub(super) struct Vacuum {
    settled: AtomicU64,
    is_due: Notify,
    report: Mutex<Value>,
}

impl Vacuum {
    /// So many calls were settled.
    pub(super) fn note_settled(&self, calls: u64) {
        if self.settled.fetch_add(calls, Ordering::Relaxed) + calls >= SETTLED {
            self.settled.store(0, Ordering::Relaxed);
            self.is_due.notify_one();
        }
    }

    /// The column `vacuum` of `published`: the bytes and the dead rows of each table, and the age of the oldest transaction.
    pub(super) fn report(&self) -> String {
        let report = self.report.lock();
        if report.is_null() { "{}".to_owned() } else { report.to_string() }
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
        match sweep(&open, vacuum).await {
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

async fn sweep(connection: &Connection, vacuum: &Vacuum) -> Result<(), DatabaseError> {
    for table in TABLES {
        connection.execute(&format!("VACUUM (TRUNCATE false) segment_relay.{table}"), &[]).await?;
    }
    let (mut tables, mut oldest) = (serde_json::Map::new(), None);
    for row in connection.query(REPORT, &[]).await? {
        match row.try_get::<_, Option<&str>>(0) {
            Ok(Some(table)) => {
                let number = |index| row.try_get::<_, Option<i64>>(index).ok().flatten().unwrap_or(0);
                tables.insert(table.to_owned(), json!({ "bytes": number(1), "deadRows": number(2) }));
            }
            _ => oldest = row.try_get::<_, Option<f64>>(3).ok().flatten(),
        }
    }
    *vacuum.report.lock() = json!({ "tables": tables, "oldestTransactionSeconds": oldest });
    Ok(())
}
