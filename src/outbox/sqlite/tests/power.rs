//! Power cuts at any moment: of the changes that were not synced, some are on the disk, some are not, and some are
//! there in part. Every call that was confirmed before the cut must be there.
//!
//! One run of the store is recorded. Many cuts are simulated from the record, each with its own seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::fake_disk::{Change, FakeDisk};
use super::oracle::{Location, Oracle};
use super::{SqliteOutbox, in_memory, open, settings};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::outbox::sqlite::file::DatabaseFile;
use crate::outbox::suite::{append, keyed, sized};
use crate::supervisor::Supervisor;

/// The bytes that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// So few that the log is restarted several times in a run.
const WAL_PAGES: i32 = 12;

const CUTS: u64 = 150;

type Record = Vec<(Arc<str>, Change)>;

/// A recorded run: the files before it, the changes, and what was expected at which index of the record.
struct Run {
    before: BTreeMap<String, Vec<u8>>,
    record: Record,
    expected: Vec<(usize, Oracle)>,
}

async fn run(path: &Path, ignores_syncs: bool) -> Run {
    let (disk, vfs) = FakeDisk::new();
    let file = DatabaseFile { vfs: Some(vfs), wal_pages: WAL_PAGES, ..DatabaseFile::new(path) };
    let store =
        SqliteOutbox::open_file(&file, &settings(path), Arc::new(Metrics::new().unwrap()), &Supervisor::new()).unwrap();
    disk.record(ignores_syncs);
    let before = ["", "-wal"].map(|end| {
        let file = format!("{}{end}", path.display());
        (file.clone(), std::fs::read(file).unwrap())
    });
    let (mut oracle, mut expected) = (Oracle::default(), vec![(0, Oracle::default())]);
    for round in 0..16_u8 {
        // Concurrent calls, so that groups have several commands.
        let several = (0..8).map(|n| round * 8 + n);
        let size = |n: u8| usize::from(n) * 50;
        let appends = several.clone().map(|n| append(&*store, keyed(sized("u", &n.to_string(), size(n)), n, n)));
        // Until an append is answered, its call may be stored or not.
        let mut asked = oracle.clone();
        several.clone().for_each(|n| asked.appending(n));
        expected.push((disk.recorded(), asked));
        let results = futures_util::future::join_all(appends).await;
        several.zip(&results).for_each(|(n, result)| oracle.appended(n, result));
        expected.push((disk.recorded(), oracle.clone()));
        if round % 4 == 1 {
            let (group, event) = (130 + round * 3..133 + round * 3, 200 + round);
            let mut asked = oracle.clone();
            asked.asking(group.clone(), Location::Waiting);
            expected.push((disk.recorded(), asked));
            oracle.append_group(&store, group).await;
            let mut asked = oracle.clone();
            asked.asking(event..event + 1, Location::DeadLetter);
            expected.push((disk.recorded(), asked));
            oracle.keep(&store, event).await;
            expected.push((disk.recorded(), oracle.clone()));
        }
        for n in [round * 8, round * 8 + 3] {
            let mut asked = oracle.clone();
            asked.settling(n);
            expected.push((disk.recorded(), asked));
            oracle.settle(&store, n, n % 8 == 0).await;
            expected.push((disk.recorded(), oracle.clone()));
        }
    }
    let record = disk.take_record();
    store.close().await;
    Run { before: before.into(), record, expected }
}

impl Run {
    /// The files after a cut at this index of the record.
    fn cut(&self, at: usize, random: &mut fastrand::Rng) -> BTreeMap<String, Vec<u8>> {
        let mut synced: BTreeMap<&str, usize> = BTreeMap::new();
        for (file, change) in &self.record[..at] {
            if let Change::Sync(up_to) = change {
                synced.insert(file, *up_to);
            }
        }
        let mut files = self.before.clone();
        for (index, (file, change)) in self.record[..at].iter().enumerate() {
            let is_synced = synced.get(&**file).is_some_and(|up_to| index < *up_to);
            let bytes = files.entry(file.to_string()).or_default();
            match change {
                Change::Truncate(size) if is_synced || random.bool() => bytes.resize(*size, 0),
                Change::Write(offset, written) if is_synced => put(bytes, *offset, written),
                // Completely, not at all, or some of its sectors.
                Change::Write(offset, written) => match random.u8(0..3) {
                    0 => put(bytes, *offset, written),
                    1 => {}
                    _ => tear(bytes, *offset, written, random),
                },
                Change::Truncate(_) | Change::Sync(_) => {}
            }
        }
        files
    }

    /// What is expected at this index of the record.
    fn expected(&self, at: usize) -> &Oracle {
        let after = self.expected.partition_point(|(index, _)| *index <= at);
        &self.expected[after - 1].1
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

fn tear(bytes: &mut Vec<u8>, mut offset: usize, mut written: &[u8], random: &mut fastrand::Rng) {
    while !written.is_empty() {
        let in_sector = written.len().min(SECTOR - offset % SECTOR);
        if random.bool() {
            put(bytes, offset, &written[..in_sector]);
        }
        (offset, written) = (offset + in_sector, &written[in_sector..]);
    }
}

/// The number of cuts with a loss, and a description of one.
async fn losses(ignores_syncs: bool) -> (usize, String) {
    let directory = in_memory();
    let run = run(&directory.path().join("outbox.db"), ignores_syncs).await;
    let (mut lost, mut one) = (0, String::new());
    for seed in 0..CUTS {
        let mut random = fastrand::Rng::with_seed(seed);
        let at = random.usize(0..=run.record.len());
        let after = in_memory();
        for (file, bytes) in run.cut(at, &mut random) {
            let name = Path::new(&file).file_name().unwrap();
            std::fs::write(after.path().join(name), bytes).unwrap();
        }
        let wrong = match open(&settings(&after.path().join("outbox.db"))) {
            Err(error) => Err(format!("{error:#}")),
            Ok(store) => {
                let checked = run.expected(at).check(&store).await;
                store.close().await;
                checked
            }
        };
        if let Err(wrong) = wrong {
            lost += 1;
            one = format!("seed {seed}, cut at {at} of {}: {wrong}", run.record.len());
        }
    }
    (lost, one)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmed_calls_survive_a_power_cut() {
    let (lost, one) = losses(false).await;
    assert_eq!(lost, 0, "{one}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_finds_the_losses_of_a_disk_that_does_not_sync() {
    let (lost, _) = losses(true).await;
    assert!(lost > 0, "this test cannot find a loss");
}
