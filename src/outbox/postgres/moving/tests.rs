//! Tests of moving an SQLite outbox into a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection as File, params};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::MoveTarget;
use crate::config::{OutboxPlace, OutboxSettings, PostgresUrl};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::outbox::moved::MoveStep;
use crate::outbox::postgres::connect::Connection;
use crate::outbox::postgres::test_cluster::TestCluster;
use crate::outbox::sqlite::{MoveSource, SqliteOutbox};
use crate::supervisor::Supervisor;

fn open(path: &Path) -> anyhow::Result<Arc<SqliteOutbox>> {
    let settings = OutboxSettings {
        place: OutboxPlace::Sqlite(path.to_owned()),
        max_bytes: 1024 * 1024 * 1024,
        dead_letter_retention: None,
        window: Duration::from_secs(3600),
        give_up_after: None,
    };
    SqliteOutbox::open(path, &settings, Arc::new(Metrics::new()?), &Supervisor::new())
}

/// An outbox of a relay that was stopped: of each kind of row several.
async fn outbox(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("outbox.db");
    open(&path).unwrap().close().await;
    let file = File::open(&path).unwrap();
    let call = |id: i64| format!("{{\"n\":{id}}}").into_bytes();
    let key = |id: i64| vec![u8::try_from(id).unwrap(); 16];
    for id in 1..=7_i64 {
        // The first calls of a user with many are there, too.
        let user = if id == 3 { "many" } else { "zoë\u{0}" };
        let source = (id == 5).then_some("shop");
        let sql =
            "INSERT INTO calls (id, user_id, stored_at, key, call, source, trace) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        file.execute(sql, params![id, user, 1000 + id, (id % 2 == 0).then(|| key(id)), call(id), source, [7_u8; 25]])
            .unwrap();
    }
    for (id, user) in [(8_i64, "fails"), (9, "many"), (10, "fails"), (11, "many")] {
        let sql = "INSERT INTO parked_calls (id, user_id, stored_at, key, call) VALUES (?1, ?2, ?3, NULL, ?4)";
        file.execute(sql, params![id, user, 1000 + id, call(id)]).unwrap();
    }
    let parked = "INSERT INTO parked (id, user_id, after_id, calls, bytes, since, attempts, failures, status, reason, retry_at)
                  VALUES (4, 'fails', 0, 2, 274, 2000, 6, 5, 503, 'answered 503', 2345678901234), (5, 'many', 7, 2, 274, NULL, 0, 0, NULL, NULL, 17)";
    file.execute(parked, []).unwrap();
    for (id, call, letter) in
        [(2, 2, None), (4, 4, None), (6, 6, None), (60, 900, None), (61, 0, Some(21)), (62, 901, None)]
    {
        let sql = "INSERT INTO keys (key, body, call_id, dead_letter_id) VALUES (?1, ?2, ?3, ?4)";
        file.execute(sql, params![key(id), [1_u8; 16], call, letter]).unwrap();
    }
    file.execute("INSERT INTO settled_keys (seq, settled_at, key, call_id) VALUES (3, 3000, ?1, 900)", [key(60)])
        .unwrap();
    for (source, seq) in [("a", 5), ("shop", 1), ("shop", 2)] {
        let sql =
            "INSERT INTO settled_source_keys (source, seq, settled_at, key, call_id) VALUES (?1, ?2, ?3, ?4, 901)";
        file.execute(sql, params![source, seq, 4000 + seq, key(62)]).unwrap();
    }
    let letter = "INSERT INTO dead_letters (id, user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why, source, headers)
                  VALUES (21, 'u', 1, 2, 400, 3, ?1, ?2, 'no', ?3, 'refused', NULL, NULL), (23, '', 5, 6, 0, 0, NULL, NULL, 'jq', ?4, 'unmapped', 'shop', ?5)";
    file.execute(letter, params![key(61), [1_u8; 16], call(21), [255_u8, 0], b"a: b\n".to_vec()]).unwrap();
    file.execute("UPDATE counters SET last_id = 200000", []).unwrap();
    path
}

/// One process of the command, which ends after this many transactions. Returns whether the move is at its end.
async fn process(path: &Path, to: &PostgresUrl, transactions: usize) -> anyhow::Result<bool> {
    let source = MoveSource::open(path)?;
    let mut target = MoveTarget::connect(to).await?;
    target.check(source.token()?).await?;
    let head = source.mark(&to.to_string())?;
    target.begin(&head).await?;
    for _ in 0..transactions {
        let (at, _) = target.progress();
        if at.step == MoveStep::Done {
            return Ok(true);
        }
        match source.page(at, 2)? {
            Some(page) => target.store(&page).await?,
            None => target.end_step().await?,
        }
    }
    Ok(false)
}

async fn rows(connection: &Connection, table: &str, columns: &str, order: &str) -> Vec<Value> {
    let sql = format!("SELECT jsonb_build_array({columns})::text FROM segment_relay.{table} ORDER BY {order}");
    let rows = connection.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

async fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query(sql, &[]).await.unwrap()[0].get(0)
}

