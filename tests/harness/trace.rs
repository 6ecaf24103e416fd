//! A trace of a relay's disk operations and its 202 answers, in order, as `tests/shim/disk.rs` recorded them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// One event.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: String,
    /// A write's offset, a sync's number in the process, or the remaining length of a truncation (`cut`).
    pub number: u64,
    /// What the system call returned.
    pub result: i64,
    pub path: PathBuf,
    /// The bytes of a write or of an answer.
    pub bytes: Vec<u8>,
}

/// All events, in order.
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
    /// Parses the library's output. An incomplete last record, which a killed process leaves, is ignored.
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

    /// The number of syncs that began.
    pub fn syncs(&self) -> u64 {
        self.records.iter().filter(|record| record.kind == "sync-begin").map(|record| record.number).max().unwrap_or(0)
    }

    /// The index and the messageId of each 202 answer.
    pub fn answers(&self) -> Vec<(usize, String)> {
        let id = |record: &Record| {
            let text = String::from_utf8_lossy(&record.bytes).into_owned();
            let id = text.split(r#""messageId":""#).nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
            id.expect("a 202 has a messageId")
        };
        let answers = self.records.iter().enumerate().filter(|(_, record)| record.kind == "answer");
        answers.map(|(at, record)| (at, id(record))).collect()
    }

    /// Describes every 202 that was sent before its call was on disk. For each 202 there must be a write of its
    /// messageId, and after that write a sync of the same file that began, and succeeded before the answer. The
    /// directory must be synced before the answer too, or the file itself may be lost.
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

    /// The index at which the first sync begins that covers the call with this messageId. Other syncs may end between
    /// it and the call's answer.
    pub fn first_sync_after_writing(&self, id: &str) -> Option<usize> {
        let written = self.records.iter().position(|one| one.kind == "wrote" && marks(&one.bytes).contains(id))?;
        let path = &self.records[written].path;
        self.records[written..].iter().position(|one| one.is("sync-begin", path)).map(|after| written + after)
    }

    /// Whether a sync of this file began after `from` and succeeded before `until`.
    fn is_synced(&self, from: usize, until: usize, path: &Path) -> bool {
        let between = &self.records[from..until];
        let begun: Vec<u64> = between.iter().filter(|one| one.is("sync-begin", path)).map(|one| one.number).collect();
        between.iter().any(|one| one.is("sync-end", path) && one.result == 0 && begun.contains(&one.number))
    }

    /// The files as a power cut after the first `until` records may leave them: synced bytes are there, and `keep`
    /// decides for each sector that was not synced.
    ///
    /// A sync of a file covers its length, and a sync of a directory covers deletions in it. The loss of a new file's
    /// directory entry is not simulated, because [`too_early`](Self::too_early) rules it out.
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

/// The prefix of the messageIds in a trace. Six digits follow.
const MARK: &str = "mark-";

/// A messageId that can be found in a trace.
pub fn mark(number: usize) -> String {
    format!("{MARK}{number:06}")
}

fn marks(bytes: &[u8]) -> HashSet<String> {
    let text = String::from_utf8_lossy(bytes);
    text.match_indices(MARK).filter_map(|(at, _)| text.get(at..at + MARK.len() + 6)).map(str::to_owned).collect()
}

/// The bytes that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// Splits a write into the sectors of the disk, each with its offset.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    let (head, tail) = bytes.split_at(first);
    let tail = tail.chunks(SECTOR).enumerate().map(move |(number, part)| (offset + first + number * SECTOR, part));
    std::iter::once((offset, head)).chain(tail)
}
