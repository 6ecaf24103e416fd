//! Tests of what operators read and change: dead letters, events, parked users, and the search for a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::{NoContext, Timestamp, Uuid};

use super::appends::append;
use super::{Connection, Database, PostgresOutbox};
use crate::outbox::client::digest;
use crate::outbox::suite::{call, in_a_minute, keyed, letters, plain, sized};
use crate::outbox::{
    Append, CallFate, Calls, DeadLetters, Events, KeptEvent, KeyRecord, LetterFilter, LetterIds, LetterWalk, Outbox,
    OutboxError,
};

/// Makes waiting calls dead letters, as the deliverer does.
const REFUSE: &str = "
    WITH gone AS (DELETE FROM segment_relay.calls RETURNING id, user_id, stored_at, key, source, call),
    made AS (INSERT INTO segment_relay.dead_letters (user_id, stored_at, status, attempts, key, body, reason, call, why, source)
        SELECT user_id, stored_at, 400, 2, key, (SELECT body FROM segment_relay.keys k WHERE k.key = gone.key), 'words', call,
            'refused', source FROM gone ORDER BY id
        RETURNING id, key, source, octet_length(call) + octet_length(reason) + 128 AS bytes, octet_length(call) + 128 AS waited),
    kept AS (UPDATE segment_relay.keys k SET dead_letter_id = made.id FROM made WHERE k.key = made.key)
    INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes, dead_letters, dead_letter_bytes)
    SELECT coalesce(source, ''), -1, -waited, 1, bytes FROM made";

