//! Tests of appends: in order, once a key, all or none, and what a caller hears.

use std::sync::Arc;
use std::time::Duration;

use super::{Database, settings};
use crate::outbox::postgres::PostgresOutbox;
use crate::outbox::postgres::rows::{self, Entry};
use crate::outbox::suite::{call, in_a_minute, keyed, outcome, plain, sized, watched};
use crate::outbox::{Append, Appended, DeliveryOutcome, Outbox, OutboxError};
use crate::segment::Call;

pub(super) fn replayed(results: &[Result<Appended, OutboxError>]) -> Vec<Result<bool, OutboxError>> {
    results.iter().map(|result| result.as_ref().map(|appended| appended.replayed).map_err(|error| *error)).collect()
}

pub(super) async fn append(store: &PostgresOutbox, append: Append) -> Result<Appended, OutboxError> {
    store.append(append, in_a_minute()).await
}

#[tokio::test]
async fn a_group_is_stored_in_order_and_each_key_once() {
    let database = Database::create().await;
    let store = database.open().await;
    append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let calls = vec![
        keyed(call("u", "m0"), 1, 1),
        keyed(call("u", "m0"), 1, 2),
        keyed(call("u", "m1"), 2, 1),
        keyed(call("u", "m1"), 2, 1),
        keyed(call("u", "m1"), 2, 2),
        plain(call("v", "m2")),
    ];
    let reused = Err(OutboxError::KeyReused);
    let results = store.append_group(calls, false, in_a_minute()).await.unwrap();
    assert_eq!(replayed(&results), [Ok(true), reused, Ok(false), Ok(true), reused, Ok(false)]);
    assert_eq!(database.stored().await, ["u/m0", "u/m1", "v/m2"]);
    let before = database.read(&store).await;
    assert_eq!((before.waiting, before.keys), (3, 2));
    store.close().await;
    assert_eq!(append(&store, plain(call("u", "m"))).await.unwrap_err(), OutboxError::Closed);
    let store = database.open().await;
    let after = store.stats();
    assert_eq!((after.waiting, after.keys, after.bytes, after.last_id), (3, 2, before.bytes, before.last_id));
    store.close().await;
}

#[tokio::test]
async fn of_requests_in_one_commit_only_those_fail_that_reuse_a_key() {
    let database = Database::create().await;
    let store = database.open().await;
    append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    let wrong = vec![keyed(call("u", "m1"), 2, 1), keyed(call("u", "other"), 1, 2), plain(call("u", "m2"))];
    let right = vec![keyed(call("v", "m1"), 2, 1), plain(call("v", "m2"))];
    // The first one is alone in its commit; the others come meanwhile.
    let (first, wrong, right, single) = tokio::join!(
        append(&store, plain(call("w", "m0"))),
        store.append_group(wrong, true, in_a_minute()),
        store.append_group(right, true, in_a_minute()),
        append(&store, plain(call("w", "m1"))),
    );
    assert!(!first.unwrap().replayed && !single.unwrap().replayed);
    assert_eq!(wrong.unwrap_err(), OutboxError::KeyReused);
    assert_eq!(replayed(&right.unwrap()), [Ok(false), Ok(false)], "the key of the failed request is free");
    assert_eq!(database.stored().await, ["u/m0", "w/m0", "v/m1", "v/m2", "w/m1"]);
    let stats = database.read(&store).await;
    assert_eq!((stats.waiting, stats.keys), (5, 2));
    store.close().await;
}