#[tokio::test]
async fn everything_is_moved_once_and_in_its_order_though_the_process_ends_after_each_transaction() {
    let cluster = TestCluster::start(&[], "").await;
    let admin = cluster.admin("postgres").await;
    let to: PostgresUrl = cluster.url("postgres", "postgres", "").parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = outbox(&directory).await;
    let mut processes = 0;
    while !process(&path, &to, 1).await.unwrap() {
        processes += 1;
        let refused = format!("{:#}", open(&path).err().unwrap());
        assert!(refused.contains("was moved to PostgreSQL"), "{refused}");
        let held = "SELECT count(*) FROM segment_relay.lease WHERE expires > now() + interval '1 year'";
        let is_done =
            number(&admin, "SELECT count(*) FROM segment_relay.requests WHERE arguments::text LIKE '%\"done\"%'").await;
        assert_eq!(number(&admin, held).await, 1 - is_done, "nobody delivers before the end");
    }
    assert!(processes > 20, "{processes}");
    assert!(process(&path, &to, 1).await.unwrap(), "a repeat moves nothing");

    let offset = number(&admin, "SELECT min(id) - 1 FROM segment_relay.calls").await;
    let columns = "id, encode(user_id, 'hex'), extract(epoch FROM stored_at) * 1000, encode(key, 'hex'), source, encode(trace, 'hex'), encode(call, 'escape'), encode(user_key, 'hex')";
    let user_key = |user: &str| data_encoding::HEXLOWER.encode(&crate::outbox::client::digest(&[user.as_bytes()]));
    let hex = |text: &str| data_encoding::HEXLOWER.encode(text.as_bytes());
    let row = |id: i64, user: &str, key: Option<&str>, source: Option<&str>, trace: Option<&str>| {
        json!([
            offset + id,
            hex(user),
            1000 + id,
            key.map(|key| key.repeat(16)),
            source,
            trace.map(|byte| byte.repeat(25)),
            format!("{{\"n\":{id}}}"),
            user_key(user)
        ])
    };
    let normal = |value: Vec<Value>| -> Vec<Value> {
        value
            .into_iter()
            .map(|mut row| {
                let at = row[2].as_f64().unwrap();
                row[2] = json!(at as i64);
                row
            })
            .collect()
    };
    let (zoe, trace) = ("zoë\u{0}", Some("07"));
    assert_eq!(
        normal(rows(&admin, "calls", columns, "id").await),
        [
            row(1, zoe, None, None, trace),
            row(2, zoe, Some("02"), None, trace),
            row(4, zoe, Some("04"), None, trace),
            row(5, zoe, None, Some("shop"), trace),
            row(6, zoe, Some("06"), None, trace),
            row(7, zoe, None, None, trace),
        ]
    );
    assert_eq!(
        normal(rows(&admin, "parked_calls", columns, "id").await),
        [
            row(3, "many", None, None, trace),
            row(8, "fails", None, None, None),
            row(9, "many", None, None, None),
            row(10, "fails", None, None, None),
            row(11, "many", None, None, None),
        ]
    );
    let columns = "id, encode(user_id, 'escape'), calls, bytes, round(extract(epoch FROM since) * 1000), attempts, failures, status, encode(reason, 'escape'), turn";
    assert_eq!(
        rows(&admin, "parked", columns, "id").await,
        [
            json!([4, "fails", 2, 7 + 8 + 2 * 128, 2000, 6, 5, 503, "answered 503", 0]),
            json!([5, "many", 3, 7 + 7 + 8 + 3 * 128, null, 0, 0, null, null, 17]),
        ]
    );
    let retry = "SELECT round(extract(epoch FROM retry_at) * 1000)::bigint FROM segment_relay.parked WHERE id = 4";
    assert_eq!(number(&admin, retry).await, 2_345_678_901_234);
    let key = |id: &str| id.repeat(16);
    assert_eq!(
        rows(&admin, "keys", "encode(key, 'hex'), call_id, dead_letter_id", "key").await,
        [
            json!([key("02"), offset + 2, null]),
            json!([key("04"), offset + 4, null]),
            json!([key("06"), offset + 6, null]),
            json!([key("3c"), offset + 900, null]),
            json!([key("3d"), 0, 21]),
            json!([key("3e"), offset + 901, null]),
        ]
    );
    let columns = "source, round(extract(epoch FROM settled_at) * 1000), encode(key, 'hex'), call_id";
    assert_eq!(
        rows(&admin, "settled_keys", columns, "source, seq").await,
        [
            json!(["", 3000, key("3c"), offset + 900]),
            json!(["a", 4005, key("3e"), offset + 901]),
            json!(["shop", 4001, key("3e"), offset + 901]),
            json!(["shop", 4002, key("3e"), offset + 901]),
        ]
    );
    let columns = "id, encode(user_id, 'escape'), round(extract(epoch FROM refused_at) * 1000), status, attempts, encode(key, 'hex'), encode(reason, 'escape'), encode(call, 'hex'), why, source, encode(headers, 'escape')";
    assert_eq!(
        rows(&admin, "dead_letters", columns, "id").await,
        [
            json!([21, "u", 2, 400, 3, key("3d"), "no", hex("{\"n\":21}"), "refused", null, null]),
            json!([23, null, 6, 0, 0, null, "jq", "ff00", "unmapped", "shop", "a: b\n"]),
        ]
    );
    let sums = "sum(waiting), sum(waiting_bytes), sum(dead_letters), sum(dead_letter_bytes), sum(keys), sum(parked_users), sum(parked_calls), sum(parked_bytes)";
    let letters = 8 + 2 + 128 + 2 + 2 + 5 + 128;
    assert_eq!(rows(&admin, "tallies", sums, "1").await, [json!([11, 11 * 135 + 2, 2, letters, 6, 1, 5, 7 + 8 + 256])]);
    let shop = rows(&admin, "tallies WHERE source = 'shop'", sums, "1").await;
    assert_eq!((&shop[0][0], &shop[0][2]), (&json!(1), &json!(1)));

    assert_eq!(number(&admin, "SELECT count(*) FROM segment_relay.lease WHERE expires < now()").await, 1);
    let first_new = "SELECT ((SELECT base FROM segment_relay.meta) + pg_current_xact_id()::text::bigint) << 16";
    assert!(number(&admin, first_new).await > offset + 200_000, "new calls come behind the moved ones");
    assert!(number(&admin, "SELECT nextval(pg_get_serial_sequence('segment_relay.dead_letters', 'id'))").await > 23);
}

