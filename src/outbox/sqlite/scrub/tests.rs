//! After a scrub no byte of a deleted row is in the file, every other row is as it was, and the file is sound.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{Scrub, ScrubError};

/// What stands in the rows that are deleted, and nowhere else.
const MARKER: &[u8] = b"deleted-row-of-a-person";

struct File {
    directory: TempDir,
    conn: Connection,
}

impl File {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let conn = Connection::open(directory.path().join("file.db")).unwrap();
        conn.execute_batch(
            "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB NOT NULL);
             CREATE INDEX names ON rows (name);
             CREATE TABLE keys (key BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;",
        )
        .unwrap();
        Self { directory, conn }
    }

    fn insert(&self, id: i64, length: usize, is_marked: bool) {
        let mut body = if is_marked { MARKER.repeat(length / MARKER.len() + 1) } else { vec![b'k'; length + 1] };
        body.truncate(length.max(MARKER.len()));
        let name = format!("{}-{id}", if is_marked { std::str::from_utf8(MARKER).unwrap() } else { "kept" });
        let name = name.repeat(1 + length % 30);
        self.conn.execute("INSERT INTO rows VALUES (?1, ?2, ?3)", params![id, name, body]).unwrap();
        self.conn.execute("INSERT INTO keys VALUES (?1, ?2)", params![name.as_bytes(), body]).unwrap();
    }

    fn delete(&self, id: i64) {
        self.conn
            .execute("DELETE FROM keys WHERE key = (SELECT CAST(name AS BLOB) FROM rows WHERE id = ?1)", [id])
            .unwrap();
        self.conn.execute("DELETE FROM rows WHERE id = ?1", [id]).unwrap();
    }

    fn content(&self) -> BTreeMap<i64, (String, Vec<u8>)> {
        let mut rows = self.conn.prepare("SELECT id, name, body FROM rows").unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap().map(Result::unwrap).collect()
    }

    /// Runs `between` after each transaction of the scrub.
    fn scrub(&self, mut between: impl FnMut(&Self)) {
        let (mut scrub, mut steps) = (Scrub::default(), 0);
        while !scrub.is_finished {
            self.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            scrub.step(&self.conn).unwrap();
            self.conn.execute_batch("COMMIT").unwrap();
            between(self);
            scrub.committed(&self.conn, &self.log());
            steps += 1;
            // As in the store, the log is written from its start now and then.
            if steps % 5 == 0 {
                self.empty_log();
            }
        }
        self.empty_log();
    }

    fn log(&self) -> std::fs::File {
        std::fs::File::open(self.directory.path().join("file.db-wal")).unwrap()
    }

    fn empty_log(&self) {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    /// How often these bytes are in the files.
    fn count(&self, wanted: &[u8]) -> usize {
        let files = std::fs::read_dir(self.directory.path()).unwrap();
        let count = |path: &Path| {
            let bytes = std::fs::read(path).unwrap();
            String::from_utf8_lossy(&bytes).matches(std::str::from_utf8(wanted).unwrap()).count()
        };
        files.map(|file| count(&file.unwrap().path())).sum()
    }

    fn assert_sound(&self) {
        let verdict: String = self.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
}

/// The part of the marker that is looked for: an end of a row may have the rest of it.
fn remains(file: &File) -> usize {
    file.count(&MARKER[..8])
}

#[test]
fn this_sqlite_can_read_and_write_its_pages() {
    let file = File::new();
    let pages: i64 = file.conn.query_row("SELECT count(*) FROM sqlite_dbpage", [], |row| row.get(0)).unwrap();
    assert!(pages > 1);
}

#[test]
fn without_a_scrub_deleted_rows_stay_in_the_file() {
    let file = File::new();
    (0..200).for_each(|id| file.insert(id, 300 + (id as usize * 37) % 4_000, id % 2 == 0));
    (0..200).step_by(2).for_each(|id| file.delete(id));
    file.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert!(remains(&file) > 100);
    let content = file.content();
    file.scrub(|_| ());
    assert_eq!((remains(&file), file.content() == content), (0, true));
    file.assert_sound();
}

/// SQLite exchanges the numbers of pages when it splits or joins them. The first pages are free and visited early, and are taken when
/// later pages are split.
#[test]
fn old_bytes_that_come_to_a_visited_page_are_cleared() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let file = File::new();
        let insert = |random: &mut fastrand::Rng, word: &str, most: usize| {
            let (id, name) = (random.i64(..1_000_000_000), format!("{word}-{}", random.u32(..)));
            let row = params![id, name, word.repeat(random.usize(1..most))];
            file.conn.execute("INSERT OR REPLACE INTO rows VALUES (?1, ?2, CAST(?3 AS BLOB))", row).unwrap();
            id
        };
        let delete = |id: i64| file.conn.execute("DELETE FROM rows WHERE id = ?1", [id]).unwrap();
        file.conn.execute_batch("PRAGMA synchronous = OFF; BEGIN").unwrap();
        (0..200).for_each(|id| file.insert(-1 - id, 1_000, false));
        let (mut kept, mut marked) = (Vec::new(), Vec::new());
        for _ in 0..2_000 {
            kept.push(insert(&mut random, "kept", 10));
            marked.push(insert(&mut random, "deleted-row", 6));
        }
        kept.retain(|id| !marked.contains(id));
        marked.sort_unstable();
        marked.dedup();
        marked.into_iter().for_each(|id| assert_eq!(delete(id), 1));
        (0..200).for_each(|id| file.delete(-1 - id));
        file.conn.execute_batch("COMMIT").unwrap();
        file.scrub(|file| {
            file.conn.execute_batch("BEGIN").unwrap();
            for _ in 0..40 {
                delete(kept.swap_remove(random.usize(..kept.len())));
                kept.push(insert(&mut random, "kept", 10));
            }
            file.conn.execute_batch("COMMIT").unwrap();
        });
        assert_eq!(remains(&file), 0, "seed {seed}");
        file.assert_sound();
    }
}

