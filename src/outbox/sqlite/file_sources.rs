//! Which sources have something in an outbox's file, as another process reads it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Result};

use super::file::DatabaseFile;
use super::schema;

/// The newest dead letters that are looked at. The name of a letter's source is behind its body, so reading all of them would
/// read up to half of the outbox.
const LETTERS: u32 = 1000;

/// What an outbox's file holds of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredOfSource {
    /// Calls that wait.
    pub calls: u64,
    /// Those of the newest 1,000 dead letters that are its.
    pub letters: u64,
}

/// The sources that have waiting calls or dead letters in this file, which [`check_file`](super::check_file) has checked. A relay
/// that uses the file is not disturbed: reads do not make its commits wait. Where no relay has left a log beside the file, SQLite
/// makes an empty one.
///
/// # Errors
/// If the file cannot be read, or is another program's.
pub fn sources_in_file(path: &Path) -> anyhow::Result<BTreeMap<String, StoredOfSource>> {
    if path.metadata()?.len() == 0 {
        return Ok(BTreeMap::new());
    }
    let conn = DatabaseFile::new(path).open_reading()?;
    schema::check(&conn)?;
    Ok(read(&conn)?)
}

fn read(conn: &Connection) -> Result<BTreeMap<String, StoredOfSource>> {
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
    let mut rows = letters.query([LETTERS])?;
    while let Some(row) = rows.next()? {
        if let Some(name) = row.get::<_, Option<String>>(0)? {
            found.entry(name).or_default().letters += 1;
        }
    }
    Ok(found)
}
