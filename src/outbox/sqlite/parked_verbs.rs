//! What operators see of the parked users, and do with them.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result};

use super::parked::{LetterCause, parked_row};
use super::transaction::Transaction;
use crate::outbox::columns::{CallFields, time_text};
use crate::outbox::wishes::Wish;
use crate::outbox::{ParkedFilter, ParkedUser};

/// Users whom one transaction looks at: other commands wait for it meanwhile, and each may have a call of the largest size.
const STEP_USERS: i64 = 128;

/// Progress of what is done with one parked user, or with all of them. It takes several transactions, and other commands run
/// between them.
pub(super) struct ParkedVerb {
    wish: Wish,
    filter: ParkedFilter,
    is_one: bool,
    /// The lowest id that may be left, and the greatest one when it began.
    next: i64,
    last: Option<i64>,
    count: u64,
    pub(super) is_finished: bool,
}

impl ParkedVerb {
    pub(super) fn one(wish: Wish, id: i64) -> Self {
        let filter = ParkedFilter::default();
        Self { wish, filter, is_one: true, next: id, last: Some(id), count: 0, is_finished: false }
    }

    pub(super) fn all(wish: Wish, filter: ParkedFilter) -> Self {
        Self { wish, filter, is_one: false, next: i64::MIN, last: None, count: 0, is_finished: false }
    }
}

impl Transaction<'_> {
    /// Does what is asked with the next users, and returns the number so far.
    pub(super) fn act_on_next_users(&mut self, verb: &mut ParkedVerb) -> Result<u64> {
        let newest = "SELECT ifnull(max(id), 0) FROM parked";
        let last = match verb.last {
            Some(last) => last,
            None => *verb.last.insert(self.conn.query_row(newest, [], |row| row.get(0))?),
        };
        let sql = "SELECT id, user_id FROM parked WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
        let users: Vec<(i64, String)> = self
            .conn
            .prepare_cached(sql)?
            .query_map([verb.next, last, STEP_USERS], |row| row.try_into())?
            .collect::<Result<_>>()?;
        verb.is_finished = (users.len() as i64) < STEP_USERS;
        for (id, user_id) in users {
            verb.next = id.saturating_add(1);
            verb.count += u64::from(self.act_on_user(verb, &user_id)?);
        }
        Ok(verb.count)
    }

    /// False if the user's first call does not fail, or does not fit.
    fn act_on_user(&mut self, verb: &ParkedVerb, user_id: &str) -> Result<bool> {
        let Some(row) = parked_row(self.conn, user_id)? else { return Ok(false) };
        let ParkedFilter { status, source, user_id: user } = &verb.filter;
        if user.as_ref().is_some_and(|user| user != user_id) {
            return Ok(false);
        }
        let Some((first, source_of_first)) = self.first_apart(user_id)? else { return Ok(false) };
        let is_meant = row.since.is_some() && (status.is_none() || *status == row.status);
        if !is_meant || source.is_some() && *source != source_of_first {
            return Ok(false);
        }
        // While the call is in a request, nobody knows whether it is accepted.
        if self.memory.wish(first, verb.wish) {
            return Ok(true);
        }
        match verb.wish {
            // `forget` deletes calls, not this.
            Wish::Forget => {}
            Wish::GiveUp => {
                let (status, reason) = (row.status.unwrap_or(0), row.reason.unwrap_or_default());
                self.make_dead_letter(first, &LetterCause { why: "operator", status, reason: &reason, attempts: 0 })?;
            }
            Wish::Retry => {
                // A single user goes before all who are due.
                let sql = "SELECT min(retry_at) FROM parked WHERE since IS NOT NULL";
                let first: i64 = self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
                let at = if verb.is_one { self.now.min(first.saturating_sub(1)) } else { self.now.min(row.retry_at) };
                self.replace_parked(user_id, Some(row), |row| row.retry_at = at)?;
            }
        }
        Ok(true)
    }
}

/// Reads parked users, newest first, or one of them.
pub(super) fn list(
    conn: &Connection,
    limit: usize,
    before: Option<i64>,
    user_id: Option<&str>,
) -> Result<Vec<ParkedUser>> {
    let last = before.map_or(i64::MAX, |before| before.saturating_sub(1));
    let (first, last) = match user_id {
        None => (0, last),
        Some(user_id) => match parked_row(conn, user_id)? {
            Some(row) => (row.id, row.id.min(last)),
            None => return Ok(Vec::new()),
        },
    };
    conn.prepare_cached(
        "SELECT id, user_id, calls, since, attempts, status, ifnull(reason, ''), retry_at,
            (SELECT call FROM parked_calls WHERE user_id = parked.user_id ORDER BY id LIMIT 1),
            (SELECT source FROM parked_calls WHERE user_id = parked.user_id ORDER BY id LIMIT 1)
         FROM parked WHERE id BETWEEN ?1 AND ?2 AND since IS NOT NULL ORDER BY id DESC LIMIT ?3",
    )?
    .query_map((first, last, i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
        let json: Vec<u8> = row.get(8)?;
        let invalid = |error: serde_json::Error| Error::FromSqlConversionFailure(8, Type::Blob, Box::new(error));
        Ok(ParkedUser {
            id: row.get(0)?,
            user_id: row.get(1)?,
            message_id: serde_json::from_slice::<CallFields>(&json).map_err(invalid)?.message_id,
            source: row.get(9)?,
            calls: row.get::<_, i64>(2)?.unsigned_abs(),
            since: time_text(row.get(3)?),
            attempts: u32::try_from(row.get::<_, i64>(4)?).unwrap_or(u32::MAX),
            status: row.get(5)?,
            reason: row.get(6)?,
            retry_at: time_text(row.get(7)?),
        })
    })?
    .collect()
}
