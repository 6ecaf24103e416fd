//! Reading what is kept apart: in turn the calls of users with many and of users who woke, and the first call of each parked user
//! who is due.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::database_error::DatabaseError;
use super::figures::UserKey;
use super::out::Out;
use super::page::{PAGE_ROWS, call_of, user_key};
use super::transaction::column;
use crate::outbox::{CallId, StoredCall};

/// Users who are looked at in one step.
const STEP_USERS: i64 = 64;

/// Bytes of calls that are read at once: half of a request to Segment, so that users take turns.
const PART_BYTES: usize = 256 * 1024;

/// A time that is further ahead than twice the longest pause is from before the server's clock was set back.
const DUE: &str = "
    (SELECT user_key FROM segment_relay.parked
        WHERE since IS NOT NULL AND retry_at <= CASE WHEN $1 THEN 'infinity'::timestamptz ELSE clock_timestamp() END
        ORDER BY retry_at, id LIMIT $2)
    UNION ALL
    (SELECT user_key FROM segment_relay.parked
        WHERE since IS NOT NULL AND NOT $1 AND retry_at > clock_timestamp() + interval '10 minutes'
        ORDER BY retry_at, id LIMIT $2)";

const FIRST: &str = "
    SELECT c.id, c.user_key, c.user_id, c.source, c.trace, c.call
    FROM unnest($1::bytea[]) WITH ORDINALITY AS u (user_key, place) CROSS JOIN LATERAL (
        SELECT id, user_key, user_id, source, trace, call FROM segment_relay.parked_calls WHERE user_key = u.user_key
        ORDER BY user_key, id LIMIT 1) AS c
    ORDER BY u.place";

const IN_TURN: &str =
    "SELECT user_key, turn FROM segment_relay.parked WHERE since IS NULL AND turn > $1 ORDER BY turn LIMIT $2";

/// The calls of these users, of each the first ones, until the bytes are used up.
const PART: &str = "
    SELECT id, user_key, user_id, source, trace, call, place FROM (
        SELECT c.id, c.user_key, c.user_id, c.source, c.trace, c.call, u.place,
            sum(octet_length(c.call)) OVER (ORDER BY u.place, c.id ROWS UNBOUNDED PRECEDING) - octet_length(c.call) AS bytes_before
        FROM unnest($1::bytea[]) WITH ORDINALITY AS u (user_key, place) CROSS JOIN LATERAL (
            SELECT id, user_key, user_id, source, trace, call FROM segment_relay.parked_calls
            WHERE user_key = u.user_key AND id <= $2 ORDER BY user_key, id LIMIT $3) AS c
    ) AS part WHERE bytes_before < $4 ORDER BY place, id";

/// Where the turns stand.
#[derive(Debug)]
pub(super) struct Turns {
    /// The turn of the user who was read last.
    after: i64,
    /// No user was read since the turns began anew.
    is_round_empty: bool,
    /// There may be users to read.
    pub(super) may_have: bool,
    /// There may be users whose calls are kept apart, read or not.
    pub(super) has_rows: bool,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { after: i64::MIN, is_round_empty: true, may_have: true, has_rows: true }
    }

    /// Takes calls with ids up to `last` of the users whose calls are kept apart, and whose first call does not fail. None is taken
    /// of a user of whom any call is out.
    pub(super) async fn read(
        &mut self,
        connection: &Connection,
        last: CallId,
        bytes: usize,
        out: &mut Out,
    ) -> Result<Vec<StoredCall>, DatabaseError> {
        let rows = connection.query(IN_TURN, &[(&self.after, Type::INT8), (&STEP_USERS, Type::INT8)]).await?;
        if rows.is_empty() && self.after == i64::MIN {
            (self.may_have, self.has_rows) = (false, false);
            return Ok(Vec::new());
        }
        let mut users = Vec::new();
        for row in &rows {
            if let Some(user) = user_key(row) {
                users.push((user, column::<i64>(row, 1)?));
            }
        }
        let last_looked = users.last().map(|(_, turn)| *turn);
        let is_end = (users.len() as i64) < STEP_USERS;
        users.retain(|(user, _)| !out.has_out(user));
        let (calls, last_read) = self.read_part(connection, &users, last, bytes, out).await?;
        if let Some(turn) = last_read {
            (self.after, self.is_round_empty) = (turn, false);
        } else if is_end {
            // The turns begin anew, unless nobody was found from the first one on.
            self.after = i64::MIN;
            self.may_have = !std::mem::replace(&mut self.is_round_empty, true);
        } else if let Some(turn) = last_looked {
            self.after = turn;
        }
        Ok(calls)
    }

    /// The calls, and the turn of the last user of whom there are any.
    async fn read_part(
        &self,
        connection: &Connection,
        users: &[(UserKey, i64)],
        last: CallId,
        bytes: usize,
        out: &mut Out,
    ) -> Result<(Vec<StoredCall>, Option<i64>), DatabaseError> {
        let (mut calls, mut last_read) = (Vec::new(), None);
        if users.is_empty() {
            return Ok((calls, last_read));
        }
        let keys: Vec<&[u8]> = users.iter().map(|(user, _)| &user[..]).collect();
        let each = PAGE_ROWS / (users.len() as i64).max(1);
        let bytes = bytes.clamp(1, PART_BYTES) as i64;
        let params: [super::transaction::Param<'_>; 4] =
            [(&keys, Type::BYTEA_ARRAY), (&last, Type::INT8), (&each.max(1), Type::INT8), (&bytes, Type::INT8)];
        for row in connection.query(PART, &params).await? {
            let (Some(user), Some(call)) = (user_key(&row), call_of(&row)) else { continue };
            let (id, place): (CallId, i64) = (column(&row, 0)?, column(&row, 6)?);
            last_read = usize::try_from(place - 1).ok().and_then(|place| users.get(place)).map(|(_, turn)| *turn);
            out.take(id, user, call.json().len(), true);
            calls.push(StoredCall { id, call, is_parked: false });
        }
        Ok((calls, last_read))
    }
}

/// Takes the first calls of at most `limit` parked users who are due the longest; if `early`, of others too.
pub(super) async fn take_parked(
    connection: &Connection,
    limit: usize,
    early: bool,
    out: &mut Out,
) -> Result<Vec<StoredCall>, DatabaseError> {
    // Some of them are out.
    let looked = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(STEP_USERS);
    let rows = connection.query(DUE, &[(&early, Type::BOOL), (&looked, Type::INT8)]).await?;
    let mut seen = BTreeSet::new();
    let users = rows.iter().filter_map(user_key).filter(|user| !out.has_out(user) && seen.insert(*user));
    let users: Vec<UserKey> = users.take(limit).collect();
    let keys: Vec<&[u8]> = users.iter().map(|user| &user[..]).collect();
    let mut calls = Vec::new();
    if keys.is_empty() {
        return Ok(calls);
    }
    for row in connection.query(FIRST, &[(&keys, Type::BYTEA_ARRAY)]).await? {
        let (Some(user), Some(call)) = (user_key(&row), call_of(&row)) else { continue };
        let id = column(&row, 0)?;
        out.take(id, user, call.json().len(), true);
        calls.push(StoredCall { id, call, is_parked: true });
    }
    Ok(calls)
}
