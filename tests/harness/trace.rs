//! What a relay asked of the disk and when it answered 202, in order, as `tests/shim/disk.rs` noted it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: String,
    /// Of a write, the offset; of a sync, its number in the process; of a cut, the length that was left.
    pub number: u64,
    /// What the system call returned.
    pub result: i64,
    pub path: PathBuf,
    /// Of a write or an answer.
    pub bytes: Vec<u8>,
}

/// All that happened, in order.
#[derive(Clone, Debug)]
pub struct Trace {
    pub records: Vec<Record>,
}

impl Record {
    fn is(&self, kind: &str, path: &Path) -> bool {
        self.kind == kind && self.path == path
    }
}

impl Trace {
    /// Reads what the library wrote. A last record of which only a part is there, because the process was killed, is left
    /// out.
    pub fn parse(mut rest: &[u8]) -> Self {
        let mut records = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&rest[..end]).expect("text");
            let fields: Vec<&str> = line.splitn(5, ' ').collect();
            let [kind, number, length, result, path] = fields[..] else { panic!("no record: {line}") };
            let length: usize = length.parse().expect("a length");
            let Some(bytes) = rest.get(end + 1..end + 1 + length) else { break };
            let number = number.parse().expect("a number");
            let result = result.parse().expect("a result");
            records.push(Record { kind: kind.into(), number, result, path: path.into(), bytes: bytes.to_vec() });
            rest = rest.get(end + 1 + length + 1..).unwrap_or_default();
        }
        Self { records }
    }

    /// The syncs that were begun.
    pub fn syncs(&self) -> u64 {
        self.records.iter().filter(|record| record.kind == "sync-begin").map(|record| record.number).max().unwrap_or(0)
    }

    /// Where the answers 202 are, each with its messageId.
    pub fn answers(&self) -> Vec<(usize, String)> {
        let id = |record: &Record| {
            let text = String::from_utf8_lossy(&record.bytes).into_owned();
            let id = text.split(r#""messageId":""#).nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
            id.expect("a 202 has a messageId")
        };
        let answers = self.records.iter().enumerate().filter(|(_, record)| record.kind == "answer");
        answers.map(|(at, record)| (at, id(record))).collect()
    }

    /// Every 202 that left before what it says was on disk: for each there must be a write of its messageId, and after
    /// that write the begin of a sync of the same file which ended well before the answer; and the directory must have
    /// been synced before, or the file itself might be gone.
    pub fn too_early(&self, directory: &Path) -> Vec<String> {
        let mut writes: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, record) in self.records.iter().enumerate().filter(|(_, record)| record.kind == "wrote") {
            for id in marks(&record.bytes) {
                writes.entry(id).or_default().push(at);
            }
        }
        let mut found = Vec::new();
        for (at, id) in self.answers() {
            let before = writes.get(&id).into_iter().flatten().filter(|written| **written < at);
            if !before.into_iter().any(|written| self.is_synced(*written, at, &self.records[*written].path)) {
                found.push(format!("{id}: answered at {at} and not synced before"));
            }
            if !self.is_synced(0, at, directory) {
                found.push(format!("{id}: answered at {at} and the directory not synced before"));
            }
        }
        found
    }

    /// Where the sync begins that first covers the call of this messageId. Others may end between it and the call's
    /// answer.
    pub fn first_sync_after_writing(&self, id: &str) -> Option<usize> {
        let written = self.records.iter().position(|one| one.kind == "wrote" && marks(&one.bytes).contains(id))?;
        let path = &self.records[written].path;
        self.records[written..].iter().position(|one| one.is("sync-begin", path)).map(|after| written + after)
    }

    /// Whether a sync of this file began after `from` and ended well before `until`.
    fn is_synced(&self, from: usize, until: usize, path: &Path) -> bool {
        let between = &self.records[from..until];
        let begun: Vec<u64> = between.iter().filter(|one| one.is("sync-begin", path)).map(|one| one.number).collect();
        between.iter().any(|one| one.is("sync-end", path) && one.result == 0 && begun.contains(&one.number))
    }

    /// The files as a power cut after the first `until` records may leave them: all that was synced is there, and of what
    /// was not, `keep` decides about each sector.
    ///
    /// A file's length is synced with it, and that it was deleted with its directory. What is not simulated: a directory
    /// that forgets a new file, which [`too_early`](Self::too_early) rules out.
    pub fn after_power_cut(&self, until: usize, mut keep: impl FnMut() -> bool) -> HashMap<PathBuf, Vec<u8>> {
        let mut files: HashMap<PathBuf, Vec<u8>> = HashMap::new();
        for (at, record) in self.records[..until].iter().enumerate() {
            let file = || record.path.clone();
            match &*record.kind {
                "cut" if record.result == 0 => files.entry(file()).or_default().resize(record.number as usize, 0),
                "gone" if record.result == 0 => {
                    let directory = record.path.parent().expect("a directory");
                    if self.is_synced(at, until, directory) || keep() {
                        files.remove(&record.path);
                    }
                }
                "wrote" if record.result > 0 => {
                    let is_safe = self.is_synced(at, until, &record.path);
                    let file = files.entry(file()).or_default();
                    for (piece, bytes) in sectors(record.number as usize, &record.bytes) {
                        if is_safe || keep() {
                            file.resize(file.len().max(piece + bytes.len()), 0);
                            file[piece..piece + bytes.len()].copy_from_slice(bytes);
                        }
                    }
                }
                _ => {}
            }
        }
        files
    }
}

/// What the messageIds of calls in a trace begin with; six digits follow.
const MARK: &str = "mark-";

/// A messageId that is found in a trace.
pub fn mark(number: usize) -> String {
    format!("{MARK}{number:06}")
}

fn marks(bytes: &[u8]) -> HashSet<String> {
    let text = String::from_utf8_lossy(bytes);
    text.match_indices(MARK).filter_map(|(at, _)| text.get(at..at + MARK.len() + 6)).map(str::to_owned).collect()
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The parts of a write by sectors of the disk, each with its offset.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    let (head, tail) = bytes.split_at(first);
    let tail = tail.chunks(SECTOR).enumerate().map(move |(number, part)| (offset + first + number * SECTOR, part));
    std::iter::once((offset, head)).chain(tail)
}
