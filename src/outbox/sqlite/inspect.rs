//! What an outbox's file holds and what its disk is, as another process reads it. A relay that uses the file is not disturbed, and
//! nothing is left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Result};

use super::file::{self, DatabaseFile, WAL_BYTES_KEPT, WAL_SUFFIXES, beside, free_disk_bytes, reserve_path};
use super::reserve::MAX_RESERVE_BYTES;
use super::schema;

/// The newest dead letters that are looked at. The name of a letter's source is behind its body, so reading all of them would
/// read up to half of the outbox.
const NEWEST_LETTERS: u32 = 1000;

/// What an outbox's file holds.
#[derive(Default)]
pub struct FileContent {
    /// The version of its tables; 0 if it has none yet.
    pub version: usize,
    /// The sources that have waiting calls or dead letters.
    pub sources: BTreeMap<String, StoredOfSource>,
}

/// What an outbox's file holds of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredOfSource {
    /// Calls that wait.
    pub calls: u64,
    /// Its dead letters among the newest 1,000.
    pub letters: u64,
}

/// The disk of an outbox.
pub struct Disk {
    /// Free bytes, as far as the disk says.
    pub free: Option<u64>,
    /// How many bytes the outbox may still grow by.
    pub needed: u64,
    pub kind: DiskKind,
}

/// What is known about a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// Nothing that speaks against it. Its name, if it is one of the common ones.
    Local(Option<&'static str>),
    /// It is on another machine: SQLite's locks and syncs may not hold there.
    Network(&'static str),
    /// It is in memory.
    Memory(&'static str),
    /// It is a container's own layer, which is deleted with the container.
    Layer(&'static str),
    /// This system does not say.
    Unknown,
}

/// Reads a file that [`check_file`](super::check_file) has checked.
///
/// # Errors
/// If the file cannot be read, is another program's, or of a newer version.
pub fn inspect_file(path: &Path) -> anyhow::Result<FileContent> {
    if path.metadata()?.len() == 0 {
        return Ok(FileContent::default());
    }
    let real = path.canonicalize()?;
    let conn = if beside(&real, WAL_SUFFIXES[0]).exists() {
        DatabaseFile::new(&real).open_reading()?
    } else {
        open_alone(&real)?
    };
    Ok(FileContent { version: schema::check(&conn)?, sources: read_sources(&conn)? })
}

/// Opens a file without a log. SQLite would make one for a reader, and leave it, unless it may take the file for one that nobody
/// changes.
fn open_alone(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let mut uri = String::from("file:");
    for c in path.to_string_lossy().chars() {
        match c {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            c => uri.push(c),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, flags)
}

fn read_sources(conn: &Connection) -> Result<BTreeMap<String, StoredOfSource>> {
    let mut found = BTreeMap::<String, StoredOfSource>::new();
    // Older versions had no sources.
    if !conn.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'sources'")?.exists([])? {
        return Ok(found);
    }
    let mut calls = conn.prepare("SELECT name, calls FROM sources WHERE calls > 0")?;
    let mut rows = calls.query([])?;
    while let Some(row) = rows.next()? {
        found.entry(row.get(0)?).or_default().calls = row.get::<_, i64>(1)?.unsigned_abs();
    }
    let mut letters = conn.prepare("SELECT source FROM dead_letters ORDER BY id DESC LIMIT ?1")?;
    let mut rows = letters.query([NEWEST_LETTERS])?;
    while let Some(row) = rows.next()? {
        if let Some(name) = row.get::<_, Option<String>>(0)? {
            found.entry(name).or_default().letters += 1;
        }
    }
    Ok(found)
}

/// Looks at the disk on which the outbox is, or will be made.
pub fn inspect_disk(path: &Path, max_bytes: u64) -> Disk {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut own = vec![path.clone(), reserve_path(&path)];
    own.extend(WAL_SUFFIXES.map(|suffix| beside(&path, suffix)));
    let length = |path: &PathBuf| path.metadata().map_or(0, |found| found.len());
    let whole = max_bytes.saturating_add(WAL_BYTES_KEPT.unsigned_abs()).saturating_add(MAX_RESERVE_BYTES);
    let directory = file::directory_of(&path);
    Disk {
        free: free_disk_bytes(&directory.join("outbox")),
        needed: whole.saturating_sub(own.iter().map(length).sum()),
        kind: disk_kind(&directory),
    }
}

/// By the numbers of `statfs(2)` and Linux' `magic.h`.
#[cfg(target_os = "linux")]
fn disk_kind(directory: &Path) -> DiskKind {
    let Ok(found) = rustix::fs::statfs(directory) else { return DiskKind::Unknown };
    // The type of this number depends on the platform; the numbers themselves have 32 bits.
    match found.f_type as u32 {
        0x6969 => DiskKind::Network("NFS"),
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => DiskKind::Network("SMB"),
        0x00c3_6400 => DiskKind::Network("Ceph"),
        0x0102_1997 => DiskKind::Network("9p"),
        0x5346_414f | 0x6b41_4653 => DiskKind::Network("AFS"),
        0x0102_1994 => DiskKind::Memory("tmpfs"),
        0x8584_58f6 => DiskKind::Memory("ramfs"),
        0x794c_7630 => DiskKind::Layer("overlay"),
        0xef53 => DiskKind::Local(Some("ext4")),
        0x5846_5342 => DiskKind::Local(Some("XFS")),
        0x9123_683e => DiskKind::Local(Some("Btrfs")),
        0x2fc1_2fc1 => DiskKind::Local(Some("ZFS")),
        _ => DiskKind::Local(None),
    }
}

#[cfg(not(target_os = "linux"))]
fn disk_kind(_directory: &Path) -> DiskKind {
    DiskKind::Unknown
}
