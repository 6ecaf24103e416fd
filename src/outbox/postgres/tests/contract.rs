//! Runs the suite of every store on PostgreSQL, over one relay that delivers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_postgres::types::Type;

use super::{Database, settings};
use crate::config::OutboxSettings;
use crate::metrics::Metrics;
use crate::outbox::postgres::PostgresOutbox;
use crate::outbox::postgres::connect::Connector;
use crate::outbox::postgres::lease::Tenure;
use crate::outbox::postgres::shared::Shared;
use crate::outbox::postgres::store::prepare;
use crate::outbox::suite::{Inspect, StoreFactory, contract};
use crate::outbox::{CallId, DeletedRows, OutboxError, Person, PersonStore, SourceStats, StillOut, Store, StoredCall};
use crate::segment::{Call, boot_time};
use crate::supervisor::Supervisor;

/// A database that is made when it is first opened.
#[derive(Default)]
struct Fresh(tokio::sync::OnceCell<Database>);

#[async_trait]
impl StoreFactory for Fresh {
    type Store = PostgresOutbox;

    async fn open_with_window(&self, window: Duration) -> Arc<PostgresOutbox> {
        let database = self.0.get_or_init(Database::create).await;
        open_delivering(database, &OutboxSettings { window, ..settings() }).await
    }
}

/// Opens the store of a relay that delivers at once and for as long as it is open.
pub(super) async fn open_delivering(database: &Database, settings: &OutboxSettings) -> Arc<PostgresOutbox> {
    let connector = Connector::new(&database.url).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let shared = Arc::new(Shared::new(connector, settings, metrics, Supervisor::new()));
    let connection = prepare(&shared).await.unwrap();
    let sql = "UPDATE segment_relay.lease SET owner = $1, epoch = epoch + 1, expires = 'infinity' RETURNING epoch";
    let epoch = connection.query(sql, &[(&shared.relay, Type::INT8)]).await.unwrap()[0].get(0);
    shared.fence.allow(epoch, boot_time() + Duration::from_secs(3600));
    let (_tenure, changes) = watch::channel(Some(Tenure { epoch }));
    PostgresOutbox::start(&shared, connection, changes)
}

#[async_trait]
impl Inspect for PostgresOutbox {
    async fn inspect(&self) -> Result<Vec<StoredCall>, OutboxError> {
        let sql = "SELECT id, user_id, call, false AS is_parked, source FROM segment_relay.calls
                   UNION ALL SELECT id, user_id, call, true, source FROM segment_relay.parked_calls ORDER BY id";
        let connection = self.shared.connector.open("test").await.unwrap();
        let rows = connection.query(sql, &[]).await.unwrap();
        let calls = rows.iter().map(|row| {
            let user_id = String::from_utf8(row.get(1)).unwrap();
            let source = row.get::<_, Option<&str>>(4).map(Arc::from);
            let call = Call::from_wire(user_id.into(), source, row.get::<_, Vec<u8>>(2).into());
            StoredCall { id: row.get(0), call, is_parked: row.get(3) }
        });
        Ok(calls.collect())
    }

    async fn refresh(&self) {
        let _ = self.deliverer.publish().await;
        let connection = self.shared.connector.open("test").await.unwrap();
        self.shared.read_figures(&connection).await.unwrap();
    }

    fn sources(&self) -> Vec<SourceStats> {
        self.source_stats()
    }

    fn set_windows(&self, windows: BTreeMap<Arc<str>, Duration>) {
        self.set_key_windows(windows);
    }
}

#[async_trait]
impl PersonStore for PostgresOutbox {
    async fn delete_person(&self, person: Arc<Person>) -> Result<DeletedRows, OutboxError> {
        self.deliverer.delete(person).await
    }

    async fn scrub(&self) -> Result<(), OutboxError> {
        PersonStore::scrub(&self.deliverer).await
    }

    async fn still_out(&self, calls: Vec<CallId>) -> Result<StillOut, OutboxError> {
        self.deliverer.which_are_out(calls).await
    }
}

contract!(Fresh::default());
