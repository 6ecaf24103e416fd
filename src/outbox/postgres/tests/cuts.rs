//! Tests of connections that are cut: nothing that was confirmed is lost, and nothing is stored twice.

use std::time::Duration;

use super::Database;
use super::appends::{append, replayed};
use super::proxy::{Cut, Proxy};
use crate::outbox::suite::{call, in_a_minute, keyed, plain};
use crate::outbox::{Append, Outbox, OutboxError};

/// Waits until the database is known to be there again.
async fn back(store: &crate::outbox::postgres::PostgresOutbox) {
    while store.stats().trouble.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whichever_statement_of_an_append_fails_it_is_stored_once() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.server(), "segment-relay appends").await;
    let store = database.through(proxy.port).open().await;
    let mut wanted = Vec::new();
    for cut in [Cut::Before, Cut::Sent, Cut::Answered] {
        let mut n = 0;
        loop {
            let name = |part: &str| format!("{cut:?}-{n}-{part}");
            let key = |part: &str, key| {
                let mut append = keyed(call("u", &name(part)), key, 1);
                append.key.as_mut().unwrap().key[1..3].copy_from_slice(&[n as u8, format!("{cut:?}").len() as u8]);
                append
            };
            append(&store, key("known", 1)).await.unwrap();
            wanted.push(format!("u/{}", name("known")));
            proxy.cut_after(n, cut);
            // A statement that stores, one that looks for a key, a transaction of both, and one that is undone.
            append(&store, plain(call("u", &name("plain")))).await.unwrap();
            assert!(append(&store, key("known", 1)).await.unwrap().replayed);
            let whole = vec![key("first", 2), key("known", 1), key("second", 3)];
            let results = store.append_group(whole, true, in_a_minute()).await.unwrap();
            assert_eq!(replayed(&results), [Ok(false), Ok(true), Ok(false)], "{cut:?} {n}");
            let mut reused = vec![key("undone", 4), key("known", 1)];
            reused[1].key.as_mut().unwrap().body = [2; 16];
            assert_eq!(store.append_group(reused, true, in_a_minute()).await.unwrap_err(), OutboxError::KeyReused);
            wanted.extend(["plain", "first", "second"].map(|part| format!("u/{}", name(part))));
            if !proxy.has_cut() {
                break;
            }
            n += 1;
        }
        assert!(n >= 9, "{n} statements");
    }
    assert_eq!(database.stored().await, wanted);
    store.close().await;
}

#[tokio::test]
async fn groups_that_are_cut_at_random_are_stored_once() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.server(), "segment-relay appends").await;
    let store = database.through(proxy.port).open().await;
    let mut wanted = Vec::new();
    for n in 0..300_u32 {
        let group: Vec<Append> = (0..20)
            .map(|place| {
                let mut append = plain(call("u", &format!("{n}-{place}")));
                if place % 5 == 0 {
                    append = keyed(append.call, 0, 1);
                    append.key.as_mut().unwrap().key[..8].copy_from_slice(&[n, place].map(u32::to_be_bytes).concat());
                }
                append
            })
            .collect();
        wanted.extend((0..20).map(|place| format!("u/{n}-{place}")));
        let is_whole = fastrand::bool();
        let statement = if is_whole { fastrand::i64(0..3) } else { 0 };
        proxy.cut_after(statement, Cut::After(Duration::from_micros(fastrand::u64(0..3_000))));
        let results = store.append_group(group, is_whole, in_a_minute()).await.unwrap();
        assert!(results.iter().all(|result| !result.as_ref().unwrap().replayed), "{n}");
    }
    assert_eq!(database.stored().await, wanted);
    let stats = database.open().await.stats();
    assert_eq!((stats.waiting, stats.keys), (6_000, 1_200));
    store.close().await;
}

#[tokio::test]
async fn a_session_that_is_ended_is_opened_anew() {
    let database = Database::create().await;
    let store = database.open().await;
    let connection = database.connect().await;
    for n in 0..20 {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let (stored, ended) =
            tokio::join!(append(&store, plain(call("u", &format!("{n}")))), connection.query(sql, &[]));
        assert!(!stored.unwrap().replayed);
        ended.unwrap();
    }
    assert_eq!(database.stored().await, (0..20).map(|n| format!("u/{n}")).collect::<Vec<_>>());
    store.close().await;
}

#[tokio::test]
async fn while_the_database_is_away_callers_are_told_at_once() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.server(), "segment-relay appends").await;
    let store = database.through(proxy.port).open().await;
    append(&store, plain(call("u", "m0"))).await.unwrap();
    proxy.set_away(true).await;
    // The first one finds that it is away.
    assert_eq!(append(&store, plain(call("u", "lost"))).await.unwrap_err(), OutboxError::Away);
    assert_eq!(store.stats().trouble, Some("the outbox's database cannot be reached"));
    let mut told = Box::pin(append(&store, plain(call("u", "lost"))));
    assert!(matches!(futures_util::poll!(&mut told), std::task::Poll::Ready(Err(OutboxError::Away))));
    proxy.set_away(false).await;
    back(&store).await;
    append(&store, plain(call("u", "m1"))).await.unwrap();
    assert_eq!(database.stored().await, ["u/m0", "u/m1"]);
    // Nobody appends, and it is noticed all the same.
    proxy.set_away(true).await;
    while store.stats().trouble.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close().await;
}

#[tokio::test]
async fn a_store_that_is_closed_while_a_commit_is_unknown_says_so() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.server(), "segment-relay appends").await;
    let store = database.through(proxy.port).open().await;
    proxy.cut_after(0, Cut::Answered);
    let mut unknown = Box::pin(append(&store, plain(call("u", "m0"))));
    assert!(futures_util::poll!(&mut unknown).is_pending());
    proxy.set_away(true).await;
    let (unknown, ()) = tokio::join!(unknown, store.close());
    assert!(matches!(unknown.unwrap_err(), OutboxError::Unconfirmed | OutboxError::Away));
    assert!(database.stored().await.len() <= 1);
}
