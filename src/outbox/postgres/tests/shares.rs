//! Tests of the outbox's size and shares, which go by figures.

use super::appends::append;
use super::{Database, settings};
use crate::config::OutboxSettings;
use crate::outbox::client::digest;
use crate::outbox::suite::{call, in_a_minute, keyed, plain, sized};
use crate::outbox::{Outbox, OutboxError};

#[tokio::test]
async fn a_full_outbox_refuses_all_but_repeats() {
    let database = Database::create().await;
    let store = database.open_with(&OutboxSettings { max_bytes: 100_000, ..settings() }).await;
    append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    append(&store, plain(sized("u", "m1", 32_000))).await.unwrap();
    append(&store, plain(sized("u", "m2", 32_000))).await.unwrap();
    assert_eq!(store.stats().trouble, Some("the outbox is full"));
    assert_eq!(append(&store, plain(call("u", "m3"))).await.unwrap_err(), OutboxError::Full);
    assert_eq!(append(&store, keyed(call("u", "m3"), 2, 1)).await.unwrap_err(), OutboxError::Full);
    assert!(append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap().replayed);
    assert_eq!(append(&store, keyed(call("u", "m0"), 1, 2)).await.unwrap_err(), OutboxError::KeyReused);
    let repeats = vec![keyed(call("u", "m0"), 1, 1), keyed(call("u", "m0"), 1, 1)];
    assert_eq!(store.append_group(repeats, true, in_a_minute()).await.unwrap().len(), 2);
    let reused = vec![plain(call("u", "m3")), keyed(call("u", "m0"), 1, 2)];
    assert_eq!(store.append_group(reused, true, in_a_minute()).await.unwrap_err(), OutboxError::KeyReused);
    assert_eq!(database.stored().await, ["u/m0", "u/m1", "u/m2"]);
    store.close().await;
}

#[tokio::test]
async fn what_another_relay_stored_counts() {
    let database = Database::create().await;
    let other = database.open().await;
    let store = database.open_with(&OutboxSettings { max_bytes: 200_000, ..settings() }).await;
    for n in 0..6 {
        append(&other, plain(sized("u", &format!("m{n}"), 30_000)).clone()).await.unwrap();
    }
    while store.stats().trouble != Some("the outbox is full") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(append(&store, plain(call("v", "m"))).await.unwrap_err(), OutboxError::Full);
    other.close().await;
    store.close().await;
}

#[tokio::test]
async fn shares_of_a_user_and_of_a_source_are_kept() {
    let database = Database::create().await;
    let connection = database.connect().await;
    let store = database.open_with(&OutboxSettings { max_bytes: 400_000, ..settings() }).await;
    let of_shop = |append: crate::outbox::Append| crate::outbox::Append {
        call: append.call.of_source(Some("shop".into())),
        ..append
    };
    for n in 0..7 {
        append(&store, of_shop(plain(sized("v", &format!("m{n}"), 30_000)))).await.unwrap();
    }
    assert_eq!(append(&store, of_shop(plain(call("v", "more")))).await.unwrap_err(), OutboxError::SourceShare);
    append(&store, plain(call("v", "own"))).await.unwrap();
    database.read(&store).await;
    let sources = store.shared.figures.lock().source_stats();
    assert_eq!(sources.iter().map(|source| source.calls).collect::<Vec<_>>(), [1, 7]);
    // The deliverer says whose share is used up.
    let user = digest(&[b"u"]);
    let sql = "UPDATE segment_relay.published SET used_up_users = ARRAY[$1::bytea]";
    connection.execute(sql, &[(&&user[..], tokio_postgres::types::Type::BYTEA)]).await.unwrap();
    store.shared.read_figures(&connection).await.unwrap();
    assert_eq!(append(&store, plain(call("u", "m"))).await.unwrap_err(), OutboxError::UserShare);
    append(&store, plain(call("w", "m"))).await.unwrap();
    store.close().await;
}
