//! Tests of the age of dead letters: when the old ones go, and that a clock that jumps deletes none.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::outbox::sqlite::expire::Expiry;
use crate::outbox::sqlite::memory::Memory;
use crate::outbox::sqlite::schema;
use crate::outbox::sqlite::sources::Sources;
use crate::outbox::sqlite::transaction::{Transaction, read_counters};
use crate::outbox::suite::{call, plain, refused, sized};
use crate::outbox::{Append, KeyRecord, OutboxStats};

const DAY: i64 = 24 * 60 * 60 * 1000;
const HOUR: i64 = DAY / 24;
const RETENTION: i64 = 30 * DAY;

/// A store without threads, whose two clocks are set by the test.
struct Letters {
    conn: Connection,
    stats: OutboxStats,
    expiry: Expiry,
    memory: Memory,
    now: i64,
    monotonic: Instant,
}

impl Letters {
    fn new(retention: Option<Duration>) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn).unwrap();
        let (expiry, monotonic) = (Expiry::new(retention), Instant::now());
        let stats = read_counters(&conn, u64::MAX).unwrap();
        Self { conn, stats, expiry, memory: Memory::new(0, None, Sources::default()), now: 1_000 * DAY, monotonic }
    }

    fn kept_for_30_days() -> Self {
        Self::new(Some(Duration::from_millis(RETENTION.unsigned_abs())))
    }

    /// A start of the process, with the same file.
    fn restart(&mut self) {
        self.expiry = Expiry::new(Some(Duration::from_millis(RETENTION.unsigned_abs())));
    }

    fn refuse(&mut self, count: usize, size: usize) {
        let mut transaction =
            Transaction::begin(&self.conn, self.now, self.stats, u64::MAX / 2, &mut self.memory).unwrap();
        for _ in 0..count {
            let id = transaction.effects.stats.last_id + 1;
            let key = Some(KeyRecord { key: i128::from(id).to_be_bytes(), body: [0; 16] });
            transaction.append(&Append { key, ..plain(sized("u", "m", size)) }).unwrap().unwrap();
            transaction.settle(&[refused(id, "words")]).unwrap();
        }
        self.expiry.letters_exist(self.now);
        self.stats = transaction.commit().unwrap().stats;
        self.memory.end_transaction(true);
    }

    /// One look, as there is one a second. Returns how many letters went.
    fn look(&mut self) -> u64 {
        if !self.expiry.is_due(self.now, self.monotonic) {
            return 0;
        }
        let mut transaction =
            Transaction::begin(&self.conn, self.now, self.stats, u64::MAX / 2, &mut self.memory).unwrap();
        transaction.expire(&mut self.expiry).unwrap();
        if transaction.effects.stats.dead_letters > 0 {
            self.expiry.letters_exist(self.now);
        }
        let effects = transaction.commit().unwrap();
        self.stats = effects.stats;
        self.memory.end_transaction(true);
        effects.expired
    }

    /// Both clocks run, with a look every half hour. Returns how many letters went.
    fn run(&mut self, milliseconds: i64) -> u64 {
        let mut expired = self.look();
        for step in (0..milliseconds).step_by(HOUR as usize / 2) {
            let step = (milliseconds - step).min(HOUR / 2);
            self.now += step;
            self.monotonic += Duration::from_millis(step.unsigned_abs());
            expired += self.look();
        }
        expired
    }
}

#[test]
fn a_letter_is_kept_for_the_retention_and_its_key_with_it() {
    let mut letters = Letters::kept_for_30_days();
    letters.refuse(2, 0);
    letters.run(DAY);
    letters.refuse(1, 0);
    assert_eq!(letters.run(29 * DAY - HOUR), 0);
    assert_eq!(letters.run(HOUR), 2);
    assert_eq!((letters.stats.dead_letters, letters.stats.keys), (1, 1));
    assert_eq!(letters.run(DAY), 1);
    assert_eq!((letters.stats.dead_letters, letters.stats.keys), (0, 0));
    letters.refuse(1, 0);
    assert_eq!(letters.run(30 * DAY), 1);
}