#[tokio::test]
async fn a_user_id_with_nul_and_one_of_thirty_kilobytes_are_stored() {
    let database = Database::create().await;
    let store = database.open().await;
    for user_id in ["a\0b".to_owned(), "x".repeat(30_000), "é".repeat(15_000)] {
        let json = format!(r#"{{"userId":{},"messageId":"m"}}"#, serde_json::to_string(&user_id).unwrap());
        let call = Call::from_wire(Arc::from(&*user_id), None, json.clone().into());
        append(&store, keyed(call, user_id.as_bytes()[0], 1)).await.unwrap();
        let sql = "SELECT user_id, call FROM segment_relay.calls ORDER BY id DESC LIMIT 1";
        let rows = database.connect().await.query(sql, &[]).await.unwrap();
        assert_eq!((rows[0].get::<_, &[u8]>(0), rows[0].get::<_, &[u8]>(1)), (user_id.as_bytes(), json.as_bytes()));
    }
    store.close().await;
}

#[tokio::test]
async fn two_relays_append_the_same_keys_in_opposite_orders() {
    let database = Database::create().await;
    let (one, other) = (database.open().await, database.open().await);
    for round in 0..20_u8 {
        let calls = |is_reversed: bool| {
            let mut calls: Vec<Append> = (0..200).map(|n| keyed(call("u", &format!("{round}-{n}")), n, 1)).collect();
            calls.iter_mut().for_each(|append| append.key.as_mut().unwrap().key[0] = round);
            if is_reversed {
                calls.reverse();
            }
            calls
        };
        let (first, second) = tokio::join!(
            one.append_group(calls(false), round % 2 == 0, in_a_minute()),
            other.append_group(calls(true), round % 2 == 0, in_a_minute()),
        );
        let new = [first.unwrap(), second.unwrap()].concat_results();
        assert_eq!(new, 200, "round {round}");
    }
    assert_eq!(database.stored().await.len(), 20 * 200);
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.connect().await.query(sql, &[]).await.unwrap()[0].get::<_, i64>(0), 0);
    one.close().await;
    other.close().await;
}

trait NewCalls {
    /// How many calls were not repeats.
    fn concat_results(self) -> usize;
}

impl NewCalls for [Vec<Result<Appended, OutboxError>>; 2] {
    fn concat_results(self) -> usize {
        self.iter().flatten().filter(|result| !result.as_ref().unwrap().replayed).count()
    }
}

