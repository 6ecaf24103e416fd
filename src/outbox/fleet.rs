//! What one relay knows of the others that have the same outbox.

use serde::Serialize;

/// The relays that have one outbox in PostgreSQL, and how their database is. `GET /status` answers with this JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetReport {
    /// Those that were seen within the last minute, the oldest first.
    pub members: Vec<FleetMember>,
    /// Who delivers. `None`: nobody does now, or the database is away and another relay did.
    pub delivering: Option<FleetDeliverer>,
    /// `segment-relay move` into this database has not ended. Nobody delivers until it has.
    pub move_unfinished: bool,
    /// How often a relay began to deliver, since the tables were made.
    pub tenures: u64,
    pub database: FleetDatabase,
}

/// A relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetMember {
    pub name: String,
    pub version: String,
    /// RFC 3339, UTC: when it started, and when it was seen last.
    pub since: String,
    pub seen: String,
    /// Whether it is the one that answers.
    pub is_this: bool,
    pub is_delivering: bool,
}

/// The relay that delivers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetDeliverer {
    /// `None`: it was not seen within the last minute.
    pub name: Option<String>,
    pub is_this: bool,
    /// RFC 3339, UTC.
    pub since: String,
    /// Until the lease ends, unless it is renewed.
    pub lease_seconds: f64,
}

/// The database.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetDatabase {
    /// Whether this relay can reach it. While it cannot, all else is what it read last.
    pub is_reachable: bool,
    /// The age of the oldest transaction: no row that was deleted since can be removed.
    pub oldest_transaction_seconds: f64,
    /// What the table of waiting calls and its index take on disk, and how many of its rows are deleted and not removed.
    pub calls_bytes: u64,
    pub dead_rows: u64,
    /// RFC 3339, UTC: when deleted rows were removed last.
    pub vacuumed_at: Option<String>,
}
