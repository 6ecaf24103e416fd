//! Tests of a jumping wall clock: keys are forgotten early or late, and nothing else happens.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::outbox::sqlite::memory::Memory;
use crate::outbox::sqlite::prune::Pruner;
use crate::outbox::sqlite::schema;
use crate::outbox::sqlite::sources::Sources;
use crate::outbox::sqlite::transaction::{Transaction, read_counters};
use crate::outbox::suite::{accepted, append, call, keyed, sized};
use crate::outbox::{Outbox, OutboxStats};

pub(super) const WINDOW: i64 = 1000;

/// A store without threads, whose clock is set by the test.
pub(super) struct ManualClockStore {
    conn: Connection,
    pub(super) stats: OutboxStats,
    pruner: Pruner,
    memory: Memory,
    source: Option<Arc<str>>,
}

impl ManualClockStore {
    pub(super) fn new() -> Self {
        Self::of(None)
    }

    /// One whose calls come by a source, and one whose calls do not.
    fn both() -> [Self; 2] {
        [Self::new(), Self::of(Some("shop".into()))]
    }

    fn of(source: Option<Arc<str>>) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn).unwrap();
        let pruner = Pruner::new(source.clone(), Some(Duration::from_millis(WINDOW.unsigned_abs())));
        let stats = read_counters(&conn, u64::MAX).unwrap();
        Self { conn, stats, pruner, memory: Memory::new(0, None, Sources::default()), source }
    }

    /// Opens the same file again.
    pub(super) fn reopen(&mut self) {
        self.stats = read_counters(&self.conn, u64::MAX).unwrap();
        self.pruner = Pruner::new(self.source.clone(), Some(Duration::from_millis(WINDOW.unsigned_abs())));
    }

    /// Runs `act` in a transaction at this time.
    pub(super) fn transact(&mut self, now: i64, act: impl FnOnce(&mut Transaction<'_>, &mut Pruner)) {
        let mut transaction = Transaction::begin(&self.conn, now, self.stats, u64::MAX / 2, &mut self.memory).unwrap();
        act(&mut transaction, &mut self.pruner);
        let effects = transaction.commit().unwrap();
        self.stats = effects.stats;
        self.memory.sources.change(&effects.sources);
        self.memory.end_transaction(true);
    }

    /// The bytes of all dead letters, counted row by row.
    pub(super) fn dead_letter_bytes(&self) -> u64 {
        let sql = "SELECT ifnull(sum(length(call) + octet_length(reason) + 128), 0) FROM dead_letters";
        self.conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    }

    /// Stores and settles one call for each key.
    fn settle(&mut self, now: i64, keys: std::ops::Range<u8>) {
        let source = self.source.clone();
        self.transact(now, |transaction, pruner| {
            for key in keys {
                let call = call("u", "m").of_source(source.clone());
                transaction.append(&keyed(call, key, key)).unwrap().unwrap();
                let id = transaction.effects.stats.last_id;
                transaction.settle(&[accepted(id)]).unwrap();
            }
            pruner.key_settled(now);
        });
    }

    /// Number of keys that are left at this time.
    pub(super) fn keys(&mut self, now: i64) -> u64 {
        while self.pruner.is_due(now) {
            self.transact(now, |transaction, pruner| {
                transaction.prune(pruner, 128).unwrap();
            });
        }
        self.stats.keys
    }
}

#[test]
fn keys_are_forgotten_in_the_order_of_settling() {
    for mut store in ManualClockStore::both() {
        store.settle(0, 0..200);
        store.settle(500, 200..210);
        assert_eq!(store.keys(WINDOW - 1), 210);
        assert_eq!(store.keys(WINDOW), 10);
        assert_eq!(store.keys(WINDOW + 500), 0);
        assert_eq!(store.keys(i64::MAX), 0);
    }
}

#[test]
fn after_the_clock_is_set_back_keys_are_kept_for_one_more_window() {
    for mut store in ManualClockStore::both() {
        let far = 1_000_000_000;
        store.settle(far, 0..150);
        assert_eq!(store.keys(far + 1), 150);
        // The jump is noticed at the next prune.
        store.pruner.recheck();
        assert_eq!(store.keys(100), 150);
        store.settle(200, 150..160);
        assert_eq!(store.keys(100 + WINDOW), 10);
        assert_eq!(store.keys(200 + WINDOW), 0);
    }
}

#[test]
fn keys_are_forgotten_although_the_clock_was_set_back_while_the_store_is_open() {
    for mut store in ManualClockStore::both() {
        let far = 1_000_000_000;
        store.settle(far, 0..210);
        // Nothing but the clock tells the store of the jump.
        assert_eq!(store.keys(100), 210);
        assert_eq!(store.keys(99 + WINDOW), 210);
        assert_eq!(store.keys(100 + WINDOW), 0);
        // By a little, too.
        store.settle(5_000, 0..10);
        assert_eq!(store.keys(4_999), 10);
        assert_eq!(store.keys(5_000 + WINDOW), 0);
    }
}

#[test]
fn keys_from_the_future_are_forgotten_although_the_store_is_opened_more_often_than_the_window_is_long() {
    for mut store in ManualClockStore::both() {
        store.settle(1_000_000_000, 0..210);
        for day in 0..=4 {
            assert_eq!(store.keys(100 + day * WINDOW / 4), if day < 4 { 210 } else { 0 }, "{day}");
            store.reopen();
        }
        // A later queue, whose numbers begin again, does not take over the first one's time.
        store.settle(900_000, 0..10);
        assert_eq!(store.keys(800_000), 10);
        assert_eq!(store.keys(800_000 + WINDOW), 0);
    }
}

#[test]
fn the_age_of_a_call_from_the_future_is_counted_from_when_it_was_noticed() {
    let mut store = ManualClockStore::new();
    store.transact(1_000_000_000, |transaction, _| {
        transaction.append(&keyed(call("u", "m"), 1, 1)).unwrap().unwrap();
    });
    assert_eq!(store.stats.oldest_stored_at, Some(1_000_000_000));
    for now in [100, 300, 500] {
        store.transact(now, |_, _| ());
        assert_eq!(store.stats.oldest_stored_at, Some(100));
    }
}

#[test]
fn extreme_clock_values_do_not_overflow() {
    for mut store in ManualClockStore::both() {
        store.settle(i64::MAX, 0..5);
        store.settle(i64::MIN, 5..10);
        store.keys(i64::MIN);
        store.keys(0);
        store.keys(i64::MAX);
    }
}

#[tokio::test]
async fn an_append_after_its_deadline_is_busy_and_stores_nothing() {
    let directory = super::in_memory();
    let store = super::open(&super::settings(&directory.path().join("outbox.db"))).unwrap();
    let late = store.append(keyed(sized("u", "m", 10), 1, 1), tokio::time::Instant::now()).await;
    assert_eq!(late.unwrap_err(), crate::outbox::OutboxError::Busy);
    assert!(!append(&*store, keyed(sized("u", "m", 10), 1, 1)).await.unwrap().replayed);
    store.close().await;
}
