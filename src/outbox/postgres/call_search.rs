//! Finds a call by its `messageId`, although no index has it: neither storing nor settling a call writes for this.
//!
//! A call with a key is found by the key, which is a digest of the `messageId`. A call without one has an id that the relay
//! made, and that holds the time. Rows are nearly in the order of time, so a binary search finds the place. If the call is not there,
//! because the clock was set or an earlier version made the id, all rows are looked at.
//!
//! A search is one transaction, which sees the tables as they were at its beginning: a call that moves meanwhile is where it was then.
//! It ends when the caller leaves, so no old snapshot keeps dead rows for longer than a request takes.

use async_trait::async_trait;

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::database_error::DatabaseError;
use super::operators::{Param, unreadable};
use super::shared::Shared;
use super::store::PostgresOutbox;
use super::transaction::column;
use crate::outbox::client::digest;
use crate::outbox::columns::time_text;
use crate::outbox::{CallFate, CallReport, Calls, KeptCall, OutboxError};
use crate::segment::{is_made_without_key, time_of_id, write_json_string};

/// Rows that one statement looks at: a tenth of a second at most, if they are large.
const STEP_ROWS: i64 = 2_000;

/// Statements from the place that the time in an id leads to: 20,000 calls, which is what a busy fleet stores between the second in
/// which a relay makes an id and the commit.
const NEAR_STEPS: usize = 10;

/// What the clocks of a relay and of the database may differ by, in milliseconds: both are set by the network.
const CLOCK_DIFFERENCE: i64 = 1_000;

/// A table of calls.
struct Table {
    is_letters: bool,
    /// The greatest of some ids from $1 on, their number, and the first one whose call has no key and ends with $2.
    step: &'static str,
    /// The first id from $1 on, and whether its time is $2 or later.
    time: &'static str,
    /// The smallest and the greatest id.
    ends: &'static str,
}

macro_rules! table {
    ($name:literal, $time:literal, $is_letters:literal, $is_call:literal) => {
        Table {
            is_letters: $is_letters,
            step: concat!(
                "SELECT max(id), count(*), min(id) FILTER (WHERE is_meant) FROM (
                    SELECT id, CASE WHEN key IS NULL AND ",
                $is_call,
                " THEN substr(call, greatest(octet_length(call) - octet_length($2::bytea) + 1, 1)) = $2 ELSE false END AS is_meant
                    FROM segment_relay.",
                $name,
                " WHERE id >= $1 ORDER BY id LIMIT $3) AS looked"
            ),
            time: concat!(
                "SELECT id, ",
                $time,
                " >= 'epoch'::timestamptz + $2::bigint * interval '1 millisecond' FROM segment_relay.",
                $name,
                " WHERE id >= $1 ORDER BY id LIMIT 1"
            ),
            ends: concat!(
                "SELECT (SELECT id FROM segment_relay.",
                $name,
                " ORDER BY id LIMIT 1), (SELECT id FROM segment_relay.",
                $name,
                " ORDER BY id DESC LIMIT 1)"
            ),
        }
    };
}

const TABLES: [Table; 3] = [
    table!("calls", "stored_at", false, "true"),
    table!("parked_calls", "stored_at", false, "true"),
    table!("dead_letters", "refused_at", true, "why <> 'unmapped'"),
];

const KEY: &str = "SELECT call_id, dead_letter_id FROM segment_relay.keys WHERE key = $1";

/// A call that waits. The first call of a parked user is the parked one.
const WAITING: &str = "
    SELECT c.call, c.user_id, (extract(epoch FROM c.stored_at) * 1000)::bigint, NULL::integer, NULL::integer, NULL::bytea, false
    FROM segment_relay.calls c WHERE c.id = $1
    UNION ALL
    SELECT w.call, w.user_id, (extract(epoch FROM w.stored_at) * 1000)::bigint, p.attempts, p.status, p.reason, p.id IS NOT NULL
    FROM segment_relay.parked_calls w LEFT JOIN LATERAL (
        SELECT p.id, p.attempts, p.status, p.reason FROM segment_relay.parked p
        WHERE p.user_key = w.user_key AND p.since IS NOT NULL AND w.id = (SELECT f.id FROM segment_relay.parked_calls f
            WHERE f.user_key = w.user_key ORDER BY f.user_key, f.id LIMIT 1)
        LIMIT 1) AS p ON true
    WHERE w.id = $1";

/// A call that is a dead letter.
const LETTER: &str = "
    SELECT call, user_id, (extract(epoch FROM stored_at) * 1000)::bigint, attempts, nullif(status, 0), reason, why = 'refused'
    FROM segment_relay.dead_letters WHERE id = $1 AND why <> 'unmapped'";

/// What is looked for.
struct Search<'c> {
    connection: &'c Connection,
    message_id: &'c str,
    /// The end of the call's JSON: `messageId` is the last member of a call, and its own quotes are escaped.
    end: Vec<u8>,
}

#[async_trait]
impl Calls for PostgresOutbox {
    async fn find(&self, message_id: &str) -> Result<Option<CallReport>, OutboxError> {
        self.shared.find_call(message_id).await
    }
}

