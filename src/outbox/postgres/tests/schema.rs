//! Tests of the tables' versions, and of tables that came from another cluster.

use super::Database;
use super::appends::append;
use crate::outbox::Outbox;
use crate::outbox::postgres::connect::Connection;
use crate::outbox::postgres::schema::{MIGRATIONS, prepare};
use crate::outbox::suite::{call, keyed, plain};

/// A second and a third version, which only this test knows.
const SECOND: &str = "ALTER TABLE segment_relay.calls ADD COLUMN size bigint NOT NULL DEFAULT 0;
    ALTER TABLE segment_relay.groups ADD COLUMN host text;
    CREATE TABLE segment_relay.later (id bigint)";
const THIRD: &str = "CREATE TABLE segment_relay.latest (id bigint)";

async fn version(connection: &Connection) -> i32 {
    connection.query("SELECT version FROM segment_relay.meta", &[]).await.unwrap()[0].get(0)
}

#[tokio::test]
async fn relays_that_start_together_make_the_tables_once() {
    let database = Database::create().await;
    let (one, other, third) = tokio::join!(database.open(), database.open(), database.open());
    for (n, store) in [&one, &other, &third].into_iter().enumerate() {
        append(store, plain(call("u", &format!("m{n}")))).await.unwrap();
    }
    assert_eq!(database.stored().await, ["u/m0", "u/m1", "u/m2"]);
    for store in [one, other, third] {
        store.close().await;
    }
}

#[tokio::test]
async fn a_relay_works_beside_one_newer_version_and_refuses_more() {
    let database = Database::create().await;
    let store = database.open().await;
    append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let connection = database.connect().await;
    // A relay of the next version starts while this one appends.
    let versions = [MIGRATIONS, &[SECOND]].concat();
    let (migrated, appended) =
        tokio::join!(prepare(&connection, &versions), append(&store, keyed(call("u", "m1"), 2, 1)));
    assert_eq!((migrated.unwrap(), appended.unwrap().replayed), (2, false));
    assert!(append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap().replayed);
    // One of the old version starts anew beside it.
    let old = database.open().await;
    append(&old, plain(call("u", "m2"))).await.unwrap();
    assert_eq!(
        (version(&connection).await, database.stored().await),
        (2, ["u/m0", "u/m1", "u/m2"].map(str::to_owned).into())
    );
    let newest = [MIGRATIONS, &[SECOND, THIRD]].concat();
    assert_eq!(prepare(&connection, &newest).await.unwrap(), 3);
    let refused = prepare(&connection, MIGRATIONS).await.unwrap_err().to_string();
    assert!(refused.contains("version 3"), "{refused}");
    store.close().await;
    old.close().await;
}

#[tokio::test]
async fn ids_are_above_those_of_tables_that_came_from_another_cluster() {
    let database = Database::create().await;
    let store = database.open().await;
    append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    store.close().await;
    let connection = database.connect().await;
    // As a dump of a cluster that had seen more transactions.
    connection
        .batch(
            "UPDATE segment_relay.meta SET system = system - 1;
             UPDATE segment_relay.calls SET id = id + (9000000::bigint << 16);
             UPDATE segment_relay.keys SET call_id = call_id + (9000000::bigint << 16)",
        )
        .await
        .unwrap();
    for n in 1..3 {
        let store = database.open().await;
        append(&store, plain(call("u", &format!("m{n}")))).await.unwrap();
        store.close().await;
    }
    assert_eq!(database.stored().await, ["u/m0", "u/m1", "u/m2"]);
}
