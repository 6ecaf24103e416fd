//! What is in the file: made in a new one, checked in an old one.
//!
//! The version is SQLite's `user_version`. A change to `schema.sql` is a new version, and a step here that leads to it from
//! the one before; all steps are taken in one transaction. A file of a newer version, or of another program, is refused.

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, Row};

/// "SgRl": whose file it is.
const APPLICATION_ID: i64 = 0x5367_526c;

/// The steps from an empty file to the newest version: the first leads to version 1.
const STEPS: [&str; 1] = [include_str!("schema.sql")];

/// Whether the file is ours, and of a version that is known. Nothing is written.
pub(super) fn check(conn: &Connection) -> anyhow::Result<()> {
    let owner = pragma(conn, "application_id")?;
    let version = usize::try_from(pragma(conn, "user_version")?).unwrap_or(usize::MAX);
    let is_empty = !conn.prepare("SELECT 1 FROM sqlite_schema")?.exists([])?;
    ensure!(
        owner == APPLICATION_ID || (owner == 0 && version == 0 && is_empty),
        "the file is another program's database; name another file"
    );
    ensure!(
        version <= STEPS.len(),
        "the file was written by a newer segment-relay (version {version} of its tables, this one knows {}); start that \
         one, or name another file",
        STEPS.len()
    );
    Ok(())
}

/// Brings the file to the newest version, and sees that the tables are what they must be.
pub(super) fn migrate(conn: &mut Connection) -> anyhow::Result<()> {
    let version = usize::try_from(pragma(conn, "user_version")?)?;
    if version < STEPS.len() {
        let transaction = conn.transaction()?;
        for step in &STEPS[version..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len())?)?;
        transaction.commit()?;
    }
    let wanted = Connection::open_in_memory()?;
    for step in STEPS {
        wanted.execute_batch(step)?;
    }
    if tables(conn)? != tables(&wanted)? {
        bail!("the file's tables are not this program's; restore it from a backup, or move it away");
    }
    let counters: i64 = conn.query_row("SELECT count(*) FROM counters", [], |row| row.get(0))?;
    ensure!(counters == 1, "the file has lost its counters; restore it from a backup, or move it away");
    Ok(())
}

/// Every table as it was written down.
fn tables(conn: &Connection) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let table = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut tables = conn.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
    let tables = tables.query_map([], table)?.collect::<Result<_, _>>();
    tables.context("the file's list of tables cannot be read")
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}
