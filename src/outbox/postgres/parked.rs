//! Users whose calls are kept apart: the rows of `parked`, which the deliverer alone changes.
//!
//! A transaction reads the rows of the users that it concerns, changes them here, and writes them back with the differences of the
//! counts. If the first call of a user fails, `since` is set and nothing but that call is read. It wakes the user when it leaves:
//! the user's calls are read in turn then.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use super::database_error::DatabaseError;
use super::figures::UserKey;
use super::leave::LeftApart;
use super::transaction::{Transaction, column};
use crate::outbox::CallId;

/// Moves calls behind those of their users that are kept apart. They keep their ids.
const MOVE: &str = "
    WITH m AS (DELETE FROM segment_relay.calls WHERE id = ANY($1)
            RETURNING id, user_key, user_id, stored_at, key, source, trace, call),
        i AS (INSERT INTO segment_relay.parked_calls (id, user_key, user_id, stored_at, key, source, trace, call)
            SELECT id, user_key, user_id, stored_at, key, source, trace, call FROM m)
    SELECT user_key, user_id, octet_length(call)::bigint + 128 FROM m ORDER BY id";

const FIND: &str = "
    SELECT i.id, coalesce(
        (SELECT user_key FROM segment_relay.calls WHERE id = i.id LIMIT 1),
        (SELECT user_key FROM segment_relay.parked_calls WHERE id = i.id LIMIT 1))
    FROM unnest($1::bigint[]) AS i (id)";

const READ: &str = "
    SELECT p.user_key, p.user_id, p.calls, p.bytes, floor(extract(epoch FROM p.since) * 1000)::bigint, p.attempts, p.failures, p.status,
        p.reason, floor(extract(epoch FROM p.retry_at) * 1000)::bigint, p.turn, p.id
    FROM unnest($1::bytea[]) AS u (user_key) CROSS JOIN LATERAL (
        SELECT id, user_key, user_id, calls, bytes, since, attempts, failures, status, reason, retry_at, turn
        FROM segment_relay.parked WHERE user_key = u.user_key LIMIT 1) AS p";

/// An update is written as an insert, because that finds the row by its index whatever the planner knows.
const WRITE: &str = "
    INSERT INTO segment_relay.parked (user_key, user_id, calls, bytes, since, attempts, failures, status, reason, retry_at, turn)
    SELECT user_key, user_id, calls, bytes, 'epoch'::timestamptz + since * interval '1 millisecond', attempts, failures, status,
        reason, 'epoch'::timestamptz + retry_at * interval '1 millisecond', turn
    FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::int[], $7::int[], $8::int[], $9::bytea[],
        $10::bigint[], $11::bigint[])
        AS n (user_key, user_id, calls, bytes, since, attempts, failures, status, reason, retry_at, turn)
    ON CONFLICT (user_key) DO UPDATE SET calls = excluded.calls, bytes = excluded.bytes, since = excluded.since,
        attempts = excluded.attempts, failures = excluded.failures, status = excluded.status, reason = excluded.reason,
        retry_at = excluded.retry_at, turn = excluded.turn";

const DELETE: &str = "DELETE FROM segment_relay.parked WHERE user_key = ANY($1)";

/// A row of `parked`. Times are in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ParkedRow {
    pub(super) user_id: Vec<u8>,
    pub(super) calls: i64,
    pub(super) bytes: i64,
    pub(super) since: Option<i64>,
    pub(super) attempts: i32,
    pub(super) failures: i32,
    pub(super) status: Option<i32>,
    pub(super) reason: Option<Vec<u8>>,
    pub(super) retry_at: i64,
    pub(super) turn: i64,
}

/// The rows of the users whom a transaction concerns: as they were, and as they are to be.
#[derive(Default)]
pub(super) struct ParkedRows {
    old: BTreeMap<UserKey, ParkedRow>,
    pub(super) new: BTreeMap<UserKey, ParkedRow>,
}

impl ParkedRow {
    fn is_failing(&self) -> bool {
        self.since.is_some() && self.calls > 0
    }

    fn failing_bytes(&self) -> i64 {
        if self.is_failing() { self.bytes } else { 0 }
    }
}

impl ParkedRows {
    /// Calls of this user were moved.
    fn add(&mut self, user: UserKey, user_id: &[u8], bytes: i64, turn: impl FnOnce() -> i64) {
        let row = self.new.entry(user).or_insert_with(|| ParkedRow {
            user_id: user_id.to_vec(),
            turn: turn(),
            ..ParkedRow::default()
        });
        (row.calls, row.bytes) = (row.calls + 1, row.bytes + bytes);
    }

    /// A call that was kept apart left. If it was the one that failed, the user wakes, behind the others.
    pub(super) fn leave(&mut self, left: &LeftApart, turn: impl FnOnce() -> i64) {
        let Some(row) = self.new.get_mut(&left.user) else { return };
        (row.calls, row.bytes) = (row.calls - 1, row.bytes - left.bytes);
        if row.since.take().is_some() {
            (row.attempts, row.failures, row.status, row.reason) = (0, 0, None, None);
            row.turn = turn();
        }
    }
}

