//! Each statement fails once: of settling, parking, moving, waking, giving up and forgetting. Nothing is lost, nothing is out of
//! order, and a dead letter is made once.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::cluster::Cluster;
use super::{Relay, accepted, behind, database, drain, parked, refused};
use crate::config::PostgresUrl;
use crate::outbox::Person;
use crate::outbox::postgres::database_error::ErrorKind;
use crate::outbox::postgres::tests::proxy::{Cut, Proxy};

/// More statements than the story has.
const MOST: i64 = 120;

/// A proxy that cuts the connections of relays.
async fn proxy() -> Proxy {
    Proxy::start(([127, 0, 0, 1], Cluster::shared().port()).into(), "segment-relay").await
}

/// The same database through the proxy.
fn through(proxy: &Proxy, database: &PostgresUrl) -> PostgresUrl {
    let port = Cluster::shared().port();
    database.reveal().replace(&format!(":{port}/"), &format!(":{}/", proxy.port)).parse().unwrap()
}

/// A relay with an empty outbox.
async fn begin(database: &PostgresUrl, proxy: &Proxy) -> Relay {
    let relay = Relay::start_at(database, &through(proxy, database)).await;
    let tables = ["calls", "parked_calls", "parked", "keys", "settled_keys", "dead_letters", "tallies", "totals"];
    let tables = tables.map(|table| format!("segment_relay.{table}")).join(", ");
    let truncate = format!("TRUNCATE {tables}");
    // The deliverer works meanwhile, and the server ends a deadlock of the two by refusing one.
    while let Err(error) = relay.appender.batch(&truncate).await {
        assert_eq!(*error.kind(), ErrorKind::Refused(SqlState::T_R_DEADLOCK_DETECTED));
    }
    relay
}

/// Calls are accepted, refused and parked; later ones are moved; the parked one is accepted and its user wakes. True if the cut
/// came.
async fn story(database: &PostgresUrl, proxy: &Proxy, statement: i64, cut: Cut) -> bool {
    let relay = begin(database, proxy).await;
    let calls = [("a", "a0"), ("b", "b0"), ("a", "a1"), ("c", "c0"), ("d", "d0"), ("e", "e0")];
    let ids = relay.store(&calls).await;
    relay.take(6).await;
    proxy.cut_after(statement, cut);
    relay.settle(vec![accepted(ids[3])]).await.unwrap();
    let outcomes = vec![parked(ids[0]), refused(ids[1]), behind(ids[2]), accepted(ids[4])];
    relay.settle(outcomes).await.unwrap();
    relay.store(&[("a", "a2"), ("b", "b1")]).await;
    relay.settle(vec![refused(ids[5])]).await.unwrap();
    let order = drain(&relay, 4).await;
    let came = !proxy.disarm();
    let at = format!("{cut:?} {statement}");
    assert_eq!(
        (&order["a"][..], &order["b"][..]),
        (&["a0", "a1", "a2"].map(str::to_owned)[..], &["b1".to_owned()][..]),
        "{at}"
    );
    assert_eq!(relay.number("SELECT count(*) FROM segment_relay.dead_letters").await, 2, "{at}");
    let keys = "SELECT count(*) FROM segment_relay.keys k JOIN segment_relay.dead_letters d ON d.id = k.dead_letter_id";
    assert_eq!(relay.number(keys).await, 2, "{at}");
    assert_eq!(relay.number("SELECT count(*) FROM segment_relay.settled_keys").await, 6, "{at}");
    let left = "SELECT (SELECT count(*) FROM segment_relay.calls) + (SELECT count(*) FROM segment_relay.parked_calls)
        + (SELECT count(*) FROM segment_relay.parked)";
    assert_eq!(relay.number(left).await, 0, "{at}");
    relay.check_counts().await;
    relay.shared.close().await;
    came
}

async fn every_statement(cut: Cut) {
    let (database, proxy) = (database(Cluster::shared()).await, proxy().await);
    let mut statement = 0;
    while story(&database, &proxy, statement, cut).await {
        statement += 1;
        assert!(statement < MOST, "the story does not end");
    }
    assert!(statement > 20, "{statement} statements");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_statement_does_not_reach_the_server() {
    every_statement(Cut::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_twice_when_the_answer_of_a_statement_is_lost() {
    every_statement(Cut::Answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_forgotten_although_a_statement_fails() {
    let (database, proxy) = (database(Cluster::shared()).await, proxy().await);
    for statement in 0..MOST {
        let relay = begin(&database, &proxy).await;
        let ids = relay.store(&[("ada", "1"), ("bob", "2"), ("ada", "3"), ("ada", "4")]).await;
        relay.take(4).await;
        relay.settle(vec![refused(ids[0]), parked(ids[2]), behind(ids[3])]).await.unwrap();
        proxy.cut_after(statement, Cut::Answered);
        let person = || Arc::new(Person { user_id: "ada".to_owned(), texts: Vec::new() });
        let mut deleted = relay.handle.delete(person()).await;
        let failed = deleted.is_err();
        if failed {
            deleted = relay.handle.delete(person()).await;
        }
        assert!(deleted.unwrap().out.is_empty());
        let left =
            "SELECT (SELECT count(*) FROM segment_relay.calls) + (SELECT count(*) FROM segment_relay.parked_calls)
            + (SELECT count(*) FROM segment_relay.parked) + (SELECT count(*) FROM segment_relay.dead_letters)
            + (SELECT count(*) FROM segment_relay.keys)";
        assert_eq!(relay.number(left).await, 2, "bob's call and key");
        relay.check_counts().await;
        relay.shared.close().await;
        if proxy.disarm() {
            assert!(statement > 10, "{statement} statements");
            return;
        }
    }
    panic!("forgetting does not end");
}
