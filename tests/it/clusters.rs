//! The harness for PostgreSQL: a cluster keeps what is committed however it ends, a standby confirms, a cable can be cut.

use crate::harness::postgres::{Cluster, PgBouncer, Stop, client};
use crate::harness::{Cable, Cut, at_last};

async fn count(cluster: &Cluster) -> i64 {
    cluster.client("postgres").await.query_one("SELECT count(*) FROM t", &[]).await.expect("a row").get(0)
}

#[tokio::test]
async fn what_is_committed_is_there_after_each_end_of_a_server() {
    let cluster = Cluster::start(&[]);
    cluster.execute("postgres", "CREATE TABLE t (n int)").await;
    for (rows, how) in [(1, Stop::Fast), (2, Stop::Immediate), (3, Stop::Kill)] {
        cluster.execute("postgres", "INSERT INTO t VALUES (1)").await;
        cluster.stop(how);
        assert!(tokio_postgres::connect(&cluster.url("postgres"), tokio_postgres::NoTls).await.is_err());
        cluster.restart();
        assert_eq!(count(&cluster).await, rows, "{how:?}");
    }
}

#[tokio::test]
async fn a_synchronous_standby_has_what_was_confirmed_and_can_be_promoted() {
    let primary = Cluster::start(&[]);
    let standby = primary.standby("second");
    primary.set(&["synchronous_standby_names=second"]);
    primary.reload();
    let connection = primary.client("postgres").await;
    let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    at_last(async || connection.query_one(sql, &[]).await.expect("a row").get::<_, i64>(0) == 1).await;
    primary.execute("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await;
    primary.stop(Stop::Kill);
    standby.promote();
    assert_eq!(count(&standby).await, 1);
}

#[tokio::test]
async fn pgbouncer_leads_to_a_database() {
    let cluster = Cluster::shared();
    let database = cluster.create_database().await;
    let bouncer = PgBouncer::start(cluster).await;
    let row =
        client(&bouncer.url(&database)).await.query_typed("SELECT current_database()::text", &[]).await.expect("a row");
    assert_eq!(row[0].get::<_, String>(0), database);
}

#[tokio::test]
async fn a_cut_cable_keeps_bytes_until_it_is_whole_again() {
    let cluster = Cluster::shared();
    let cable = Cable::to(cluster.port()).await;
    let connection = client(&format!("postgres://postgres@127.0.0.1:{}/postgres", cable.port())).await;
    cable.cut(Cut::Silent);
    let mut answer = Box::pin(connection.query_one("SELECT 1", &[]));
    for _ in 0..20 {
        assert!(futures_util::poll!(&mut answer).is_pending());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    cable.cut(Cut::None);
    assert_eq!(answer.await.expect("a row").get::<_, i32>(0), 1);
    cable.cut(Cut::Reset);
    at_last(async || connection.query_one("SELECT 1", &[]).await.is_err()).await;
}
