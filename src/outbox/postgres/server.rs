//! What a server must be so that the relay's promise holds on it, for the start and for `segment-relay check`.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use tokio_postgres::Row;

use super::connect::{Connection, Connector};
use super::database_error::DatabaseError;
use super::schema::MIGRATIONS;
use crate::config::PostgresUrl;
use crate::outbox::sqlite::StoredOfSource;

/// Older servers lack `pg_current_xact_id` and `pg_current_snapshot`.
const OLDEST_VERSION: i32 = 130_000;

/// The connections of a relay that delivers: for appends, figures, the lease, delivery, and VACUUM. Operators' requests take further
/// ones for a while.
pub const CONNECTIONS: i64 = 5;

/// Everything that is asked of a server, in one statement. Without a right on the statistics of others `sync_state` is NULL.
const INSPECT: &str = "
    SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
        current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', pg_is_in_recovery(),
        current_setting('transaction_read_only') = 'on',
        to_regnamespace('segment_relay') IS NOT NULL,
        EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'meta' AND relnamespace = to_regnamespace('segment_relay')::oid),
        has_database_privilege(current_database(), 'CREATE'),
        coalesce(has_schema_privilege(to_regnamespace('segment_relay')::oid, 'CREATE'), false),
        coalesce((SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_catalog.pg_class
            WHERE relnamespace = to_regnamespace('segment_relay')::oid AND relkind = 'r'), true),
        current_setting('synchronous_standby_names'),
        (SELECT count(*) FROM pg_catalog.pg_stat_replication),
        (SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
        (SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE sync_state IS NULL),
        current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
            - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL),
        current_user::text, current_setting('server_encoding')";

/// What was found of a server.
#[derive(Debug)]
pub struct Server {
    /// As in 150018 for 15.18.
    pub version: i32,
    pub version_text: String,
    pub has_fsync: bool,
    pub has_full_page_writes: bool,
    pub is_standby: bool,
    pub is_read_only: bool,
    pub has_schema: bool,
    pub has_tables: bool,
    pub may_make_schema: bool,
    pub may_make_tables: bool,
    /// Also if there are no tables.
    pub owns_tables: bool,
    pub standby_names: String,
    pub standbys: i64,
    pub synchronous_standbys: i64,
    /// Standbys of which the user may not know more.
    pub hidden_standbys: i64,
    /// Connections that the server still has room for.
    pub free_connections: i64,
    pub user: String,
    /// Of the database.
    pub encoding: String,
}

/// What the tables of an outbox hold, for `segment-relay check`.
#[derive(Debug, Default)]
pub struct TableContent {
    /// The version of the tables; 0 if there are none.
    pub version: i32,
    /// The sources that have waiting calls or dead letters.
    pub sources: BTreeMap<String, StoredOfSource>,
}

/// The newest version of the tables that this program makes.
pub fn newest_version() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Looks at the server of this URL, and changes nothing.
///
/// # Errors
/// If it cannot be reached, or refuses the user.
pub async fn inspect_server(url: &PostgresUrl) -> anyhow::Result<(Server, anyhow::Result<TableContent>)> {
    let connection = Connector::new(url)?.open("check").await?;
    let server = read(&connection).await?;
    let content = content(&connection, &server).await.map_err(anyhow::Error::from);
    Ok((server, content))
}

/// Refuses a server on which the promise does not hold, or that cannot be written.
///
/// # Errors
/// If it is such a server, or if it cannot be asked ([`DatabaseError`]).
pub(super) async fn refuse_unsafe(connection: &Connection) -> anyhow::Result<()> {
    let server = read(connection).await?;
    if let Some(problem) = server.problem().or_else(|| server.missing_right()) {
        bail!("{problem}");
    }
    Ok(())
}

async fn read(connection: &Connection) -> anyhow::Result<Server> {
    let rows = connection.query(INSPECT, &[]).await?;
    let row = rows.first().context("the database answers without a row")?;
    Ok(Server::from_row(row)?)
}

async fn content(connection: &Connection, server: &Server) -> Result<TableContent, DatabaseError> {
    let mut content = TableContent::default();
    if !server.has_tables {
        return Ok(content);
    }
    for row in connection.query("SELECT version FROM segment_relay.meta", &[]).await? {
        content.version = row.try_get(0).unwrap_or_default();
    }
    let sql = "SELECT source, sum(waiting)::bigint, sum(dead_letters)::bigint FROM (
                   SELECT source, waiting, dead_letters FROM segment_relay.totals
                   UNION ALL SELECT source, waiting, dead_letters FROM segment_relay.tallies) AS counts
               WHERE source <> '' GROUP BY source HAVING sum(waiting) > 0 OR sum(dead_letters) > 0";
    for row in connection.query(sql, &[]).await? {
        let count = |column| row.try_get::<_, i64>(column).unwrap_or_default().max(0).unsigned_abs();
        let of_source = StoredOfSource { calls: count(1), letters: count(2) };
        content.sources.insert(row.try_get(0).unwrap_or_default(), of_source);
    }
    Ok(content)
}

impl Server {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            version: row.try_get(0)?,
            version_text: row.try_get(1)?,
            has_fsync: row.try_get(2)?,
            has_full_page_writes: row.try_get(3)?,
            is_standby: row.try_get(4)?,
            is_read_only: row.try_get(5)?,
            has_schema: row.try_get(6)?,
            has_tables: row.try_get(7)?,
            may_make_schema: row.try_get(8)?,
            may_make_tables: row.try_get(9)?,
            owns_tables: row.try_get(10)?,
            standby_names: row.try_get(11)?,
            standbys: row.try_get(12)?,
            synchronous_standbys: row.try_get(13)?,
            hidden_standbys: row.try_get(14)?,
            free_connections: row.try_get(15)?,
            user: row.try_get(16)?,
            encoding: row.try_get(17)?,
        })
    }

    /// Why the relay's promise does not hold on this server.
    pub fn problem(&self) -> Option<String> {
        if self.version < OLDEST_VERSION {
            return Some(format!("the server is PostgreSQL {}, and must be 13 or newer", self.version_text));
        }
        // What operators ask is text.
        if self.encoding != "UTF8" {
            return Some(format!(
                "the database's encoding is {}, and must be UTF8; make another database",
                self.encoding
            ));
        }
        let problem = if self.is_standby {
            "the server is a standby, which takes no writes; name the primary, or all hosts, in RELAY_OUTBOX_URL"
        } else if !self.has_fsync {
            "the server has fsync = off: what it calls stored is lost with the power; set fsync = on"
        } else if !self.has_full_page_writes {
            "the server has full_page_writes = off: it may be damaged when the power fails; set full_page_writes = on"
        } else if self.is_read_only {
            "the server has default_transaction_read_only = on for this user or database; set it to off"
        } else {
            return None;
        };
        Some(problem.to_owned())
    }

    /// Which right the user lacks.
    pub fn missing_right(&self) -> Option<String> {
        let user = &self.user;
        if !self.has_schema && !self.may_make_schema {
            return Some(format!(
                "the user {user} may not make the schema segment_relay; an administrator must run: CREATE SCHEMA segment_relay \
                 AUTHORIZATION {user}"
            ));
        } else if self.has_schema && !self.has_tables && !self.may_make_tables {
            return Some(format!(
                "the user {user} may not make tables in the schema segment_relay; an administrator must run: ALTER SCHEMA \
                 segment_relay OWNER TO {user}"
            ));
        } else if !self.owns_tables {
            return Some(format!(
                "the user {user} does not own the tables in the schema segment_relay, and could neither migrate nor VACUUM \
                 them; use the user that made them, or a member of that role"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests;
