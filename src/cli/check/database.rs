//! The rows of an outbox in PostgreSQL: whether its server can be reached, is safe, lets the relay in, and what the tables hold.

use super::row::Row;
use super::stored::{FILE, RIGHTS, SERVER, SOURCES, STANDBY, VERSION, sources};
use crate::config::PostgresUrl;
use crate::outbox::postgres::{self, CONNECTIONS, Server, TableContent};
use crate::sources::settings::SourceTable;

/// The rows from `outbox` to `outbox-sources`, and those from `outbox-server` on.
pub(super) async fn rows(url: &PostgresUrl, table: Option<&SourceTable>) -> (Vec<Row>, Vec<Row>) {
    let (server, content) = match postgres::inspect_server(url).await {
        Ok(found) => found,
        Err(error) => {
            let failed = Row::failed(FILE, format!("{url}: {error:#}")).advise(
                "A relay with these settings does not start. docs/fleet.md says what the server and the URL need.",
            );
            let skipped = |name| Row::skipped(name, "the database cannot be used");
            return (
                vec![failed, skipped(VERSION), skipped(SOURCES)],
                vec![skipped(SERVER), skipped(RIGHTS), skipped(STANDBY)],
            );
        }
    };
    let mut first = vec![reached(url, &server)];
    match content {
        Ok(content) => {
            first.push(version(&content));
            first.extend(sources(content.sources, table, "dead letters"));
        }
        Err(error) => {
            let advice = "The relay's user must own the tables.";
            first.push(Row::failed(VERSION, format!("the tables cannot be read: {error:#}")).advise(advice));
            first.push(Row::skipped(SOURCES, "the tables cannot be read"));
        }
    }
    (first, vec![settings(&server), rights(&server), standby(&server)])
}

fn reached(url: &PostgresUrl, server: &Server) -> Row {
    let found = format!("{url} can be reached");
    if server.free_connections >= CONNECTIONS {
        return Row::ok(FILE, found);
    }
    let free = server.free_connections.max(0);
    Row::warning(FILE, format!("{found}, and has room for {free} more connections; a relay takes {CONNECTIONS}"))
        .advise("Raise max_connections of the server, or let other programs use fewer.")
}

fn version(content: &TableContent) -> Row {
    let newest = postgres::newest_version();
    match content.version {
        0 => Row::ok(VERSION, format!("there are no tables yet: the next start makes version {newest}")),
        same if same == newest => Row::ok(VERSION, format!("version {same}, which this program makes")),
        older if older < newest => {
            Row::warning(VERSION, format!("version {older}: the next start makes it version {newest}"))
                .advise("Relays of the version before work beside it, older ones do not.")
        }
        newer if newer == newest.saturating_add(1) => {
            Row::warning(VERSION, format!("version {newer}, made by a newer program; this one works beside it"))
                .advise("Replace the other relays soon.")
        }
        newer => Row::failed(VERSION, format!("version {newer}, and this program knows {newest}"))
            .advise("Start the newer program, or name another database."),
    }
}

fn settings(server: &Server) -> Row {
    match server.problem() {
        Some(problem) => Row::failed(SERVER, problem).advise("The relay does not start with such a server."),
        None => Row::ok(SERVER, format!("PostgreSQL {}, with fsync and full_page_writes", server.version_text)),
    }
}

fn rights(server: &Server) -> Row {
    match server.missing_right() {
        Some(problem) => Row::failed(RIGHTS, problem).advise("The relay does not start without it."),
        None if server.has_tables => Row::ok(RIGHTS, format!("the user {} owns the tables", server.user)),
        None => Row::ok(RIGHTS, format!("the user {} may make the tables", server.user)),
    }
}

fn standby(server: &Server) -> Row {
    let Server { standbys, synchronous_standbys, hidden_standbys, standby_names, .. } = server;
    if server.is_standby {
        return Row::skipped(STANDBY, "the server is a standby itself");
    } else if *synchronous_standbys > 0 && !standby_names.is_empty() {
        return Row::ok(STANDBY, format!("synchronous standbys: {synchronous_standbys} of {standbys}"));
    }
    let found = match (standby_names.is_empty(), *standbys) {
        (true, 0) => "there is no standby: what is stored is lost with the server's disk".to_owned(),
        (true, _) => {
            format!("standbys: {standbys}, none of them synchronous: a fail-over may lose calls that were answered 202")
        }
        (false, found) if found > 0 && found == *hidden_standbys => {
            return Row::warning(STANDBY, "whether a standby is synchronous is hidden from this user")
                .advise(format!("An administrator must run: GRANT pg_monitor TO {}", server.user));
        }
        (false, _) => {
            let found = "synchronous_standby_names is set and no such standby is connected: no call can be stored";
            return Row::failed(STANDBY, found)
                .advise("Connect that standby, or take it out of synchronous_standby_names and reload the server.");
        }
    };
    Row::warning(STANDBY, found).advise("Connect a standby, and set synchronous_standby_names.")
}
