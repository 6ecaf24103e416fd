//! The tables: created in a new file, checked in an existing one.
//!
//! The version is SQLite's `user_version`. A change to the tables is a new version, and needs a migration here from the
//! version before; all migrations run in one transaction. A file of a newer version, or of another program, is
//! refused.

use anyhow::{Context, ensure};
use rusqlite::{Connection, Row};

/// "SgRl": marks a file as this program's.
const APPLICATION_ID: i64 = 0x5367_526c;

/// "SgMv": marks a file whose calls were moved to another store, or are being moved. Any program refuses it.
pub(super) const MOVED_ID: i64 = 0x5367_4d76;

/// The migrations from an empty file to the newest version: the first leads to version 1.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// The version of the tables that this program makes.
pub const NEWEST_VERSION: usize = MIGRATIONS.len();

/// Refuses a file that is not this program's, or of an unknown version. Writes nothing. Returns the version, 0 for an empty file.
pub(super) fn check(conn: &Connection) -> anyhow::Result<usize> {
    let application = pragma(conn, "application_id")?;
    let version = usize::try_from(pragma(conn, "user_version")?).unwrap_or(usize::MAX);
    let is_empty = !conn.prepare("SELECT 1 FROM sqlite_schema")?.exists([])?;
    ensure!(
        application != MOVED_ID,
        "the outbox was moved to PostgreSQL, or its move was begun; set RELAY_OUTBOX_URL to the database, and end the move \
         (segment-relay move) if it was interrupted"
    );
    ensure!(
        application == APPLICATION_ID || (application == 0 && version == 0 && is_empty),
        "the file is another program's database; name another file"
    );
    ensure!(
        version <= MIGRATIONS.len(),
        "the file was written by a newer segment-relay (version {version} of its tables, this one knows {}); start that \
         one, or name another file",
        MIGRATIONS.len()
    );
    Ok(version)
}

/// Whether the file is marked as one that is moved to another store.
pub(super) fn is_moved(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(pragma(conn, "application_id")? == MOVED_ID)
}

/// Migrates the file to the newest version, and checks that the tables are as expected.
pub(super) fn migrate(conn: &mut Connection) -> anyhow::Result<()> {
    let version = usize::try_from(pragma(conn, "user_version")?)?;
    if version < MIGRATIONS.len() {
        let transaction = conn.transaction()?;
        for migration in &MIGRATIONS[version..] {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len())?)?;
        transaction.commit()?;
    }
    let expected = Connection::open_in_memory()?;
    for migration in MIGRATIONS {
        expected.execute_batch(migration)?;
    }
    ensure!(
        tables(conn)? == tables(&expected)?,
        "the file's tables are not this program's; restore it from a backup, or move it away"
    );
    let counters: i64 = conn.query_row("SELECT count(*) FROM counters", [], |row| row.get(0))?;
    ensure!(counters == 1, "the file has lost its counters; restore it from a backup, or move it away");
    Ok(())
}

/// Every table's name and definition.
fn tables(conn: &Connection) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let table = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut tables = conn.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
    let tables = tables.query_map([], table)?.collect::<Result<_, _>>();
    tables.context("the file's list of tables cannot be read")
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}
