//! The power is cut at any moment: of what was not synced some is on the disk, some is not, some in part. Every call that
//! was confirmed before is there.
//!
//! A run of the store is recorded; cuts are played from the record, many to a run, each with its own seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Change, Disk};
use super::oracle::Oracle;
use super::{SqliteOutbox, in_memory, open, settings};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::outbox::sqlite::file::Place;
use crate::outbox::suite::{append, keyed, sized};
use crate::supervisor::Supervisor;

/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

/// So short that the log begins anew several times in a run.
const LOG_PAGES: i32 = 12;

const CUTS: u64 = 150;

type Record = Vec<(Arc<str>, Change)>;

/// A recorded run: the files before it, what was done to them, and what was known at which place of the record.
struct Run {
    before: BTreeMap<String, Vec<u8>>,
    record: Record,
    known: Vec<(usize, Oracle)>,
}

async fn run(path: &Path, lies: bool) -> Run {
    let (disk, vfs) = Disk::new();
    let place = Place { vfs: Some(vfs), log_pages: LOG_PAGES, ..Place::at(path) };
    let (store, _fresh) =
        SqliteOutbox::open_at(&place, &settings(path), Arc::new(Metrics::new().unwrap()), &Supervisor::new()).unwrap();
    disk.record(lies);
    let before = ["", "-wal"].map(|end| {
        let file = format!("{}{end}", path.display());
        (file.clone(), std::fs::read(file).unwrap())
    });
    let (mut oracle, mut known) = (Oracle::default(), vec![(0, Oracle::default())]);
    for round in 0..16_u8 {
        // A few callers at once, so that groups have several commands.
        let several = (0..8).map(|n| round * 8 + n);
        let size = |n: u8| usize::from(n) * 50;
        let appends = several.clone().map(|n| append(&*store, keyed(sized("u", &n.to_string(), size(n)), n, n)));
        // Unheard: until they are confirmed they may be anywhere.
        let mut asked = oracle.clone();
        several.clone().for_each(|n| asked.asked(n));
        known.push((disk.recorded(), asked));
        let results = futures_util::future::join_all(appends).await;
        several.zip(&results).for_each(|(n, result)| oracle.appended(n, result));
        known.push((disk.recorded(), oracle.clone()));
        for n in [round * 8, round * 8 + 3] {
            let mut asked = oracle.clone();
            asked.settling(n);
            known.push((disk.recorded(), asked));
            oracle.settle(&store, n, n % 8 == 0).await;
            known.push((disk.recorded(), oracle.clone()));
        }
    }
    let record = disk.take_record();
    store.close().await;
    Run { before: before.into(), record, known }
}

impl Run {
    /// The files after a cut at this place of the record.
    fn cut(&self, at: usize, random: &mut fastrand::Rng) -> BTreeMap<String, Vec<u8>> {
        let mut synced: BTreeMap<&str, usize> = BTreeMap::new();
        for (file, change) in &self.record[..at] {
            if let Change::Sync(up_to) = change {
                synced.insert(file, *up_to);
            }
        }
        let mut files = self.before.clone();
        for (place, (file, change)) in self.record[..at].iter().enumerate() {
            let is_synced = synced.get(&**file).is_some_and(|up_to| place < *up_to);
            let bytes = files.entry(file.to_string()).or_default();
            match change {
                Change::Truncate(size) if is_synced || random.bool() => bytes.resize(*size, 0),
                Change::Write(offset, written) if is_synced => put(bytes, *offset, written),
                // Whole, not at all, or some of its sectors.
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

    /// What was known at this place of the record.
    fn known(&self, at: usize) -> &Oracle {
        let after = self.known.partition_point(|(place, _)| *place <= at);
        &self.known[after - 1].1
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

/// How many cuts lost something, and one of them.
async fn losses(lies: bool) -> (usize, String) {
    let directory = in_memory();
    let run = run(&directory.path().join("outbox.db"), lies).await;
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
            Ok((store, _fresh)) => {
                let checked = run.known(at).check(&store).await;
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
async fn what_was_confirmed_outlives_a_power_cut() {
    let (lost, one) = losses(false).await;
    assert_eq!(lost, 0, "{one}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_lies_about_its_syncs_the_loss_is_found() {
    let (lost, _) = losses(true).await;
    assert!(lost > 0, "this test cannot find a loss");
}
