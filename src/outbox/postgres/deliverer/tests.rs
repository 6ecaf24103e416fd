//! Tests of the deliverer against a server: what it reads, in which order, and what it settles when statements fail.

mod faults;
mod fencing;
mod loss;
mod pages;
mod restart;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::types::Type;

use super::{Tenure, start};
use crate::config::{OutboxPlace, OutboxSettings, PostgresUrl};
use crate::metrics::Metrics;
use crate::outbox::client::digest;
use crate::outbox::postgres::commands::DelivererHandle;
use crate::outbox::postgres::connect::{Connection, Connector};
use crate::outbox::postgres::schema::{MIGRATIONS, prepare};
use crate::outbox::postgres::shared::Shared;
use crate::outbox::postgres::tests::cluster::{self, Cluster};
use crate::outbox::{CallId, OutboxError, StoredCall};
use crate::segment::{CallOutcome, Refusal, SettledCall, Trouble, boot_time};
use crate::supervisor::Supervisor;

/// A new database with the tables.
async fn database(cluster: &Cluster) -> PostgresUrl {
    let name = cluster.create_database().await;
    let url = url_of(&cluster.url(&name));
    prepare(&connect(&url).await, MIGRATIONS).await.unwrap();
    url
}

fn url_of(url: &str) -> PostgresUrl {
    format!("{url}?sslmode=disable").parse().unwrap()
}

async fn connect(url: &PostgresUrl) -> Connection {
    Connector::new(url).unwrap().open("test").await.unwrap()
}

/// A relay that delivers, and a connection that stores calls.
struct Relay {
    url: PostgresUrl,
    shared: Arc<Shared>,
    tenure: watch::Sender<Option<Tenure>>,
    handle: DelivererHandle,
    appender: Connection,
}

impl Relay {
    /// With a database of its own.
    async fn start() -> Self {
        let url = database(Cluster::shared()).await;
        Self::start_at(&url, &url).await
    }

    /// The deliverer goes to `through`, the test to the database itself.
    async fn start_at(url: &PostgresUrl, through: &PostgresUrl) -> Self {
        let settings = OutboxSettings {
            place: OutboxPlace::Postgres(Box::new(url.clone())),
            max_bytes: 1024 * 1024 * 1024,
            dead_letter_retention: None,
            window: Duration::from_secs(3600),
            give_up_after: Some(Duration::from_secs(3600)),
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let connector = Connector::new(through).unwrap();
        let shared = Arc::new(Shared::new(connector, &settings, metrics, Supervisor::new()));
        let appender = connect(url).await;
        let (tenure, watched) = watch::channel(None);
        let handle = start(&shared, watched);
        let relay = Self { url: url.clone(), shared, tenure, handle, appender };
        relay.take_lease().await;
        relay
    }

    /// Takes the lease, and tells the deliverer.
    async fn take_lease(&self) -> i64 {
        let sql = "UPDATE segment_relay.lease SET owner = $1, epoch = epoch + 1 RETURNING epoch";
        let rows = self.appender.query(sql, &[(&self.shared.relay, Type::INT8)]).await.unwrap();
        let epoch: i64 = rows[0].get(0);
        self.shared.fence.allow(epoch, boot_time() + Duration::from_secs(3600));
        self.tenure.send_replace(Some(Tenure { epoch }));
        epoch
    }

    async fn store(&self, calls: &[(&str, &str)]) -> Vec<CallId> {
        let ids = store(&self.appender, calls).await;
        self.shared.wake.notify_one();
        ids
    }

    /// Takes calls until `count` are there, and settles none.
    async fn take(&self, count: usize) -> Vec<StoredCall> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.handle.next(usize::MAX).await.unwrap());
        }
        assert_eq!(taken.len(), count, "{:?}", texts(&taken));
        taken
    }

    async fn settle(&self, settled: Vec<SettledCall>) -> Result<(), OutboxError> {
        self.handle.settle(settled.into()).await
    }

    async fn number(&self, sql: &str) -> i64 {
        connect(&self.url).await.query(sql, &[]).await.unwrap()[0].get(0)
    }

    /// The counts are those of the rows.
    async fn check_counts(&self) {
        let counted = connect(&self.url)
            .await
            .query(
                "SELECT sum(waiting)::bigint, sum(waiting_bytes)::bigint, sum(dead_letters)::bigint, sum(dead_letter_bytes)::bigint,
                    sum(keys)::bigint, sum(parked_users)::bigint, sum(parked_calls)::bigint, sum(parked_bytes)::bigint
                 FROM (SELECT waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys, parked_users, parked_calls, parked_bytes
                    FROM segment_relay.tallies UNION ALL SELECT waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys,
                    parked_users, parked_calls, parked_bytes FROM segment_relay.totals) AS t
                 UNION ALL SELECT (SELECT count(*) FROM segment_relay.calls) + (SELECT count(*) FROM segment_relay.parked_calls),
                    (SELECT coalesce(sum(octet_length(call) + 128), 0) FROM segment_relay.calls)
                        + (SELECT coalesce(sum(octet_length(call) + 128), 0) FROM segment_relay.parked_calls),
                    (SELECT count(*) FROM segment_relay.dead_letters),
                    (SELECT coalesce(sum(octet_length(call) + octet_length(reason) + 128), 0) FROM segment_relay.dead_letters),
                    (SELECT count(*) FROM segment_relay.keys),
                    (SELECT count(*) FROM segment_relay.parked WHERE since IS NOT NULL),
                    (SELECT count(*) FROM segment_relay.parked_calls),
                    (SELECT coalesce(sum(bytes), 0)::bigint FROM segment_relay.parked WHERE since IS NOT NULL)",
                &[],
            )
            .await
            .unwrap();
        let row = |n: usize| (0..8).map(|column| counted[n].get::<_, i64>(column)).collect::<Vec<_>>();
        assert_eq!(row(0), row(1), "tallies and rows");
        let apart = "SELECT count(*) FROM (SELECT user_key, count(*) AS n, sum(octet_length(call) + 128) AS b
                     FROM segment_relay.parked_calls GROUP BY user_key) AS c
                     FULL JOIN segment_relay.parked p ON p.user_key = c.user_key
                     WHERE p.calls IS DISTINCT FROM c.n OR p.bytes IS DISTINCT FROM c.b";
        assert_eq!(self.number(apart).await, 0, "rows of parked and of its calls");
    }
}