#[test]
fn without_a_retention_a_letter_stays() {
    let mut letters = Letters::new(None);
    letters.refuse(1, 0);
    assert_eq!(letters.run(400 * DAY), 0);
    letters.now = i64::MAX;
    assert_eq!(letters.look(), 0);
}

#[test]
fn one_look_deletes_a_few_letters_and_not_many_bytes() {
    let mut letters = Letters::kept_for_30_days();
    letters.refuse(600, 0);
    letters.refuse(100, 30_000);
    letters.run(29 * DAY);
    letters.now += DAY;
    letters.monotonic += Duration::from_millis(DAY.unsigned_abs());
    assert_eq!([letters.look(), letters.look()], [256, 256]);
    // 88 small ones, and 1 MiB.
    assert_eq!(letters.look(), 88 + 35);
    assert_eq!([letters.look(), letters.look(), letters.look()], [35, 30, 0]);
    assert_eq!((letters.stats.dead_letters, letters.stats.dead_letter_bytes), (0, 0));
}

#[test]
fn a_clock_that_is_set_forward_deletes_nothing_for_an_hour() {
    let mut letters = Letters::kept_for_30_days();
    letters.refuse(5, 0);
    letters.run(DAY);
    let years = 3_000 * DAY;
    letters.now += years;
    assert_eq!(letters.run(HOUR - 1), 0);
    // It is set right in time.
    letters.now -= years;
    assert_eq!(letters.run(28 * DAY), 0);
    // So is a clock that is wrong at the start.
    letters.now += years;
    letters.restart();
    assert_eq!(letters.run(HOUR - 1), 0);
    letters.now -= years;
    assert_eq!(letters.run(HOUR), 0);
    // One that stays where it was set is right.
    letters.now += years;
    assert_eq!(letters.run(HOUR - 1), 0);
    assert_eq!(letters.run(1), 5);
}

#[test]
fn a_clock_that_is_corrected_by_a_little_does_not_jump() {
    let mut letters = Letters::kept_for_30_days();
    letters.refuse(1, 0);
    let mut expired = 0;
    for _ in 0..30 * 24 {
        letters.now += 59_000;
        expired += letters.run(HOUR);
        letters.now -= 30_000;
    }
    assert_eq!(expired, 1);
}

#[test]
fn letters_from_the_future_stay_and_do_not_keep_those_behind_them() {
    let mut letters = Letters::kept_for_30_days();
    letters.now += 3_000 * DAY;
    letters.refuse(300, 0);
    letters.now -= 3_000 * DAY;
    letters.refuse(2, 0);
    assert_eq!(letters.run(30 * DAY + HOUR), 2);
    assert_eq!(letters.stats.dead_letters, 300);
    letters.refuse(1, 0);
    assert_eq!(letters.run(30 * DAY + HOUR), 1);
    letters.restart();
    assert_eq!(letters.run(30 * DAY), 0);
}

#[test]
fn the_key_of_a_later_call_stays() {
    let mut letters = Letters::kept_for_30_days();
    letters.refuse(1, 0);
    letters.conn.execute("UPDATE keys SET dead_letter_id = NULL, call_id = 99", []).unwrap();
    assert_eq!(letters.run(31 * DAY), 1);
    assert_eq!(letters.stats.keys, 1);
    let mut transaction =
        Transaction::begin(&letters.conn, letters.now, letters.stats, u64::MAX / 2, &mut letters.memory).unwrap();
    let key = Some(KeyRecord { key: 1_i128.to_be_bytes(), body: [0; 16] });
    assert!(transaction.append(&Append { key, ..plain(call("u", "m")) }).unwrap().unwrap().replayed);
}

#[test]
fn extreme_clock_values_do_not_overflow() {
    let mut letters = Letters::new(Some(Duration::MAX));
    for now in [i64::MAX, i64::MIN, 0, i64::MAX, -1] {
        letters.now = now;
        letters.refuse(1, 0);
        letters.look();
        letters.monotonic += Duration::from_secs(100 * 60 * 60);
        letters.look();
    }
}
