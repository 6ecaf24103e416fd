//! The tables: created in a new database, migrated in an existing one.
//!
//! A program that knows version k migrates anything lower to k, works with k, works beside k + 1, and refuses more. So the relays
//! of a fleet may be replaced one after the other. A migration may only add: tables, and columns with defaults. What version k
//! needs may go in k + 2 at the earliest.

use anyhow::{Context, ensure};
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::database_error::DatabaseError;

/// The migrations from an empty database to the newest version: the first leads to version 1.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// "SgRl": of the lock that one relay holds while it makes or migrates the tables.
const LOCK: i64 = 0x5367_526c;

/// Makes the tables, or migrates them, and sees to it that new ids are above all those in the tables. Returns their version.
///
/// # Errors
/// If the tables are of a newer program, or if the database refuses what is needed. A [`DatabaseError`]
/// may be gone at the next attempt, anything else is not.
pub(super) async fn prepare(connection: &Connection, migrations: &[&str]) -> anyhow::Result<i32> {
    let newest = i32::try_from(migrations.len())?;
    let mut version = read_version(connection).await?;
    if version < newest {
        version = migrate(connection, migrations).await?;
    }
    ensure!(
        version <= newest.saturating_add(1),
        "the tables in the database were made by a newer segment-relay (version {version}, this one knows {newest}, and works \
         beside the next one); start that one, or name another database"
    );
    raise_base(connection).await?;
    Ok(version)
}

/// The version of the tables; 0 if there are none.
async fn read_version(connection: &Connection) -> anyhow::Result<i32> {
    // The name would be looked up in what the session remembers, which may be older than the lock.
    let sql = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'segment_relay' AND tablename = 'meta'";
    if connection.query(sql, &[]).await?.is_empty() {
        return Ok(0);
    }
    let rows = connection.query("SELECT version FROM segment_relay.meta", &[]).await?;
    Ok(rows.first().context("the tables have lost their version; restore them from a backup")?.try_get(0)?)
}

/// Migrates the tables under a lock, unless another relay did meanwhile.
async fn migrate(connection: &Connection, migrations: &[&str]) -> anyhow::Result<i32> {
    connection.batch("BEGIN").await?;
    // An error drops the connection, and with it the transaction.
    connection.query("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    let mut version = read_version(connection).await?;
    if version > 0 {
        // Waits for the appends that run.
        connection.batch("LOCK TABLE segment_relay.meta IN ACCESS EXCLUSIVE MODE").await?;
        version = read_version(connection).await?;
    } else if connection
        .query("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'segment_relay'", &[])
        .await?
        .is_empty()
    {
        // A schema that an administrator made needs no right to make one.
        connection.batch("CREATE SCHEMA segment_relay").await?;
    }
    for (migration, leads_to) in migrations.iter().zip(1..).skip(usize::try_from(version)?) {
        // It may take longer than a statement does otherwise.
        connection.client.batch_execute(migration).await.map_err(|error| DatabaseError::of_statement(&error))?;
        version = leads_to;
    }
    let system = system(connection).await?;
    connection
        .execute(
            "INSERT INTO segment_relay.meta (version, base, system) VALUES ($1, 0, $2)
             ON CONFLICT (one) DO UPDATE SET version = excluded.version",
            &[(&version, Type::INT4), (&system, Type::INT8)],
        )
        .await?;
    connection.batch("COMMIT").await?;
    Ok(version)
}

/// The cluster whose transactions the ids are made of.
async fn system(connection: &Connection) -> anyhow::Result<i64> {
    let rows = connection.query("SELECT system_identifier FROM pg_control_system()", &[]).await?;
    Ok(rows.first().context("the database answers without a row")?.try_get(0)?)
}

/// Raises the base of the ids, if the tables came from another cluster: its transactions may have greater numbers.
async fn raise_base(connection: &Connection) -> anyhow::Result<()> {
    let system = system(connection).await?;
    // No transaction that has ended has a greater number than the snapshot says, so no id is above it.
    let sql = "SELECT 1 FROM segment_relay.meta WHERE system = $1
                   AND greatest((SELECT max(id) FROM segment_relay.calls), (SELECT max(id) FROM segment_relay.parked_calls), 0)
                       < (base + pg_snapshot_xmax(pg_current_snapshot())::text::bigint) << 16";
    if !connection.query(sql, &[(&system, Type::INT8)]).await?.is_empty() {
        return Ok(());
    }
    connection.batch("BEGIN; LOCK TABLE segment_relay.meta IN ACCESS EXCLUSIVE MODE").await?;
    let sql = "UPDATE segment_relay.meta SET system = $1, base = greatest(base, 1 + (greatest(
                   (SELECT max(id) FROM segment_relay.calls), (SELECT max(id) FROM segment_relay.parked_calls),
                   (SELECT max(call_id) FROM segment_relay.keys), 0) >> 16))";
    let raised = connection.execute(sql, &[(&system, Type::INT8)]).await?;
    connection.batch("COMMIT").await?;
    if raised > 0 {
        tracing::warn!("the tables came from another database cluster; new calls get ids above all that came along");
    }
    Ok(())
}