/// Stores calls of users in one transaction, as an append does. Each has a key.
async fn store(connection: &Connection, calls: &[(&str, &str)]) -> Vec<CallId> {
    let (sql, columns) = (append_sql(), append_columns(calls));
    let rows = connection.query(&sql, &columns.params()).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

struct Columns {
    user_keys: Vec<Vec<u8>>,
    user_ids: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    calls: Vec<Vec<u8>>,
}

impl Columns {
    fn params(&self) -> [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] {
        [
            (&self.user_keys, Type::BYTEA_ARRAY),
            (&self.user_ids, Type::BYTEA_ARRAY),
            (&self.keys, Type::BYTEA_ARRAY),
            (&self.calls, Type::BYTEA_ARRAY),
        ]
    }
}

fn append_columns(calls: &[(&str, &str)]) -> Columns {
    Columns {
        user_keys: calls.iter().map(|(user, _)| digest(&[user.as_bytes()]).to_vec()).collect(),
        user_ids: calls.iter().map(|(user, _)| user.as_bytes().to_vec()).collect(),
        keys: calls.iter().map(|(user, text)| digest(&[user.as_bytes(), text.as_bytes()]).to_vec()).collect(),
        calls: calls.iter().map(|(_, text)| text.as_bytes().to_vec()).collect(),
    }
}

fn append_sql() -> String {
    "WITH t AS MATERIALIZED (SELECT (((SELECT base FROM segment_relay.meta) + pg_current_xact_id()::text::bigint) << 16) + o AS id,
            u, i, k, c FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS t (u, i, k, c, o)),
        k AS (INSERT INTO segment_relay.keys (key, body, call_id) SELECT k, k, id FROM t),
        y AS (INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes, keys)
            SELECT '', count(*), sum(octet_length(c) + 128), count(*) FROM t)
     INSERT INTO segment_relay.calls (id, user_key, user_id, key, call) SELECT id, u, i, k, c FROM t RETURNING id"
        .to_owned()
}

fn texts(calls: &[StoredCall]) -> Vec<String> {
    calls.iter().map(|stored| String::from_utf8(stored.call.json().to_vec()).unwrap()).collect()
}

fn accepted(id: CallId) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::Accepted }
}

fn refused(id: CallId) -> SettledCall {
    let refusal = Refusal { status: 400, reason: "no".to_owned(), attempts: 1 };
    SettledCall { id, outcome: CallOutcome::Refused(refusal) }
}

fn parked(id: CallId) -> SettledCall {
    let trouble = Trouble { status: Some(503), reason: "503".to_owned(), attempts: 2, is_own: true };
    SettledCall { id, outcome: CallOutcome::Parked(trouble) }
}

fn behind(id: CallId) -> SettledCall {
    SettledCall { id, outcome: CallOutcome::Behind }
}

/// Takes and accepts calls until `count` were, parked ones among them. What of each user, in the order of their acceptance.
async fn drain(relay: &Relay, count: usize) -> BTreeMap<String, Vec<String>> {
    let (mut order, mut left) = (BTreeMap::<String, Vec<String>>::new(), count);
    // A future that is dropped when it is ready takes its calls along.
    let mut next = Box::pin(relay.handle.next(usize::MAX));
    while left > 0 {
        let calls = tokio::select! {
            calls = &mut next => {
                next = Box::pin(relay.handle.next(usize::MAX));
                calls
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => relay.handle.next_parked(100, true).await,
        };
        // Delivery asks again, too.
        let calls = calls.unwrap_or_default();
        let ids: Vec<CallId> = calls.iter().map(|stored| stored.id).collect();
        for stored in &calls {
            let text = String::from_utf8(stored.call.json().to_vec()).unwrap();
            order.entry(stored.call.user_id().to_string()).or_default().push(text);
        }
        relay.settle(ids.into_iter().map(accepted).collect()).await.unwrap();
        left -= calls.len();
    }
    order
}