impl Transaction<'_> {
    /// Which of these calls wait, and of whom.
    pub(super) async fn find_users(&self, ids: &[CallId]) -> Result<BTreeMap<CallId, UserKey>, DatabaseError> {
        let mut users = BTreeMap::new();
        if ids.is_empty() {
            return Ok(users);
        }
        for row in self.query(FIND, &[(&ids, Type::INT8_ARRAY)]).await? {
            let user: Option<&[u8]> = column(&row, 1)?;
            if let Some(user) = user.and_then(|user| user.try_into().ok()) {
                users.insert(column(&row, 0)?, user);
            }
        }
        Ok(users)
    }

    /// Reads the rows of these users that are not there yet.
    pub(super) async fn read_parked(&self, users: &[UserKey], rows: &mut ParkedRows) -> Result<(), DatabaseError> {
        let mut users: Vec<&[u8]> =
            users.iter().filter(|user| !rows.old.contains_key(*user)).map(|user| &user[..]).collect();
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            return Ok(());
        }
        for row in self.query(READ, &[(&users, Type::BYTEA_ARRAY)]).await? {
            let Ok(user) = column::<&[u8]>(&row, 0)?.try_into() else { continue };
            let parked = ParkedRow {
                user_id: column(&row, 1)?,
                calls: column(&row, 2)?,
                bytes: column(&row, 3)?,
                since: column(&row, 4)?,
                attempts: column(&row, 5)?,
                failures: column(&row, 6)?,
                status: column(&row, 7)?,
                reason: column(&row, 8)?,
                retry_at: column(&row, 9)?,
                turn: column(&row, 10)?,
            };
            rows.old.insert(user, parked.clone());
            rows.new.insert(user, parked);
        }
        Ok(())
    }

    /// Moves these calls, if they are in `calls`, behind those of their users that are kept apart.
    pub(super) async fn move_apart(
        &self,
        ids: &[CallId],
        rows: &mut ParkedRows,
        turn: &mut i64,
    ) -> Result<(), DatabaseError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut moved: Vec<(UserKey, Vec<u8>, i64)> = Vec::new();
        for row in self.query(MOVE, &[(&ids, Type::INT8_ARRAY)]).await? {
            if let Ok(user) = column::<&[u8]>(&row, 0)?.try_into() {
                moved.push((user, column(&row, 1)?, column(&row, 2)?));
            }
        }
        let users: Vec<UserKey> = moved.iter().map(|(user, ..)| *user).collect();
        self.read_parked(&users, rows).await?;
        for (user, user_id, bytes) in &moved {
            rows.add(*user, user_id, *bytes, || next(turn));
        }
        Ok(())
    }

    /// Writes the rows that were changed, and counts the differences.
    pub(super) async fn write_parked(&mut self, rows: &ParkedRows) -> Result<(), DatabaseError> {
        let none = ParkedRow::default();
        let changed: Vec<_> = rows.new.iter().filter(|(user, row)| rows.old.get(*user) != Some(row)).collect();
        for (user, row) in &changed {
            let old = rows.old.get(*user).unwrap_or(&none);
            let (did_fail, does_fail) = (old.is_failing(), row.is_failing());
            let counts = self.effects.tallies.of(None);
            counts.parked_users += i64::from(does_fail) - i64::from(did_fail);
            counts.parked_calls += row.calls.max(0) - old.calls;
            counts.parked_bytes += row.failing_bytes() - old.failing_bytes();
            self.effects.parked_users += u64::from(does_fail && !did_fail);
            self.effects.woken_users += u64::from(did_fail && !does_fail);
            self.effects.has_turns |= row.calls > 0 && row.since.is_none();
            let bytes = if row.calls > 0 { row.bytes } else { 0 };
            self.effects.user_bytes.push((**user, bytes));
        }
        let (kept, gone): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, row)| row.calls > 0);
        if !gone.is_empty() {
            let gone: Vec<&[u8]> = gone.iter().map(|(user, _)| &user[..]).collect();
            self.execute(DELETE, &[(&gone, Type::BYTEA_ARRAY)]).await?;
        }
        if kept.is_empty() {
            return Ok(());
        }
        let users: Vec<&[u8]> = kept.iter().map(|(user, _)| &user[..]).collect();
        let user_ids: Vec<&[u8]> = kept.iter().map(|(_, row)| &row.user_id[..]).collect();
        let numbers = |value: fn(&ParkedRow) -> i64| kept.iter().map(|(_, row)| value(row)).collect::<Vec<i64>>();
        let (calls, bytes) = (numbers(|row| row.calls), numbers(|row| row.bytes));
        let since: Vec<Option<i64>> = kept.iter().map(|(_, row)| row.since).collect();
        let small = |value: fn(&ParkedRow) -> i32| kept.iter().map(|(_, row)| value(row)).collect::<Vec<i32>>();
        let (attempts, failures) = (small(|row| row.attempts), small(|row| row.failures));
        let statuses: Vec<Option<i32>> = kept.iter().map(|(_, row)| row.status).collect();
        let reasons: Vec<Option<&[u8]>> = kept.iter().map(|(_, row)| row.reason.as_deref()).collect();
        let (retry_at, turns) = (numbers(|row| row.retry_at), numbers(|row| row.turn));
        self.execute(
            WRITE,
            &[
                (&users, Type::BYTEA_ARRAY),
                (&user_ids, Type::BYTEA_ARRAY),
                (&calls, Type::INT8_ARRAY),
                (&bytes, Type::INT8_ARRAY),
                (&since, Type::INT8_ARRAY),
                (&attempts, Type::INT4_ARRAY),
                (&failures, Type::INT4_ARRAY),
                (&statuses, Type::INT4_ARRAY),
                (&reasons, Type::BYTEA_ARRAY),
                (&retry_at, Type::INT8_ARRAY),
                (&turns, Type::INT8_ARRAY),
            ],
        )
        .await
        .map(drop)
    }
}

/// The next turn, behind all others.
pub(super) fn next(turn: &mut i64) -> i64 {
    *turn += 1;
    *turn
}