impl Shared {
    /// What became of the call with this `messageId`.
    pub(super) async fn find_call(&self, message_id: &str) -> Result<Option<CallReport>, OutboxError> {
        let held = self.searcher().await?;
        let mut end = br#","messageId":"#.to_vec();
        write_json_string(&mut end, message_id);
        end.push(b'}');
        let search = Search { connection: &held, message_id, end };
        let found = search.run().await.map_err(|error| unreadable(&error))?;
        held.give_back();
        Ok(found)
    }
}

impl Search<'_> {
    async fn run(&self) -> Result<Option<CallReport>, DatabaseError> {
        self.connection.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let found = self.find().await?;
        self.connection.batch("COMMIT").await?;
        Ok(found)
    }

    async fn find(&self) -> Result<Option<CallReport>, DatabaseError> {
        let known = self.by_key().await?;
        // Any other call has its key for as long as it is in the store.
        if known.is_some() || !is_made_without_key(self.message_id) {
            return Ok(known);
        }
        if let Some(time) = time_of_id(self.message_id) {
            for table in &TABLES {
                let from = self.first_id_at(table, time.saturating_sub(CLOCK_DIFFERENCE)).await?;
                if let Some(found) = self.look(table, from, NEAR_STEPS).await? {
                    return Ok(Some(found));
                }
            }
        }
        for table in &TABLES {
            if let Some(found) = self.look(table, Some(i64::MIN), usize::MAX).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What became of a call with a key.
    async fn by_key(&self) -> Result<Option<CallReport>, DatabaseError> {
        let key = digest(&[self.message_id.as_bytes()]);
        let rows = self.connection.query(KEY, &[(&key.as_slice(), Type::BYTEA)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (call, letter): (i64, Option<i64>) = (column(row, 0)?, column(row, 1)?);
        match self.report(letter.is_some(), letter.unwrap_or(call)).await? {
            Some((json, report)) => Ok(json.ends_with(&self.end).then_some(report)),
            // The key of a call that left the store remembers an accepted one.
            None if letter.is_none() => {
                Ok(Some(CallReport { message_id: self.message_id.to_owned(), outcome: CallFate::Accepted, kept: None }))
            }
            None => Ok(None),
        }
    }

    /// Looks at the rows from an id on, in so many steps at most.
    async fn look(&self, table: &Table, from: Option<i64>, steps: usize) -> Result<Option<CallReport>, DatabaseError> {
        let (mut next, mut steps) = (from, 0..steps);
        while let (Some(from), Some(_)) = (next, steps.next()) {
            let params: [Param<'_>; 3] = [(&from, Type::INT8), (&self.end, Type::BYTEA), (&STEP_ROWS, Type::INT8)];
            let rows = self.connection.query(table.step, &params).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            if let Some(id) = column(row, 2)?
                && let Some((_, report)) = self.report(table.is_letters, id).await?
            {
                return Ok(Some(report));
            }
            let is_full = column::<i64>(row, 1)? == STEP_ROWS;
            next = column::<Option<i64>>(row, 0)?.filter(|_| is_full).and_then(|last| last.checked_add(1));
        }
        Ok(None)
    }

    /// The first id of a row of this time or later. Where times do not grow with the ids, it may be another row.
    async fn first_id_at(&self, table: &Table, time: i64) -> Result<Option<i64>, DatabaseError> {
        let rows = self.connection.query(table.ends, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (Some(mut first), Some(mut last)) = (column::<Option<i64>>(row, 0)?, column::<Option<i64>>(row, 1)?) else {
            return Ok(None);
        };
        while first < last {
            let middle = first + (last - first) / 2;
            let rows = self.connection.query(table.time, &[(&middle, Type::INT8), (&time, Type::INT8)]).await?;
            let Some(row) = rows.first() else { return Ok(Some(first)) };
            if column(row, 1)? {
                last = middle;
            } else {
                first = column::<i64>(row, 0)?.saturating_add(1);
            }
        }
        Ok(Some(first))
    }

    /// The call of a row, and what became of it.
    async fn report(&self, is_letter: bool, id: i64) -> Result<Option<(Vec<u8>, CallReport)>, DatabaseError> {
        let sql = if is_letter { LETTER } else { WAITING };
        let rows = self.connection.query(sql, &[(&id, Type::INT8)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let outcome = match (is_letter, column(row, 6)?) {
            (true, true) => CallFate::Refused,
            (true, false) => CallFate::GaveUp,
            (false, true) => CallFate::Parked,
            (false, false) => CallFate::Waiting,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (attempts, status): (Option<i32>, Option<i32>) = (column(row, 3)?, column(row, 4)?);
        let kept = KeptCall {
            user_id: text(column(row, 1)?),
            stored_at: time_text(column(row, 2)?),
            attempts: attempts.map(|attempts| attempts.max(0).unsigned_abs()),
            status: status.and_then(|status| u16::try_from(status).ok()),
            reason: column::<Option<&[u8]>>(row, 5)?.map(text),
        };
        let report = CallReport { message_id: self.message_id.to_owned(), outcome, kept: Some(kept) };
        Ok(Some((column(row, 0)?, report)))
    }
}
