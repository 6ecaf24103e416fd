//! Reading a page of calls after the cursor, in one statement and so under one snapshot.
//!
//! The statement marks the calls of users whose earlier calls are kept apart. Only the deliverer parks and wakes users, so the marks
//! stay true until it has moved these calls. An append looks at none of this: one that began before its user was parked would store
//! the call among the others.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::cursor::{Cursor, Snapshot};
use super::database_error::DatabaseError;
use super::figures::UserKey;
use crate::outbox::{CallId, StoredCall};
use crate::segment::Call;
use crate::telemetry::TraceContext;

/// Calls of a page. In a larger page each call costs the statement as much.
pub(super) const PAGE_ROWS: i64 = 2_500;

/// Bytes of calls in a page, whatever room delivery has.
pub(super) const PAGE_BYTES: usize = 1024 * 1024;

/// The first row says under which snapshot the others were read. The calls are found by their ids alone, whatever the planner knows
/// of the table, and the bytes of a large one are fetched only if it is in the page. Those that wait are not sent to the relay.
const PAGE: &str = "
    SELECT NULL::bigint AS id, pg_current_snapshot()::text AS snapshot,
        (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started,
        (SELECT base FROM segment_relay.meta) AS base,
        NULL::bytea AS user_key, NULL::bytea AS user_id, NULL::text AS source, NULL::bytea AS trace, NULL::bytea AS call,
        NULL::bigint AS length
    UNION ALL
    SELECT id, NULL, NULL, NULL, user_key, user_id, source, trace, CASE WHEN waits THEN NULL ELSE call END, length
    FROM (
        SELECT id, user_key, user_id, source, trace, call, octet_length(call)::bigint AS length,
            sum(octet_length(call)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - octet_length(call) AS bytes_before,
            CASE WHEN (SELECT id FROM segment_relay.parked ORDER BY id LIMIT 1) IS NULL THEN false ELSE coalesce((
                SELECT p.since IS NOT NULL OR coalesce((
                    SELECT true FROM segment_relay.parked_calls q WHERE q.user_key = c.user_key AND q.id < c.id
                    ORDER BY q.user_key, q.id LIMIT 1), false)
                FROM segment_relay.parked p WHERE p.user_key = c.user_key LIMIT 1), false) END AS waits
        FROM (
            SELECT id, user_key, user_id, source, trace, call FROM (
                (SELECT id, user_key, user_id, source, trace, call FROM segment_relay.calls WHERE id > $1 ORDER BY id LIMIT $2)
                UNION ALL
                SELECT late.id, late.user_key, late.user_id, late.source, late.trace, late.call
                FROM unnest($3::bigint[], $4::bigint[]) AS range (first, last) CROSS JOIN LATERAL (
                    SELECT id, user_key, user_id, source, trace, call FROM segment_relay.calls
                    WHERE id >= range.first AND id <= range.last ORDER BY id LIMIT $2) AS late
            ) AS all_calls ORDER BY id LIMIT $2
        ) AS c
    ) AS page WHERE bytes_before < $5";

/// What is asked first: as long as the answer is the same, no transaction has ended that could have stored a call.
const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text || ' ' || pg_postmaster_start_time()::text";

/// A page of calls.
pub(super) struct Page {
    pub(super) snapshot: Snapshot,
    /// Another server, or the same one after a restart, gives ids anew that no log mentions.
    pub(super) server: IdOrigin,
    /// Ordered by id.
    pub(super) calls: Vec<PageCall>,
    /// There may be more calls after the last one.
    pub(super) is_cut: bool,
}

/// What the ids of calls depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdOrigin {
    /// In microseconds since 1970.
    started: i64,
    base: i64,
}

/// A call of a page.
pub(super) struct PageCall {
    pub(super) id: CallId,
    pub(super) user: UserKey,
    pub(super) length: usize,
    /// `None`: it waits behind earlier calls of its user that are kept apart.
    pub(super) call: Option<Call>,
}

/// The text that changes when a transaction has ended.
pub(super) async fn snapshot_text(connection: &Connection) -> Result<String, DatabaseError> {
    let rows = connection.query(SNAPSHOT, &[]).await?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default())
}

/// Reads calls after the cursor, in the order of their ids: about so many bytes, and one call at least. `None`: the answer is not
/// what the statement returns.
pub(super) async fn read(
    connection: &Connection,
    cursor: &Cursor,
    bytes: usize,
) -> Result<Option<Page>, DatabaseError> {
    let (firsts, lasts) = cursor.ranges();
    let limit = bytes.clamp(1, PAGE_BYTES);
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 5] = [
        (&cursor.tail(), Type::INT8),
        (&PAGE_ROWS, Type::INT8),
        (&firsts, Type::INT8_ARRAY),
        (&lasts, Type::INT8_ARRAY),
        (&(limit as i64), Type::INT8),
    ];
    let rows = connection.query(PAGE, &params).await?;
    Ok(page_from_rows(&rows, limit))
}

fn page_from_rows(rows: &[Row], limit: usize) -> Option<Page> {
    let (head, rows) = rows.split_first()?;
    let server = IdOrigin { started: head.try_get("started").ok()?, base: head.try_get("base").ok()? };
    let snapshot = Snapshot::parse(head.try_get("snapshot").ok()?, server.base)?;
    let mut calls = rows.iter().map(page_call).collect::<Option<Vec<_>>>()?;
    calls.sort_unstable_by_key(|call| call.id);
    let bytes: usize = calls.iter().map(|call| call.length).sum();
    let is_cut = calls.len() as i64 >= PAGE_ROWS || bytes >= limit;
    Some(Page { snapshot, server, calls, is_cut })
}

fn page_call(row: &Row) -> Option<PageCall> {
    let length = row.try_get::<_, i64>("length").ok()?.max(0).unsigned_abs() as usize;
    let json: Option<&[u8]> = row.try_get("call").ok()?;
    let call = json.map(|_| call_of(row)).map_or(Some(None), |call| call.map(Some))?;
    Some(PageCall { id: row.try_get("id").ok()?, user: user_key(row)?, length, call })
}

/// The column `user_key`.
pub(super) fn user_key(row: &Row) -> Option<UserKey> {
    row.try_get::<_, &[u8]>("user_key").ok()?.try_into().ok()
}

/// The call in the columns `user_id`, `source`, `trace` and `call`.
pub(super) fn call_of(row: &Row) -> Option<Call> {
    let user_id = String::from_utf8(row.try_get::<_, &[u8]>("user_id").ok()?.to_vec()).ok()?;
    let source = row.try_get::<_, Option<&str>>("source").ok()?.map(Arc::from);
    let json = row.try_get::<_, &[u8]>("call").ok()?.to_vec();
    // No call is lost for its trace.
    let trace = row.try_get::<_, Option<&[u8]>>("trace").ok()?.and_then(TraceContext::from_bytes).map(Arc::new);
    Some(Call::from_wire(Arc::from(user_id), source, json.into()).in_trace(trace))
}

impl PageCall {
    pub(super) fn stored(self) -> Option<StoredCall> {
        Some(StoredCall { id: self.id, call: self.call?, is_parked: false })
    }
}
