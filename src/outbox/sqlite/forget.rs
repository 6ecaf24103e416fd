//! Deleting what is stored of a person, in steps: the waiting calls first, then the dead letters.
//!
//! A call never moves from `parked_calls` to `calls`, and a dead letter of a person who is being forgotten is not replayed. So each table is gone
//! through once, in this order, and nothing that waited when the work began is missed.

use std::sync::Arc;

use rusqlite::{Result, params};

use super::transaction::Transaction;
use crate::outbox::limits::{MAX_TRANSACTION_BYTES, row_bytes};
use crate::outbox::wishes::Wish;
use crate::outbox::{CallId, DeletedRows, DeliveryOutcome, Person};

/// Rows that one step looks at: a few milliseconds, as a step of reading.
const STEP_ROWS: i64 = 4_000;

/// Rows that one step deletes. Each may be on pages of its own.
const STEP_DELETED: usize = 256;

/// What those hear who wait for the outcome of a call.
const REASON: &str = "the person was forgotten";

/// Progress of deleting what is stored of a person. It takes several transactions, and other commands run between them.
pub(super) struct ForgetVerb {
    person: Arc<Person>,
    table: Table,
    /// The lowest id that is left to look at in the table.
    next: i64,
    /// The greatest id of a call when it began.
    last_call: Option<CallId>,
    /// The greatest id of a dead letter when it had gone through the calls, each of which may have become one.
    last_letter: Option<i64>,
    pub(super) deleted: DeletedRows,
    pub(super) is_finished: bool,
}

#[derive(Clone, Copy)]
enum Table {
    Calls,
    ParkedCalls,
    DeadLetters,
}

impl ForgetVerb {
    pub(super) fn new(person: Arc<Person>) -> Self {
        let deleted = DeletedRows::default();
        Self {
            person,
            table: Table::Calls,
            next: i64::MIN,
            last_call: None,
            last_letter: None,
            deleted,
            is_finished: false,
        }
    }

    /// Goes on behind this row, or with the next table.
    fn go_on(&mut self, behind: Option<i64>) {
        self.next = behind.map_or(i64::MIN, |id| id.saturating_add(1));
        if behind.is_none() {
            match self.table {
                Table::Calls => self.table = Table::ParkedCalls,
                Table::ParkedCalls => self.table = Table::DeadLetters,
                Table::DeadLetters => self.is_finished = true,
            }
        }
    }
}

impl Transaction<'_> {
    /// Looks at the next rows, and deletes those of the person.
    pub(super) fn forget_step(&mut self, verb: &mut ForgetVerb) -> Result<()> {
        let Some(last_call) = verb.last_call else {
            verb.last_call = Some(self.effects.stats.last_id);
            // A replay would move a dead letter out of sight.
            self.memory.forgetting.retain(|person| person.strong_count() > 0);
            self.memory.forgetting.push(Arc::downgrade(&verb.person));
            return Ok(());
        };
        match verb.table {
            Table::Calls => self.forget_calls(
                verb,
                "SELECT id, user_id = ?3 FROM calls WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?4",
                last_call,
            ),
            Table::ParkedCalls => self.forget_calls(
                verb,
                "SELECT id, 1 FROM parked_calls WHERE user_id = ?3 AND id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?4",
                last_call,
            ),
            Table::DeadLetters => {
                let newest = "SELECT ifnull(max(id), 0) FROM dead_letters";
                let last = match verb.last_letter {
                    Some(last) => last,
                    None => *verb.last_letter.insert(self.conn.query_row(newest, [], |row| row.get(0))?),
                };
                self.forget_letters(verb, last)
            }
        }
    }

    fn forget_calls(&mut self, verb: &mut ForgetVerb, sql: &str, last: CallId) -> Result<()> {
        let (mut found, mut looked, mut behind) = (Vec::new(), 0, None);
        {
            let mut statement = self.conn.prepare_cached(sql)?;
            let mut rows = statement.query(params![verb.next, last, verb.person.user_id, STEP_ROWS])?;
            while let Some(row) = rows.next()? {
                looked += 1;
                let id = row.get(0)?;
                if row.get(1)? {
                    found.push(id);
                }
                if looked == STEP_ROWS || found.len() == STEP_DELETED {
                    behind = Some(id);
                    break;
                }
            }
        }
        verb.go_on(behind);
        for id in found {
            // While the call is in a request, nobody knows whether it is accepted.
            if self.memory.wish(id, Wish::Forget) {
                verb.deleted.out.push(id);
            } else {
                self.forget_call(id)?;
                verb.deleted.forgotten.waiting += 1;
            }
        }
        Ok(())
    }

    fn forget_letters(&mut self, verb: &mut ForgetVerb, last: i64) -> Result<()> {
        let (mut found, mut looked, mut bytes, mut behind) = (Vec::new(), 0, 0, None);
        {
            // An event alone has no user.
            let sql =
                "SELECT id, user_id, CASE user_id WHEN '' THEN call END, CASE user_id WHEN '' THEN headers END, reason
                       FROM dead_letters WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
            let mut statement = self.conn.prepare_cached(sql)?;
            let mut rows = statement.query([verb.next, last, STEP_ROWS])?;
            while let Some(row) = rows.next()? {
                looked += 1;
                let id: i64 = row.get(0)?;
                let user_id = row.get_ref(1)?.as_str()?;
                let is_meant = if user_id.is_empty() {
                    let body = row.get_ref(2)?.as_blob_or_null()?.unwrap_or_default();
                    let headers = row.get_ref(3)?.as_blob_or_null()?.unwrap_or_default();
                    bytes += body.len() + headers.len();
                    let reason = row.get_ref(4)?.as_bytes()?;
                    [body, headers, reason].into_iter().any(|text| verb.person.is_in(text))
                } else {
                    user_id == verb.person.user_id
                };
                if is_meant {
                    found.push(id);
                }
                if looked == STEP_ROWS || found.len() == STEP_DELETED || bytes >= MAX_TRANSACTION_BYTES {
                    behind = Some(id);
                    break;
                }
            }
        }
        verb.go_on(behind);
        verb.deleted.forgotten.dead_letters += self.discard(&found)?;
        Ok(())
    }

    /// Deletes a waiting call of a person with its key.
    pub(super) fn forget_call(&mut self, id: CallId) -> Result<()> {
        let sql = "DELETE FROM keys WHERE call_id = ?1
                   AND key = (SELECT key FROM calls WHERE id = ?1 UNION ALL SELECT key FROM parked_calls WHERE id = ?1)";
        let keys = self.execute(sql, [id])? as u64;
        self.effects.stats.keys = self.effects.stats.keys.saturating_sub(keys);
        let sql = "SELECT user_id, length(call) FROM calls WHERE id = ?1";
        let row: Option<(String, i64)> = self.first(sql, [id], |row| row.try_into())?;
        if let Some((user_id, length)) = row.filter(|_| !self.memory.is_out(id)) {
            let user = self.memory.hash(&user_id);
            self.effects.left_calls.push((id, user, row_bytes(length.unsigned_abs())));
        }
        let before = self.effects.outcomes.len();
        self.delete_calls(id, id, &DeliveryOutcome::GaveUp(REASON.to_owned()))?;
        self.effects.forgotten += (self.effects.outcomes.len() - before) as u64;
        Ok(())
    }
}
