//! The database ends, restarts or fails over: what was answered 202 is there, and the relays go on by themselves.

use reqwest::Method;
use serde_json::json;

use super::QUICK;
use super::load::Load;
use crate::harness::postgres::{Cluster, Stop};
use crate::harness::{Fleet, at_last};

async fn all_ready(fleet: &Fleet) {
    for relay in &fleet.relays {
        at_last(async || relay.get("/readyz").await.status == 200).await;
    }
}

#[tokio::test]
async fn the_relays_go_on_after_each_end_of_the_database() {
    let cluster = Cluster::start(&[]);
    let fleet = Fleet::start(3, &cluster, &QUICK).await;
    let load = Load::start(&fleet);
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        load.until(load.posted() + 200).await;
        cluster.stop(how);
        for relay in &fleet.relays {
            at_last(async || relay.get("/readyz").await.status == 503).await;
            let answer = relay.post(&json!({"userId": "nobody", "traits": {}})).await;
            answer.assert_failed(503, "overloaded");
        }
        cluster.restart();
        all_ready(&fleet).await;
    }
    load.until(load.posted() + 200).await;
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn connections_and_processes_of_the_database_that_end_lose_nothing() {
    let cluster = Cluster::start(&[]);
    let fleet = Fleet::start(3, &cluster, &QUICK).await;
    let load = Load::start(&fleet);
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for _ in 0..5 {
        load.until(load.posted() + 150).await;
        cluster.execute(&fleet.database, &format!("SELECT pg_terminate_backend(pid) {others}")).await;
    }
    for _ in 0..2 {
        load.until(load.posted() + 150).await;
        let client = cluster.client(&fleet.database).await;
        let rows = client.query(&format!("SELECT pid {others} LIMIT 1"), &[]).await.expect("rows");
        // The server ends all others, and recovers.
        cluster.kill_backend(rows[0].get(0));
        load.until(load.posted() + 50).await;
    }
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn a_fail_over_to_a_synchronous_standby_loses_nothing() {
    let primary = Cluster::start(&[]);
    let standby = primary.standby("second");
    primary.set(&["synchronous_standby_names=second"]);
    primary.reload();
    let mut fleet = Fleet::prepared(3, &primary, &QUICK).await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{}?target_session_attrs=read-write",
        primary.port(),
        standby.port(),
        fleet.database
    );
    fleet.relays.iter_mut().for_each(|relay| relay.set("RELAY_OUTBOX_URL", &url));
    fleet.start_all().await;
    let load = Load::start(&fleet);
    load.until(300).await;
    primary.stop(Stop::Kill);
    standby.promote();
    all_ready(&fleet).await;
    load.until(load.posted() + 300).await;
    load.finish().await.settle_without_refusals(&fleet.relays[0]).await;
}

#[tokio::test]
async fn a_commit_whose_wait_for_the_standby_was_cancelled_is_no_202() {
    let cluster = Cluster::start(&[]);
    // The server tells of it by a warning alone.
    cluster.execute("postgres", "ALTER ROLE postgres SET client_min_messages = error").await;
    let fleet = Fleet::start(1, &cluster, &[("RELAY_REQUEST_TIMEOUT", "3s")]).await;
    let relay = &fleet.relays[0];
    assert!(relay.post(&json!({"userId": "before", "traits": {}})).await.is_stored());
    // Nobody is this standby.
    cluster.set(&["synchronous_standby_names=nobody"]);
    cluster.reload();
    let waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'";
    let client = cluster.client(&fleet.database).await;
    let cancel = async {
        at_last(async || {
            let sql = format!("SELECT pg_cancel_backend(pid) {waiting} AND query LIKE '%segment_relay.groups%'");
            !client.query(&sql, &[]).await.expect("rows").is_empty()
        })
        .await;
    };
    let body = json!({"userId": "after", "traits": {}});
    let (answer, ()) = tokio::join!(relay.post(&body), cancel);
    answer.assert_failed(504, "outbox_timeout");
    cluster.set(&["synchronous_standby_names="]);
    cluster.reload();
    at_last(async || relay.post(&json!({"userId": "later", "traits": {}})).await.is_stored()).await;
}

#[tokio::test]
async fn a_relay_whose_commits_wait_for_a_lost_standby_says_so_until_they_end() {
    let cluster = Cluster::start(&[]);
    let fleet = Fleet::start(1, &cluster, &[("RELAY_REQUEST_TIMEOUT", "3s")]).await;
    let relay = &fleet.relays[0];
    // Nobody is this standby.
    cluster.set(&["synchronous_standby_names=nobody"]);
    cluster.reload();
    // One commit may be before the server has read its settings.
    at_last(async || relay.post(&json!({"userId": "waits", "traits": {}})).await.status == 504).await;
    at_last(async || {
        let (ready, status) = (relay.get("/readyz").await, relay.operate(Method::GET, "/status").await.body);
        let trouble = status["outbox"]["trouble"].as_str().unwrap_or_default();
        ready.status == 503 && trouble.contains("synchronous standby") && status["summary"]["level"] == "trouble"
    })
    .await;
    at_last(async || {
        let status = relay.operate(Method::GET, "/status").await.body;
        status["fleet"]["delivering"].is_null()
    })
    .await;
    cluster.set(&["synchronous_standby_names="]);
    cluster.reload();
    all_ready(&fleet).await;
    let answer = relay.post_with(&[("prefer", "wait=10")], json!({"userId": "last", "traits": {}}).to_string()).await;
    assert!(answer.is_accepted(), "{answer:?}");
}