#[test]
fn a_file_that_another_program_laid_out_otherwise_is_not_changed() {
    let file = File::new();
    (0..50).for_each(|id| file.insert(id, 2_000, id % 2 == 0));
    (0..50).step_by(2).for_each(|id| file.delete(id));
    file.conn
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA journal_mode = WAL",
        )
        .unwrap();
    (50..60).for_each(|id| file.insert(id, 2_000, true));
    (50..60).for_each(|id| file.delete(id));
    file.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    let changes = file.conn.total_changes();
    assert!(matches!(Scrub::default().step(&file.conn), Err(ScrubError::Unable(_))));
    assert_eq!(file.conn.total_changes(), changes);
    file.conn.execute_batch("COMMIT").unwrap();
    file.assert_sound();
}

#[test]
fn a_scrub_of_a_clean_file_writes_nothing() {
    let file = File::new();
    (0..50).for_each(|id| file.insert(id, 2_000, false));
    file.scrub(|_| ());
    let before = std::fs::read(file.directory.path().join("file.db")).unwrap();
    file.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    let changed: i64 = file.conn.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap();
    let mut scrub = Scrub::default();
    while !scrub.is_finished {
        scrub.step(&file.conn).unwrap();
    }
    let after: i64 = file.conn.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap();
    file.conn.execute_batch("COMMIT").unwrap();
    assert_eq!(after, changed);
    assert!(std::fs::read(file.directory.path().join("file.db")).unwrap() == before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_inserted_and_deleted_before_and_between_the_steps_nothing_of_it_is_left(
        rows in prop::collection::vec((0_usize..6_000, any::<bool>(), any::<bool>()), 1..120),
        between in prop::collection::vec((0_usize..6_000, any::<prop::sample::Index>()), 0..60),
    ) {
        let file = File::new();
        for (id, (length, is_marked, _)) in rows.iter().enumerate() {
            file.insert(id as i64, *length, *is_marked);
            // Some go at once, so that pages are used again.
            if *is_marked && length % 3 == 0 {
                file.delete(id as i64);
            }
        }
        let mut kept = Vec::new();
        for (id, (_, is_marked, is_deleted)) in rows.iter().enumerate() {
            if *is_marked || *is_deleted {
                file.delete(id as i64);
            } else {
                kept.push(id as i64);
            }
        }
        let mut next = rows.len() as i64;
        let mut steps = between.iter();
        let mut expected = file.content();
        let take = |file: &File| {
            for (length, index) in steps.by_ref().take(3) {
                if length % 2 == 0 && !kept.is_empty() {
                    let id = kept.swap_remove(index.index(kept.len()));
                    file.delete(id);
                    expected.remove(&id);
                } else {
                    file.insert(next, *length, false);
                    kept.push(next);
                    next += 1;
                }
            }
            expected = file.content();
        };
        file.scrub(take);
        prop_assert_eq!(remains(&file), 0);
        prop_assert!(file.content() == expected);
        file.assert_sound();
    }
}
