//! Tests of a server that falls and starts again: a new connection is a new cursor, and what is out is not handed out twice.

use super::cluster::{Cluster, Stop};
use super::{Relay, accepted, connect, database, texts};
use crate::outbox::CallId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_server_what_is_out_is_not_handed_out_twice() {
    let cluster = Cluster::start(&[]);
    let url = database(&cluster).await;
    let mut relay = Relay::start_at(&url, &url).await;
    let ids = relay.store(&[("a", "a0"), ("b", "b0")]).await;
    relay.take(2).await;
    cluster.stop(Stop::Immediate);
    cluster.restart();
    relay.appender = connect(&url).await;
    relay.store(&[("a", "a1"), ("c", "c0")]).await;
    let later = relay.take(2).await;
    assert_eq!(texts(&later), ["a1", "c0"]);
    let ids: Vec<CallId> = ids.into_iter().chain(later.iter().map(|stored| stored.id)).collect();
    relay.settle(ids.into_iter().map(accepted).collect()).await.unwrap();
    assert_eq!(relay.number("SELECT count(*) FROM segment_relay.calls").await, 0);
    relay.check_counts().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_is_kept_while_the_server_is_away() {
    let cluster = Cluster::start(&[]);
    let url = database(&cluster).await;
    let relay = Relay::start_at(&url, &url).await;
    let ids = relay.store(&[("a", "a0"), ("b", "b0")]).await;
    relay.take(2).await;
    let handle = relay.handle.clone();
    let settled: Vec<_> = ids.into_iter().map(accepted).collect();
    let settlement = handle.settle(settled.into());
    tokio::pin!(settlement);
    // The connection is cut at any moment of the settlement.
    let _ = futures_util::poll!(&mut settlement);
    cluster.stop(Stop::Immediate);
    cluster.restart();
    settlement.await.unwrap();
    assert_eq!(relay.number("SELECT count(*) FROM segment_relay.calls").await, 0);
}