#[tokio::test]
async fn a_move_does_not_go_on_while_a_relay_delivers_and_keeps_relays_from_it_again_afterwards() {
    let cluster = TestCluster::start(&[], "").await;
    let admin = cluster.admin("postgres").await;
    let to: PostgresUrl = cluster.url("postgres", "postgres", "").parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = outbox(&directory).await;
    assert!(!process(&path, &to, 3).await.unwrap());
    // An operator took the lease away, and a relay took it.
    let lease = async |owner: i64, seconds: i64| {
        let expires = format!("now() + {seconds} * interval '1 second'");
        admin.batch(&format!("UPDATE segment_relay.lease SET owner = {owner}, expires = {expires}")).await.unwrap();
    };
    lease(7, 10).await;
    let refused = format!("{:#}", process(&path, &to, 1).await.unwrap_err());
    assert!(refused.contains("a relay delivers what is there already"), "{refused}");
    lease(7, -1).await;
    assert!(!process(&path, &to, 1).await.unwrap());
    let held = "SELECT count(*) FROM segment_relay.lease WHERE owner = 0 AND expires > now() + interval '1 year'";
    assert_eq!(number(&admin, held).await, 1);

    let source = MoveSource::open(&path).unwrap();
    let mut target = MoveTarget::connect(&to).await.unwrap();
    target.begin(&source.mark(&to.to_string()).unwrap()).await.unwrap();
    lease(7, 10).await;
    let refused = format!("{:#}", target.end_step().await.unwrap_err());
    assert!(refused.contains("somebody changed the lease"), "{refused}");
}

#[tokio::test]
async fn a_move_is_refused_while_the_file_is_in_use_or_into_a_database_that_is_not_empty() {
    let cluster = TestCluster::start(&[], "").await;
    let admin = cluster.admin("postgres").await;
    let to: PostgresUrl = cluster.url("postgres", "postgres", "").parse().unwrap();
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let path = outbox(&first).await;
    let used = open(&path).unwrap();
    let refused = async |path: &Path| format!("{:#}", process(path, &to, 1).await.unwrap_err());
    assert!(refused(&path).await.contains("another process uses this outbox"));
    used.close().await;
    drop(used);
    assert!(refused(&first.path().join("missing.db")).await.contains("there is no such file"));
    // The schema is there since the first attempt that reached it.
    MoveTarget::connect(&to).await.unwrap();
    admin.batch("INSERT INTO segment_relay.members (relay, name, version) VALUES (1, 'a', '1')").await.unwrap();
    assert!(refused(&path).await.contains("a relay uses the database"));
    admin
        .batch("DELETE FROM segment_relay.members; INSERT INTO segment_relay.keys VALUES ('k', 'b', 1, NULL)")
        .await
        .unwrap();
    assert!(refused(&path).await.contains("holds an outbox already"));
    open(&path).unwrap().close().await;
    admin.batch("DELETE FROM segment_relay.keys").await.unwrap();
    assert!(!process(&path, &to, 1).await.unwrap());
    let other = outbox(&second).await;
    assert!(refused(&other).await.contains("another outbox is being moved there"));
    let elsewhere: PostgresUrl = cluster.url("postgres", "template1", "").parse().unwrap();
    let elsewhere = format!("{:#}", process(&path, &elsewhere, 1).await.unwrap_err());
    assert!(elsewhere.contains("was begun to postgres://"), "{elsewhere}");
}