#[tokio::test]
async fn callers_of_any_relay_hear_of_the_outcome() {
    let database = Database::create().await;
    let (one, other) = (database.open().await, database.open().await);
    let connection = database.connect().await;
    let accepted = append(&one, watched(plain(call("u", "m0")))).await.unwrap();
    let refused = append(&one, watched(keyed(call("u", "m1"), 1, 1))).await.unwrap();
    let repeated = append(&other, watched(keyed(call("u", "m1"), 1, 1))).await.unwrap();
    let forgotten = append(&other, watched(plain(call("u", "m2")))).await.unwrap();
    assert!(!refused.replayed && repeated.replayed);
    // What the deliverer does, on another relay.
    connection
        .batch(
            "BEGIN;
             INSERT INTO segment_relay.dead_letters (stored_at, status, attempts, reason, call, why)
             VALUES (now(), 400, 1, 'words', '', 'refused');
             UPDATE segment_relay.keys SET dead_letter_id = 1 WHERE body = decode(repeat('01', 16), 'hex');
             DELETE FROM segment_relay.keys k USING segment_relay.calls c
             WHERE k.call_id = c.id AND convert_from(c.call, 'UTF8') LIKE '%\"m2\"%';
             DELETE FROM segment_relay.calls;
             COMMIT",
        )
        .await
        .unwrap();
    assert_eq!(outcome(accepted).await, DeliveryOutcome::Accepted);
    assert_eq!(outcome(refused).await, DeliveryOutcome::Refused("words".to_owned()));
    assert_eq!(outcome(repeated).await, DeliveryOutcome::Refused("words".to_owned()));
    assert!(forgotten.outcome.unwrap().await.is_err(), "nobody can tell");
    // Everybody hears of a dead letter.
    let told = append(&one, keyed(call("u", "m1"), 1, 1)).await.unwrap();
    assert_eq!(outcome(told).await, DeliveryOutcome::Refused("words".to_owned()));
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_deadline_that_is_over_before_its_statement_means_that_nothing_is_stored() {
    let database = Database::create().await;
    let store = database.open().await;
    let connection = database.connect().await;
    // Appends wait for this lock.
    connection.batch("BEGIN; LOCK TABLE segment_relay.calls IN EXCLUSIVE MODE").await.unwrap();
    let soon = tokio::time::Instant::now() + std::time::Duration::from_millis(300);
    let mut sent = Box::pin(store.append(plain(call("u", "sent")), soon));
    assert!(futures_util::poll!(&mut sent).is_pending());
    let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let looks = database.connect().await;
    while looks.query(sql, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let late = store.append(plain(call("u", "late")), soon).await;
    assert_eq!((sent.await.unwrap_err(), late.unwrap_err()), (OutboxError::Unconfirmed, OutboxError::Busy));
    connection.batch("COMMIT").await.unwrap();
    append(&store, plain(call("u", "next"))).await.unwrap();
    assert_eq!(database.stored().await, ["u/sent", "u/next"]);
    store.close().await;
}

#[tokio::test]
async fn a_statement_that_the_server_refuses_stores_nothing_and_is_told() {
    let database = Database::create().await;
    let store = database.open().await;
    let connection = database.connect().await;
    connection
        .batch(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON segment_relay.calls FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
    let group = vec![keyed(call("u", "m0"), 1, 1), keyed(call("u", "m1"), 2, 1)];
    assert_eq!(store.append_group(group.clone(), true, in_a_minute()).await.unwrap_err(), OutboxError::Full);
    assert_eq!(append(&store, plain(sized("u", "m", 100))).await.unwrap_err(), OutboxError::Full);
    assert_eq!(store.stats().trouble, Some("the disk of the outbox's database is full"));
    connection.batch("DROP TRIGGER refuse ON segment_relay.calls").await.unwrap();
    // A balancer sends no calls meanwhile.
    while store.stats().trouble.is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(replayed(&store.append_group(group, true, in_a_minute()).await.unwrap()), [Ok(false), Ok(false)]);
    assert_eq!((store.stats().trouble, database.stored().await.len()), (None, 2));
    store.close().await;
}

#[tokio::test]
async fn nothing_set_for_the_database_makes_a_commit_weaker() {
    let database = Database::create().await;
    let store = database.open().await;
    let connection = database.connect().await;
    // A deferred trigger sees what is set when the transaction is committed.
    connection
        .batch(
            "CREATE TABLE seen (level text, messages text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen SELECT current_setting('synchronous_commit'), current_setting('client_min_messages');
                 RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER note AFTER INSERT ON segment_relay.calls DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await
        .unwrap();
    store.close().await;
    for (set, seen) in
        [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
    {
        let name = database.url.reveal().rsplit_once('/').unwrap().1;
        connection
            .batch(&format!(
                "TRUNCATE seen; ALTER DATABASE {name} SET synchronous_commit = {set};
                 ALTER DATABASE {name} SET client_min_messages = error"
            ))
            .await
            .unwrap();
        let store = database.open_with(&settings()).await;
        append(&store, plain(call("u", "m0"))).await.unwrap();
        let group = vec![keyed(call("u", set), set.as_bytes()[0], 1), plain(call("u", "m1"))];
        store.append_group(group, true, in_a_minute()).await.unwrap();
        let rows = connection.query("SELECT level || ' ' || messages FROM seen", &[]).await.unwrap();
        let seen = format!("{seen} warning");
        assert!(rows.len() >= 2 && rows.iter().all(|row| row.get::<_, &str>(0) == seen), "{set}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_large_group_is_not_so_much_work_to_the_planner_that_the_server_compiles_it() {
    let database = Database::create().await;
    database.open().await.close().await;
    // A watched call has a key.
    let entry = |n| Entry::new(watched(plain(call("u", &format!("m{n}")))), n);
    let entries: Vec<Entry> = (0..2_000).map(entry).collect();
    let plan = rows::explain(&database.connect().await, &entries.iter().collect::<Vec<_>>()).await.join("\n");
    assert!(!plan.contains("JIT"), "{plan}");
    assert!(plan.contains("hashed SubPlan"), "each call is compared with each key: {plan}");
}
