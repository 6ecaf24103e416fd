//! Tests of the wait for a synchronous standby: a commit whose wait was cut short is never confirmed.

use std::time::Duration;

use tokio::time::Instant;

use super::Database;
use super::appends::append;
use super::cluster::Cluster;
use crate::outbox::postgres::append::end_orphans;
use crate::outbox::postgres::connect::{Connection, Connector};
use crate::outbox::postgres::database_error::ErrorKind;
use crate::outbox::suite::{call, keyed, plain};
use crate::outbox::{Outbox, OutboxError};

/// Waits until the server has this standby's name, of which there is none.
async fn set_standby(cluster: &Cluster, connection: &Connection, name: &str) {
    cluster.set(&[&format!("synchronous_standby_names={name}")]);
    cluster.reload();
    let sql = "SELECT current_setting('synchronous_standby_names')";
    while connection.query(sql, &[]).await.unwrap()[0].get::<_, &str>(0) != name {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cancelled_wait_for_a_standby_is_never_a_confirmation() {
    let cluster = Cluster::start(&["max_connections=50"]);
    let database = Database::create_in(&cluster).await;
    let store = database.open().await;
    let connection = database.connect().await;
    let mut wanted = Vec::new();
    for (n, end) in ["pg_cancel_backend", "pg_terminate_backend"].into_iter().enumerate() {
        for is_whole in [false, true] {
            set_standby(&cluster, &connection, "missing").await;
            let name = |place| format!("{end}-{is_whole}-{place}");
            let key = 2 * n as u8 + u8::from(is_whole);
            let group = vec![keyed(call("u", &name(0)), key, 1), plain(call("u", &name(1)))];
            let (mut ended, deadline) = (0, Instant::now() + Duration::from_secs(2));
            let mut waiting = Box::pin(store.append_group(group, is_whole, deadline));
            let answer = loop {
                if let std::task::Poll::Ready(answer) = futures_util::poll!(&mut waiting) {
                    break answer;
                }
                let sql = format!("SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
                ended += connection.query(&sql, &[]).await.unwrap().len();
            };
            assert_eq!(answer.unwrap_err(), OutboxError::Unconfirmed, "{end}");
            assert!(ended > 1, "{ended} waits were ended");
            set_standby(&cluster, &connection, "").await;
            append(&store, plain(call("u", "next"))).await.unwrap();
            wanted.extend([0, 1].map(|place| format!("u/{}", name(place))));
            wanted.push("u/next".to_owned());
        }
    }
    assert_eq!(database.stored().await, wanted);
    store.close().await;
}

#[tokio::test]
async fn a_statement_that_has_lost_its_relay_is_cancelled() {
    let database = Database::create().await;
    let connection = database.connect().await;
    let orphan = Connector::new(&database.url).unwrap().open("appends").await.unwrap();
    let mut sleeping = Box::pin(orphan.query("SELECT pg_sleep(9)", &[]));
    assert!(futures_util::poll!(&mut sleeping).is_pending());
    let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while connection.query(sql, &[]).await.unwrap().is_empty() {}
    end_orphans(&connection, Duration::from_secs(3600)).await.unwrap();
    assert!(!connection.query(sql, &[]).await.unwrap().is_empty());
    end_orphans(&connection, Duration::ZERO).await.unwrap();
    assert!(matches!(sleeping.await.unwrap_err().kind(), ErrorKind::Refused(_)));
}
