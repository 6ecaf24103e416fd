//! Tests of what a page holds, and of what is moved.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::{Relay, accepted, append_columns, append_sql, behind, connect, drain, parked, store, texts};
use crate::outbox::CallId;
use crate::outbox::postgres::cursor::Cursor;
use crate::outbox::postgres::page;

#[tokio::test]
async fn a_page_of_large_calls_stays_within_its_bytes() {
    let relay = Relay::start().await;
    let text = "x".repeat(32_000);
    let names: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    let calls: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*text)).collect();
    let ids = store(&relay.appender, &calls).await;
    let (mut cursor, mut read) = (Cursor::default(), Vec::<CallId>::new());
    loop {
        let page = page::read(&relay.appender, &cursor, usize::MAX).await.unwrap().unwrap();
        let bytes: usize = page.calls.iter().map(|call| call.length).sum();
        assert!(bytes <= page::PAGE_BYTES + text.len(), "{bytes}");
        read.extend(page.calls.iter().map(|call| call.id));
        cursor.advance(&page.snapshot, page.calls.last().map(|call| call.id), page.is_cut);
        if !page.is_cut {
            break;
        }
    }
    assert_eq!(read, ids);
    let page = page::read(&relay.appender, &Cursor::default(), 33_000).await.unwrap().unwrap();
    assert_eq!(page.calls.len(), 2, "the room");
}

#[tokio::test]
async fn calls_of_a_parked_user_are_marked_under_the_snapshot_of_the_page() {
    let relay = Relay::start().await;
    let ids = relay.store(&[("u", "u0"), ("v", "v0")]).await;
    relay.take(2).await;
    relay.settle(vec![parked(ids[0]), accepted(ids[1])]).await.unwrap();
    let later = store(&relay.appender, &[("u", "u1"), ("v", "v1")]).await;
    let page = page::read(&relay.appender, &Cursor::default(), usize::MAX).await.unwrap().unwrap();
    let of = |id: CallId| page.calls.iter().find(|call| call.id == id).map(|call| call.call.is_some());
    assert_eq!((of(later[0]), of(later[1])), (Some(false), Some(true)));
}

#[tokio::test]
async fn a_call_that_began_before_its_user_was_parked_overtakes_none() {
    let relay = Relay::start().await;
    let first = relay.store(&[("u", "u0")]).await[0];
    assert_eq!(texts(&relay.take(1).await), ["u0"]);
    // The append sees no parked user.
    let slow = connect(&relay.url).await;
    slow.batch("BEGIN").await.unwrap();
    let columns = append_columns(&[("u", "u1")]);
    slow.query(&append_sql(), &columns.params()).await.unwrap();
    relay.settle(vec![parked(first)]).await.unwrap();
    slow.batch("COMMIT").await.unwrap();
    relay.store(&[("u", "u2"), ("v", "v0")]).await;
    assert_eq!(texts(&relay.take(1).await), ["v0"]);
    let apart = "SELECT count(*) FROM segment_relay.parked_calls";
    while relay.number(apart).await < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.check_counts().await;
    let v0 = "SELECT id FROM segment_relay.calls";
    relay.settle(vec![accepted(relay.number(v0).await)]).await.unwrap();
    assert_eq!(drain(&relay, 3).await["u"], ["u0", "u1", "u2"]);
    relay.check_counts().await;
    assert_eq!(relay.number("SELECT count(*) FROM segment_relay.parked").await, 0);
}

#[tokio::test]
async fn a_call_that_is_committed_late_is_moved_behind_those_before_it() {
    let relay = Relay::start().await;
    let slow = connect(&relay.url).await;
    slow.batch("BEGIN").await.unwrap();
    let late: CallId = slow.query(&append_sql(), &append_columns(&[("u", "late")]).params()).await.unwrap()[0].get(0);
    let ids = relay.store(&[("u", "u0"), ("u", "u1")]).await;
    relay.take(2).await;
    relay.settle(vec![parked(ids[0]), behind(ids[1])]).await.unwrap();
    slow.batch("COMMIT").await.unwrap();
    relay.shared.wake.notify_one();
    let next = relay.handle.next(usize::MAX);
    tokio::select! {
        calls = next => panic!("{:?} of a parked user", texts(&calls.unwrap())),
        () = async {
            while relay.number("SELECT count(*) FROM segment_relay.parked_calls").await < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    let sql = "SELECT id FROM segment_relay.parked_calls ORDER BY user_key, id";
    let apart = connect(&relay.url).await.query(sql, &[]).await.unwrap();
    assert_eq!(apart.iter().map(|row| row.get(0)).collect::<Vec<CallId>>(), [late, ids[0], ids[1]]);
    relay.check_counts().await;
}

#[tokio::test]
async fn no_statement_depends_on_what_the_planner_knows() {
    let relay = Relay::start().await;
    // The planner believes that the tables are tiny, and they are not.
    relay.appender.batch("ANALYZE").await.unwrap();
    let sql = "INSERT INTO segment_relay.parked (user_key, user_id, calls, bytes, attempts, failures, retry_at, turn)
               SELECT decode(md5(n::text), 'hex'), 'u', 1, 1, 0, 0, now(), n FROM generate_series(1, $1::bigint) AS n";
    relay.appender.execute(sql, &[(&20_000_i64, Type::INT8)]).await.unwrap();
    let calls: Vec<String> = (0..2_000).map(|n| format!("u{n}")).collect();
    let calls: Vec<(&str, &str)> = calls.iter().map(|user| (&**user, "x")).collect();
    store(&relay.appender, &calls).await;
    let read = "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables
                WHERE relname IN ('calls', 'parked', 'parked_calls')";
    relay.appender.batch("SELECT pg_stat_force_next_flush()").await.unwrap();
    let before = relay.number(read).await;
    let page = page::read(&relay.appender, &Cursor::default(), usize::MAX).await.unwrap().unwrap();
    assert_eq!(page.calls.len(), 2_000);
    relay.appender.batch("SELECT pg_stat_force_next_flush()").await.unwrap();
    let scanned = relay.number(read).await - before;
    assert!(scanned < 10_000, "{scanned} rows were read by scans of whole tables");
}
