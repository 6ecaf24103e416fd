//! What is committed late is lost by a plain cursor, and by gaps that are remembered as articles have them, and not by the snapshot
//! cursor. All readers look at the same rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::types::Type;

use super::cluster::Cluster;
use super::connect;
use crate::config::PostgresUrl;
use crate::outbox::CallId;
use crate::outbox::postgres::connect::Connection;
use crate::outbox::postgres::cursor::Cursor;
use crate::outbox::postgres::page;

const APPENDERS: usize = 10;

/// Calls of a transaction.
const GROUP: i64 = 20;

/// Committed calls of the whole test.
const CALLS: usize = 20_000;

/// Each call also has a number of a sequence, as a store without the transaction in its ids would have.
const TABLE: &str = "CREATE SEQUENCE numbers; CREATE TABLE numbered (n bigint PRIMARY KEY, id bigint NOT NULL)";

/// The ids are drawn when the transaction has its number already, as an append's are.
const APPEND: &str = "
    WITH t AS MATERIALIZED (SELECT (((SELECT base FROM segment_relay.meta) + pg_current_xact_id()::text::bigint) << 16) + o AS id,
            nextval('numbers') AS n FROM generate_series(1, $1::bigint) AS o),
        n AS (INSERT INTO numbered (n, id) SELECT n, id FROM t)
    INSERT INTO segment_relay.calls (id, user_key, user_id, call) SELECT id, decode(md5('u'), 'hex'), 'u', 'c' FROM t RETURNING id";

const GROUP_ROW: &str =
    "INSERT INTO segment_relay.groups (relay, n, first) VALUES ($1, (SELECT count(*) FROM segment_relay.groups), 0)";

#[derive(Default)]
struct SnapshotReader {
    cursor: Cursor,
    seen: BTreeSet<CallId>,
}

impl SnapshotReader {
    /// True if nothing was new.
    async fn read(&mut self, connection: &Connection, bytes: usize) -> bool {
        let page = page::read(connection, &self.cursor, bytes).await.unwrap().unwrap();
        let before = self.seen.len();
        for call in &page.calls {
            assert!(self.seen.insert(call.id), "{} was read twice", call.id);
        }
        self.cursor.advance(&page.snapshot, page.calls.last().map(|call| call.id), page.is_cut);
        self.seen.len() == before && !page.is_cut
    }
}

/// Reads behind the greatest number; with `gaps`, numbers that were skipped are looked at again until no transaction is open that is
/// older than the newest one that had ended when the gap was seen.
struct NumberReader {
    has_gaps: bool,
    last: i64,
    gaps: Vec<(i64, i64)>,
    seen: BTreeSet<CallId>,
}

impl NumberReader {
    fn new(has_gaps: bool) -> Self {
        Self { has_gaps, last: 0, gaps: Vec::new(), seen: BTreeSet::new() }
    }

    async fn read(&mut self, connection: &Connection) {
        let gaps: Vec<i64> = self.gaps.iter().map(|(n, _)| *n).collect();
        let sql = "SELECT NULL::bigint, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                       pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                   UNION ALL (SELECT n, id, 0 FROM numbered WHERE n > $1 OR n = ANY($2) ORDER BY n)";
        let rows = connection.query(sql, &[(&self.last, Type::INT8), (&gaps, Type::INT8_ARRAY)]).await.unwrap();
        let (xmin, xmax): (i64, i64) = (rows[0].get(1), rows[0].get(2));
        let mut found: Vec<(i64, CallId)> = rows[1..].iter().map(|row| (row.get(0), row.get(1))).collect();
        found.sort_unstable();
        for (n, id) in found {
            self.seen.insert(id);
            self.gaps.retain(|(gap, _)| *gap != n);
            if self.has_gaps {
                self.gaps.extend((self.last + 1..n).map(|gap| (gap, xmax)));
            }
            self.last = self.last.max(n);
        }
        self.gaps.retain(|(_, seen_at)| xmin < *seen_at);
    }
}

async fn numbered_database(cluster: &Cluster) -> PostgresUrl {
    let url = super::database(cluster).await;
    connect(&url).await.batch(TABLE).await.unwrap();
    url
}

