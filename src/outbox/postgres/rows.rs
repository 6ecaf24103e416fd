//! The statement that stores calls, and what it answers.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::database_error::DatabaseError;
use super::durable_commit::level;
use super::figures::UserKey;
use super::keys::Digest;
use crate::outbox::client::digest;
use crate::outbox::columns::CallFields;
use crate::outbox::{Append, Appended, CallId, KeyRecord, OutboxError};
use crate::telemetry::TraceContext;

/// Stores a group of calls and the records of their keys, in the order of the arrays, but for those whose keys are known. A repeat
/// under the same number stores nothing, and tells so; it writes something, so that its commit waits for a synchronous standby,
/// which then has the first one, too.
///
/// The keys are inserted in their own order, so that two relays do not wait for each other. Nothing set for the role or the
/// database makes the commit weaker: `level` comes first, and the rest needs it.
///
/// `base` is in a subquery, because the planner takes that for one row: of a table without statistics it expects 1,660, and for so
/// much work it compares each call with each key, and compiles the statement, which takes a second (`jit_above_cost`).
const STORE: &str = concat!(
    level!(),
    "made AS (
    INSERT INTO segment_relay.groups (relay, n, first)
    SELECT $1, $2, ((SELECT base FROM segment_relay.meta) + pg_current_xact_id()::text::bigint) << 16
    FROM level WHERE level.now IS NOT NULL
    ON CONFLICT (relay, n) DO UPDATE SET made_at = clock_timestamp()
    RETURNING first,
        first = ((SELECT base FROM segment_relay.meta) + pg_current_xact_id()::text::bigint) << 16 AS is_new
), given AS MATERIALIZED (
    SELECT made.first + place AS id, user_key, user_id, key, body, source, trace, call
    FROM made, unnest($3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::text[], $8::bytea[], $9::bytea[])
        WITH ORDINALITY AS given (user_key, user_id, key, body, source, trace, call, place)
    WHERE made.is_new
), fresh AS (
    INSERT INTO segment_relay.keys (key, body, call_id)
    SELECT key, body, id FROM given WHERE key IS NOT NULL ORDER BY key, id
    ON CONFLICT (key) DO NOTHING RETURNING call_id
), stored AS (
    INSERT INTO segment_relay.calls (id, user_key, user_id, key, source, trace, call)
    SELECT id, user_key, user_id, key, source, trace, call FROM given
    WHERE key IS NULL OR id IN (SELECT call_id FROM fresh) ORDER BY id
    RETURNING id, key, source, octet_length(call) AS bytes
), counted AS (
    INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes, keys)
    SELECT coalesce(source, ''), count(*), sum(bytes + 128), count(key) FROM stored GROUP BY source
)
SELECT made.first, made.is_new, ARRAY(SELECT id FROM stored ORDER BY id) FROM made"
);

/// A call as it is stored.
pub(super) struct Entry {
    pub(super) append: Append,
    pub(super) user_key: UserKey,
    /// The request's key. A call that is watched and has none gets one of its own, so that any relay can tell its outcome: that a
    /// row is gone is no proof that the call was accepted.
    pub(super) key: Option<KeyRecord>,
    /// Which request of the batch it is of.
    pub(super) request: usize,
    /// Whether it was compared with what there is room for.
    pub(super) is_allowed: bool,
    pub(super) result: Option<Result<Appended, OutboxError>>,
}

impl Entry {
    pub(super) fn new(append: Append, request: usize) -> Self {
        let call = &append.call;
        let own_key =
            || Some(KeyRecord { key: digest(&[message_id(call.json())?.as_bytes()]), body: digest(&[call.json()]) });
        let key = append.key.or_else(|| append.watch.then(own_key).flatten());
        Self { user_key: digest(&[call.user_id().as_bytes()]), key, append, request, is_allowed: false, result: None }
    }
}

/// The `messageId` of a call.
fn message_id(json: &[u8]) -> Option<String> {
    serde_json::from_slice(json).ok().map(|CallFields { message_id }| message_id)
}

/// What the statement answers.
pub(super) struct StoredGroup {
    /// The id before that of the first call.
    pub(super) first: CallId,
    /// False: an earlier attempt stored the group, and which calls of it is known by their keys.
    pub(super) is_new: bool,
    /// The ids of the calls that were stored now.
    pub(super) ids: Vec<CallId>,
}

impl StoredGroup {
    pub(super) fn has_stored(&self, id: CallId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }
}

/// Stores a group. With `begin` in a transaction that it begins.
pub(super) async fn store(
    connection: &Connection,
    number: (i64, i64),
    entries: &[&Entry],
    begin: bool,
) -> Result<StoredGroup, DatabaseError> {
    let rows = if begin {
        // One round trip: the server gets both at once, in this order.
        let (begun, rows) = tokio::join!(connection.batch("BEGIN"), query(connection, STORE, number, entries));
        begun?;
        rows?
    } else {
        query(connection, STORE, number, entries).await?
    };
    let row = rows.first().ok_or_else(DatabaseError::missing_row)?;
    let read = || Ok(StoredGroup { first: row.try_get(0)?, is_new: row.try_get(1)?, ids: row.try_get(2)? });
    read().map_err(|error| DatabaseError::of_statement(&error))
}

/// The rows of a statement with the parameters of [`STORE`].
async fn query(
    connection: &Connection,
    sql: &str,
    (relay, n): (i64, i64),
    entries: &[&Entry],
) -> Result<Vec<Row>, DatabaseError> {
    let traces: Vec<Option<[u8; TraceContext::BYTES]>> =
        entries.iter().map(|entry| entry.append.call.trace().map(|trace| trace.to_bytes())).collect();
    let user_keys: Vec<&[u8]> = entries.iter().map(|entry| entry.user_key.as_slice()).collect();
    let user_ids: Vec<&[u8]> = entries.iter().map(|entry| entry.append.call.user_id().as_bytes()).collect();
    let digests = |of: fn(&KeyRecord) -> &Digest| -> Vec<Option<&[u8]>> {
        entries.iter().map(|entry| entry.key.as_ref().map(|key| of(key).as_slice())).collect()
    };
    let (keys, bodies) = (digests(|key| &key.key), digests(|key| &key.body));
    let sources: Vec<Option<&str>> =
        entries.iter().map(|entry| entry.append.call.source().map(|name| &**name)).collect();
    let traces: Vec<Option<&[u8]>> = traces.iter().map(|trace| trace.as_ref().map(<[u8; _]>::as_slice)).collect();
    let calls: Vec<&[u8]> = entries.iter().map(|entry| &entry.append.call.json()[..]).collect();
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 9] = [
        (&relay, Type::INT8),
        (&n, Type::INT8),
        (&user_keys, Type::BYTEA_ARRAY),
        (&user_ids, Type::BYTEA_ARRAY),
        (&keys, Type::BYTEA_ARRAY),
        (&bodies, Type::BYTEA_ARRAY),
        (&sources, Type::TEXT_ARRAY),
        (&traces, Type::BYTEA_ARRAY),
        (&calls, Type::BYTEA_ARRAY),
    ];
    connection.query(sql, &params).await
}

#[cfg(test)]
pub(super) async fn explain(connection: &Connection, entries: &[&Entry]) -> Vec<String> {
    let rows = query(connection, &format!("EXPLAIN {STORE}"), (1, 1), entries).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