/// The counts, as the rows have them and as the tallies do.
const COUNTS: &str = "
    SELECT (SELECT count(*) FROM segment_relay.calls), (SELECT coalesce(sum(octet_length(call) + 128), 0)::bigint FROM segment_relay.calls),
        (SELECT count(*) FROM segment_relay.dead_letters),
        (SELECT coalesce(sum(octet_length(call) + octet_length(reason) + coalesce(octet_length(headers), 0) + 128), 0)::bigint
            FROM segment_relay.dead_letters),
        (SELECT count(*) FROM segment_relay.keys)
    UNION ALL
    SELECT coalesce(sum(waiting), 0)::bigint, coalesce(sum(waiting_bytes), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint,
        coalesce(sum(dead_letter_bytes), 0)::bigint, coalesce(sum(keys), 0)::bigint
        FROM (SELECT * FROM segment_relay.tallies UNION ALL SELECT * FROM segment_relay.totals) AS counted";

async fn refuse(connection: &Connection) {
    connection.batch(REFUSE).await.unwrap();
}

/// Waiting calls, dead letters and keys. Bytes and numbers are those of the tallies.
async fn counts(connection: &Connection) -> [i64; 3] {
    let rows = connection.query(COUNTS, &[]).await.unwrap();
    let [counted, tallied] = [0, 1].map(|row| [0, 1, 2, 3, 4].map(|column| rows[row].get::<_, i64>(column)));
    assert_eq!(counted, tallied, "what the rows have, and the tallies");
    [counted[0], counted[2], counted[4]]
}

async fn ids(store: &PostgresOutbox) -> Vec<i64> {
    let mut ids: Vec<i64> = letters(store).await.unwrap().iter().map(|letter| letter.id).collect();
    ids.reverse();
    ids
}

#[tokio::test]
async fn replayed_letters_are_stored_behind_the_waiting_calls_with_their_keys() {
    let database = Database::create().await;
    let (store, connection) = (database.open().await, database.connect().await);
    append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap();
    append(&store, plain(call("a\u{e9}", "m1"))).await.unwrap();
    append(&store, keyed(call("u", "m2"), 2, 1)).await.unwrap();
    refuse(&connection).await;
    append(&store, plain(call("u", "later"))).await.unwrap();
    let ids = ids(&store).await;
    // The key of the second one belongs to another call by now.
    let sql = "UPDATE segment_relay.keys SET dead_letter_id = NULL WHERE dead_letter_id = 3";
    connection.batch(sql).await.unwrap();
    assert_eq!(store.replay(vec![ids[2], ids[0], 12_345, ids[0], ids[1]]).await.unwrap(), 3);
    assert_eq!(store.replay(ids).await.unwrap(), 0);
    assert_eq!(database.stored().await, ["u/later", "u/m2", "u/m0", "a\u{e9}/m1"]);
    assert_eq!(counts(&connection).await, [4, 0, 2]);
    let sql = "SELECT c.key IS NOT NULL, k.call_id = c.id, k.dead_letter_id IS NULL, c.id = $1
        FROM segment_relay.calls c LEFT JOIN segment_relay.keys k ON k.key = c.key ORDER BY c.id";
    let last_id = store.stats().last_id;
    let rows = connection.query(sql, &[(&last_id, tokio_postgres::types::Type::INT8)]).await.unwrap();
    let keys: Vec<bool> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(keys, [false, false, true, false]);
    assert!(rows[2].get::<_, bool>(1) && rows[2].get::<_, bool>(2) && rows[3].get::<_, bool>(3));
    // Each user is found by the key that an append makes.
    let sql = "SELECT count(DISTINCT user_key) FROM segment_relay.calls WHERE user_id = 'u'";
    assert_eq!(connection.query(sql, &[]).await.unwrap()[0].get::<_, i64>(0), 1);
    assert!(append(&store, keyed(call("u", "m0"), 1, 1)).await.unwrap().replayed);
    store.close().await;
    assert_eq!(store.replay(vec![1]).await.unwrap_err(), OutboxError::Closed);
}

#[tokio::test]
async fn a_letter_that_two_relays_replay_is_replayed_once() {
    let database = Database::create().await;
    let (one, other, connection) = (database.open().await, database.open().await, database.connect().await);
    for _ in 0..10 {
        let calls = (0..100).map(|n| plain(call("u", &n.to_string()))).collect();
        one.append_group(calls, false, in_a_minute()).await.unwrap();
        refuse(&connection).await;
        let ids = ids(&one).await;
        let reversed = ids.iter().rev().copied().collect();
        let (replayed, by_other) = tokio::join!(one.replay(ids), other.replay(reversed));
        assert_eq!(replayed.unwrap() + by_other.unwrap(), 100);
        assert_eq!(counts(&connection).await, [100, 0, 0]);
        connection.batch("TRUNCATE segment_relay.calls, segment_relay.tallies, segment_relay.totals").await.unwrap();
    }
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn discarded_letters_take_their_keys_along() {
    let database = Database::create().await;
    let (store, connection) = (database.open().await, database.connect().await);
    for n in 0..3 {
        append(&store, keyed(call("u", &format!("m{n}")), n, 1)).await.unwrap();
    }
    refuse(&connection).await;
    let ids = ids(&store).await;
    assert_eq!(store.discard(vec![ids[1], ids[2], 12_345]).await.unwrap(), 2);
    assert_eq!(store.discard(vec![ids[1]]).await.unwrap(), 0);
    assert_eq!(counts(&connection).await, [0, 1, 1]);
    assert!(!append(&store, keyed(call("u", "m1"), 1, 9)).await.unwrap().replayed);
    store.close().await;
}

#[tokio::test]
async fn letters_are_walked_in_steps_and_found_by_what_they_are() {
    let database = Database::create().await;
    let (store, connection) = (database.open().await, database.connect().await);
    let calls = (0..1_500).map(|n| plain(call(if n == 700 { "v" } else { "u" }, &n.to_string()))).collect();
    store.append_group(calls, false, in_a_minute()).await.unwrap();
    refuse(&connection).await;
    assert_eq!(store.list(1_001, LetterFilter::default()).await.unwrap().letters.len(), 1_001);
    let of_v = LetterFilter { user_id: Some("v".to_owned()), ..LetterFilter::default() };
    let page = store.list(10, of_v.clone()).await.unwrap();
    assert_eq!((page.letters[0].message_id.as_deref(), page.next), (Some("700"), None));
    assert_eq!((page.letters[0].reason.as_str(), page.letters[0].status), ("words", Some(400)));
    let mut walk = LetterWalk::start(store.clone(), of_v).await.unwrap();
    assert_eq!(walk.step(10).await.unwrap().unwrap().ids, [701]);
    assert!(walk.step(10).await.unwrap().is_none());
    let LetterIds { ids, next, .. } = DeadLetters::find(&*store, 5, 10, LetterFilter::default()).await.unwrap();
    assert_eq!((ids.len(), ids[0], next), (10, 5, Some(15)));
    for (filter, fits) in [
        (LetterFilter { status: Some(Some(400)), ..LetterFilter::default() }, true),
        (LetterFilter { status: Some(None), ..LetterFilter::default() }, false),
        (LetterFilter { since: Some(i64::MIN), until: Some(i64::MAX), ..LetterFilter::default() }, true),
        (LetterFilter { since: Some(4_000_000_000_000), ..LetterFilter::default() }, false),
        (LetterFilter { until: Some(1_000_000_000_000), ..LetterFilter::default() }, false),
        (LetterFilter { source: Some("shop".to_owned()), ..LetterFilter::default() }, false),
    ] {
        assert_eq!(!store.list(1, filter.clone()).await.unwrap().letters.is_empty(), fits, "{filter:?}");
    }
    store.close().await;
}

fn event(key: Option<u8>) -> KeptEvent {
    KeptEvent {
        source: "shop".into(),
        headers: vec![("x-topic".to_owned(), b"\xe9".to_vec())],
        body: b"{\"a\": \0}".as_slice().into(),
        received_at: 1_700_000_000_123,
        reason: "null has no keys".to_owned(),
        key: key.map(|key| [key; 16]),
    }
}

#[tokio::test]
async fn an_event_that_two_relays_keep_is_kept_once() {
    let database = Database::create().await;
    let (one, other, connection) = (database.open().await, database.open().await, database.connect().await);
    for key in 0..20 {
        let (kept, by_other) =
            tokio::join!(one.keep(event(Some(key)), in_a_minute()), other.keep(event(Some(key)), in_a_minute()));
        kept.unwrap();
        by_other.unwrap();
    }
    one.keep(event(None), in_a_minute()).await.unwrap();
    one.keep(event(None), in_a_minute()).await.unwrap();
    assert_eq!(counts(&connection).await, [0, 22, 20]);
    let ids = ids(&one).await;
    assert!(Events::find(&*other, ids[0]).await.unwrap() == Some(event(Some(0))));
    assert!(Events::find(&*other, ids[21] + 9).await.unwrap().is_none());
    assert_eq!(one.replay(ids.clone()).await.unwrap(), 0, "an event stays");
    one.note_reason(ids[0], "longer, or shorter".to_owned()).await.unwrap();
    assert_eq!(Events::find(&*other, ids[0]).await.unwrap().unwrap().reason, "longer, or shorter");
    counts(&connection).await;
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn an_event_that_two_relays_replace_is_replaced_once_and_as_a_whole() {
    let database = Database::create().await;
    let (one, other, connection) = (database.open().await, database.open().await, database.connect().await);
    append(&one, keyed(call("w", "known"), 7, 2)).await.unwrap();
    one.keep(event(Some(1)), in_a_minute()).await.unwrap();
    let id = ids(&one).await[0];
    let wrong = vec![plain(call("v", "m1")), keyed(call("u", "m0"), 7, 1)];
    assert_eq!(one.replace(id, wrong).await.unwrap_err(), OutboxError::KeyReused);
    assert_eq!(counts(&connection).await, [1, 1, 2]);
    let large = (0..5).map(|n| plain(sized("u", &n.to_string(), 1024 * 1024))).collect();
    assert_eq!(one.replace(id, large).await.unwrap_err(), OutboxError::TooLarge);
    let calls = || vec![keyed(call("u", "m0"), 8, 1), keyed(call("u", "m0"), 8, 1), plain(call("v", "m1"))];
    let (replaced, by_other) = tokio::join!(one.replace(id, calls()), other.replace(id, calls()));
    let (replaced, by_other) = (replaced.unwrap(), by_other.unwrap());
    assert!(replaced.is_some() != by_other.is_some());
    let replaced: Vec<bool> = replaced.or(by_other).unwrap().iter().map(|appended| appended.replayed).collect();
    assert_eq!(replaced, [false, true, false]);
    assert_eq!(database.stored().await, ["w/known", "u/m0", "v/m1"]);
    assert_eq!(counts(&connection).await, [3, 0, 2]);
    one.keep(event(Some(1)), in_a_minute()).await.unwrap();
    let id = ids(&one).await[0];
    assert_eq!(one.replace(id, Vec::new()).await.unwrap().map(|all| all.len()), Some(0));
    assert_eq!(counts(&connection).await, [3, 0, 2]);
    one.close().await;
    other.close().await;
}

/// A call whose key is its id.
fn with_own_key(user_id: &str, message_id: &str) -> Append {
    let key = KeyRecord { key: digest(&[message_id.as_bytes()]), body: [7; 16] };
    Append { key: Some(key), ..plain(call(user_id, message_id)) }
}

async fn fate(store: &PostgresOutbox, message_id: &str) -> Option<CallFate> {
    let found = Calls::find(store, message_id).await.unwrap();
    found.map(|report| report.outcome)
}

#[tokio::test]
async fn a_call_is_found_by_its_key_or_the_time_in_its_id_or_among_all() {
    let database = Database::create().await;
    let (store, connection) = (database.open().await, database.connect().await);
    let now = || Uuid::new_v7(Timestamp::now(NoContext)).to_string();
    let old = Uuid::new_v7(Timestamp::from_unix(NoContext, 0, 0)).to_string();
    let (near, random) = (now(), Uuid::new_v4().to_string());
    append(&store, with_own_key("u", "order 7")).await.unwrap();
    for id in [&near, &old, &random] {
        append(&store, plain(call("u", id))).await.unwrap();
    }
    let calls = || (0..4_500).map(|_| plain(call("v", &now()))).collect();
    store.append_group(calls(), false, in_a_minute()).await.unwrap();
    let last = now();
    append(&store, plain(call("u", &last))).await.unwrap();
    for id in [&near, &old, &random, &last, "order 7"] {
        assert_eq!(fate(&store, id).await, Some(CallFate::Waiting), "{id}");
    }
    for id in [&now(), "order 8", "rder 7", &Uuid::new_v4().to_string()] {
        assert_eq!(fate(&store, id).await, None, "{id}");
    }
    refuse(&connection).await;
    for id in [&near, &old, &random, &last, "order 7"] {
        assert_eq!(fate(&store, id).await, Some(CallFate::Refused), "{id}");
    }
    let report = Calls::find(&*store, &near).await.unwrap().unwrap().kept.unwrap();
    assert_eq!((report.user_id.as_str(), report.attempts, report.status), ("u", Some(2), Some(400)));
    connection
        .batch(
            "DELETE FROM segment_relay.dead_letters; UPDATE segment_relay.keys SET dead_letter_id = NULL;
             INSERT INTO segment_relay.parked_calls (id, user_key, user_id, call)
             SELECT n, 'k', 'p', convert_to('{\"userId\":\"p\",\"messageId\":\"00000000-0000-4000-8000-00000000000' || n || '\"}', 'UTF8')
             FROM generate_series(1, 2) AS n;
             INSERT INTO segment_relay.parked (user_key, user_id, calls, bytes, since, attempts, failures, status, reason, retry_at, turn)
             VALUES ('k', 'p', 2, 0, now(), 3, 1, 503, 'the answer was 503', now(), 0)",
        )
        .await
        .unwrap();
    assert_eq!(fate(&store, "order 7").await, Some(CallFate::Accepted));
    assert_eq!(fate(&store, &near).await, None);
    assert_eq!(fate(&store, "00000000-0000-4000-8000-000000000001").await, Some(CallFate::Parked));
    assert_eq!(fate(&store, "00000000-0000-4000-8000-000000000002").await, Some(CallFate::Waiting));
    let parked = store.shared.list_parked(10, None, None).await.unwrap();
    assert_eq!((parked.len(), parked[0].message_id.as_str()), (1, "00000000-0000-4000-8000-000000000001"));
    assert_eq!((parked[0].calls, parked[0].status, parked[0].reason.as_str()), (2, Some(503), "the answer was 503"));
    for (before, user, count) in [(None, Some("p"), 0), (Some(parked[0].id), None, 0), (Some(i64::MAX), None, 1)] {
        assert_eq!(store.shared.list_parked(10, before, user).await.unwrap().len(), count);
    }
    store.close().await;
}

#[tokio::test]
async fn a_call_that_moves_is_always_found() {
    let database = Database::create().await;
    let (store, connection) = (database.open().await, database.connect().await);
    // Its id says nothing, and so many others are there that a search takes several statements for each table.
    let wanted = Uuid::new_v4().to_string();
    for table in ["dead_letters", "calls"] {
        let others = (0..4_500).map(|_| plain(call("v", &Uuid::new_v4().to_string()))).collect();
        store.append_group(others, false, in_a_minute()).await.unwrap();
        if table == "dead_letters" {
            refuse(&connection).await;
        }
    }
    append(&store, plain(call("u", &wanted))).await.unwrap();
    let (is_done, moved) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let own = REFUSE.replace("segment_relay.calls RETURNING", "segment_relay.calls WHERE user_id = 'u' RETURNING");
    let moves = async {
        while !is_done.load(Ordering::Relaxed) {
            connection.batch(&own).await.unwrap();
            let letter = store.list(1, LetterFilter::default()).await.unwrap().letters[0].id;
            assert_eq!(store.replay(vec![letter]).await.unwrap(), 1);
            moved.store(true, Ordering::Relaxed);
        }
    };
    let searches = async {
        for _ in 0..40 {
            assert!(fate(&store, &wanted).await.is_some());
        }
        is_done.store(true, Ordering::Relaxed);
    };
    tokio::join!(moves, searches);
    assert!(moved.load(Ordering::Relaxed));
    store.close().await;
}