/// Appends in explicit transactions: slow to commit, rolled back, with numbers in another order than transactions.
async fn append(url: PostgresUrl, relay: i64, committed: Arc<parking_lot::Mutex<BTreeSet<CallId>>>) {
    let connection = connect(&url).await;
    let pause = async |chance: f64, longest: u64| {
        if fastrand::f64() < chance {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest))).await;
        }
    };
    while committed.lock().len() < CALLS {
        connection.batch("BEGIN").await.unwrap();
        connection.execute(GROUP_ROW, &[(&relay, Type::INT8)]).await.unwrap();
        pause(0.08, 50).await;
        let rows = connection.query(APPEND, &[(&GROUP, Type::INT8)]).await.unwrap();
        pause(0.10, 20).await;
        pause(0.04, 200).await;
        if fastrand::f64() < 0.05 {
            connection.batch("ROLLBACK").await.unwrap();
        } else {
            connection.batch("COMMIT").await.unwrap();
            committed.lock().extend(rows.iter().map(|row| row.get::<_, CallId>(0)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snapshot_cursor_loses_nothing_of_what_is_committed_late() {
    // Transactions of other databases are in the snapshot, too.
    let cluster = Cluster::start(&[]);
    let url = numbered_database(&cluster).await;
    let committed = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut appenders = JoinSet::new();
    for relay in 0..APPENDERS {
        appenders.spawn(append(url.clone(), relay as i64, committed.clone()));
    }
    let (over, reads) = (is_over.clone(), url.clone());
    let mut readers = JoinSet::new();
    readers.spawn(async move {
        let connection = connect(&reads).await;
        let (mut snapshot, mut small, mut plain) =
            (SnapshotReader::default(), SnapshotReader::default(), NumberReader::new(false));
        while !over.load(Ordering::Acquire) {
            snapshot.read(&connection, page::PAGE_BYTES).await;
            // Pages that are cut in the middle of a transaction.
            small.read(&connection, 33).await;
            plain.read(&connection).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        while !snapshot.read(&connection, page::PAGE_BYTES).await {}
        while !small.read(&connection, page::PAGE_BYTES).await {}
        plain.read(&connection).await;
        (snapshot, small, plain)
    });
    appenders.join_all().await;
    is_over.store(true, Ordering::Release);
    let (snapshot, small, plain) = readers.join_next().await.unwrap().unwrap();
    let committed = std::mem::take(&mut *committed.lock());
    assert!(snapshot.seen == committed && small.seen == committed, "calls are lost");
    assert!(snapshot.cursor.ranges().0.is_empty(), "ended transactions are remembered");
    assert!(plain.seen.len() < committed.len(), "the appends provoke no loss");
}

#[tokio::test]
async fn a_transaction_that_ends_behind_the_newest_one_is_lost_by_all_but_the_snapshot_cursor() {
    // Transactions of other databases are in the snapshot, too.
    let cluster = Cluster::start(&[]);
    let url = numbered_database(&cluster).await;
    let (first, second, third, reading) =
        (connect(&url).await, connect(&url).await, connect(&url).await, connect(&url).await);
    let (mut snapshot, mut plain, mut gaps) =
        (SnapshotReader::default(), NumberReader::new(false), NumberReader::new(true));
    // They get their transaction's numbers in this order.
    for (relay, connection) in [(2_i64, &second), (3, &third), (1, &first)] {
        connection.batch("BEGIN").await.unwrap();
        connection.execute(GROUP_ROW, &[(&relay, Type::INT8)]).await.unwrap();
    }
    // The first one draws the smaller number, and the second one is committed.
    let late: CallId = first.query(APPEND, &[(&1_i64, Type::INT8)]).await.unwrap()[0].get(0);
    let early: CallId = second.query(APPEND, &[(&1_i64, Type::INT8)]).await.unwrap()[0].get(0);
    second.batch("COMMIT").await.unwrap();
    for _ in 0..2 {
        snapshot.read(&reading, page::PAGE_BYTES).await;
        plain.read(&reading).await;
        gaps.read(&reading).await;
        // The gap is dropped.
        third.batch("COMMIT").await.unwrap();
    }
    first.batch("COMMIT").await.unwrap();
    snapshot.read(&reading, page::PAGE_BYTES).await;
    plain.read(&reading).await;
    gaps.read(&reading).await;
    assert_eq!(snapshot.seen, BTreeSet::from([early, late]));
    assert_eq!((plain.seen, gaps.seen), (BTreeSet::from([early]), BTreeSet::from([early])));
}
