//! Deleting what is stored of a person, in steps of one transaction each.
//!
//! The tables are gone through in an order in which nothing escapes: a call moves from `calls` to `parked_calls`, and each may
//! become a dead letter. A dead letter that another relay replays meanwhile becomes a call with a new id, and keeps the time at
//! which it was stored. So the calls that came after the beginning are looked at again, and those that were stored before it go.

use tokio_postgres::types::Type;

use super::database_error::DatabaseError;
use super::deliverer::Deliverer;
use super::forget_progress::{PersonDeletion, Stage};
use super::leave::LeftApart;
use super::out::Out;
use super::parked::{ParkedRows, next};
use super::transaction::{Transaction, column};
use crate::outbox::wishes::Wish;
use crate::outbox::{CallId, OutboxError};

/// Rows that one step looks at: a few milliseconds, as a page.
const STEP_ROWS: i64 = 4_000;

/// Rows of one user that one step deletes.
const STEP_DELETED: i64 = 256;

/// Bytes of events that one step reads.
const STEP_BYTES: i64 = 1024 * 1024;

const LAST_CALL: &str = "SELECT greatest(
    (SELECT id FROM segment_relay.calls ORDER BY id DESC LIMIT 1),
    (SELECT id FROM segment_relay.parked_calls ORDER BY id DESC LIMIT 1), 0)";

const CALLS: &str =
    "SELECT id, user_key = $2 AND ($3::bigint IS NULL OR extract(epoch FROM stored_at) * 1000 < $3) FROM (
    SELECT id, user_key, stored_at FROM segment_relay.calls WHERE id > $1 ORDER BY id LIMIT $4) AS c ORDER BY id";

const PARKED_CALLS: &str = "SELECT id, $3::bigint IS NULL OR extract(epoch FROM stored_at) * 1000 < $3 FROM (
    SELECT id, stored_at FROM segment_relay.parked_calls WHERE user_key = $2 AND id > $1 ORDER BY user_key, id LIMIT $4) AS c
    ORDER BY id";

/// An event alone has no user.
const LETTERS: &str = "
    SELECT id, is_call, is_meant, CASE WHEN NOT is_call THEN call END, CASE WHEN NOT is_call THEN headers END,
        CASE WHEN NOT is_call THEN reason END
    FROM (
        SELECT id, user_id IS NOT NULL AS is_call, coalesce(user_id = $2, false) AS is_meant, call, headers, reason,
            sum(CASE WHEN user_id IS NULL THEN octet_length(call) + coalesce(octet_length(headers), 0) ELSE 0 END)
                OVER (ORDER BY id ROWS UNBOUNDED PRECEDING)
            - CASE WHEN user_id IS NULL THEN octet_length(call) + coalesce(octet_length(headers), 0) ELSE 0 END AS bytes_before
        FROM (SELECT id, user_id, call, headers, reason FROM segment_relay.dead_letters WHERE id > $1 ORDER BY id LIMIT $3) AS d
    ) AS page WHERE bytes_before < $4 ORDER BY id";

/// What a step found.
#[derive(Default)]
struct Step {
    /// Calls that are out: they are deleted when they come back.
    out: Vec<CallId>,
    calls: u64,
    letters: u64,
    /// The last row that was looked at; `None` at the end of the table.
    after: Option<i64>,
}

impl Deliverer {
    /// Does a step for the first person.
    pub(super) async fn forget_step(&mut self) -> Result<(), DatabaseError> {
        if self.connection.is_none() {
            return Ok(());
        }
        let Some(mut verb) = self.forgets.0.pop_front() else { return Ok(()) };
        self.look_again();
        let Some(connection) = &self.connection else { return Ok(()) };
        let done = match Transaction::begin(connection, self.owner).await {
            Ok(Some(mut transaction)) => {
                let done = transaction.forget_step(&mut verb, &self.out, &mut self.turn).await;
                transaction.end(done).await.map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let (step, effects) = match self.checked(done) {
            Ok(Some(done)) => done,
            Ok(None) => {
                self.end_tenure();
                let _ = verb.reply.send(Err(OutboxError::Unconfirmed));
                return Ok(());
            }
            Err(error) => {
                self.warn(&error);
                let _ = verb.reply.send(Err(error.of_change()));
                return Err(error);
            }
        };
        self.committed(&effects);
        for id in step.out {
            self.out.wish(id, Wish::Forget);
            verb.deleted.out.push(id);
        }
        verb.deleted.forgotten.waiting += step.calls;
        verb.deleted.forgotten.dead_letters += step.letters;
        verb.go_on(step.after);
        if verb.stage == Stage::End {
            let _ = verb.reply.send(Ok(verb.deleted));
        } else {
            self.forgets.0.push_front(verb);
        }
        Ok(())
    }
}

impl Transaction<'_> {
    async fn forget_step(
        &mut self,
        verb: &mut PersonDeletion,
        out: &Out,
        turn: &mut i64,
    ) -> Result<Step, DatabaseError> {
        match verb.stage {
            Stage::Begin => {
                verb.began = self.now;
                if let Some(row) = self.query(LAST_CALL, &[]).await?.first() {
                    verb.last_call = column(row, 0)?;
                }
                Ok(Step::default())
            }
            Stage::Calls | Stage::LaterCalls => self.forget_calls(verb, CALLS, STEP_ROWS, out, turn).await,
            Stage::ParkedCalls | Stage::LaterParkedCalls => {
                self.forget_calls(verb, PARKED_CALLS, STEP_DELETED, out, turn).await
            }
            Stage::Letters => self.forget_letters(verb).await,
            Stage::End => Ok(Step::default()),
        }
    }

    async fn forget_calls(
        &mut self,
        verb: &PersonDeletion,
        sql: &str,
        limit: i64,
        out: &Out,
        turn: &mut i64,
    ) -> Result<Step, DatabaseError> {
        let params: [super::transaction::Param<'_>; 4] = [
            (&verb.after, Type::INT8),
            (&&verb.user[..], Type::BYTEA),
            (&verb.stored_before(), Type::INT8),
            (&limit, Type::INT8),
        ];
        let (mut step, mut found) = (Step::default(), Vec::new());
        let rows = self.query(sql, &params).await?;
        for row in &rows {
            let id: CallId = column(row, 0)?;
            step.after = Some(id);
            // What was stored later is a new call.
            if column(row, 1)? && (verb.stored_before().is_some() || id <= verb.last_call) {
                if out.is_out(id) { step.out.push(id) } else { found.push(id) }
            }
        }
        let is_end = (rows.len() as i64) < limit || verb.stored_before().is_none() && step.after > Some(verb.last_call);
        step.after = step.after.filter(|_| !is_end);
        let left: Vec<LeftApart> = self.forget(&found).await?;
        step.calls = self.effects.forgotten.len() as u64;
        let mut parked = ParkedRows::default();
        self.read_parked(&left.iter().map(|left| left.user).collect::<Vec<_>>(), &mut parked).await?;
        left.iter().for_each(|left| parked.leave(left, || next(turn)));
        self.write_parked(&parked).await?;
        Ok(step)
    }

    async fn forget_letters(&mut self, verb: &PersonDeletion) -> Result<Step, DatabaseError> {
        let params: [super::transaction::Param<'_>; 4] = [
            (&verb.after, Type::INT8),
            (&verb.person.user_id.as_bytes(), Type::BYTEA),
            (&STEP_ROWS, Type::INT8),
            (&STEP_BYTES, Type::INT8),
        ];
        let (mut step, mut found) = (Step::default(), Vec::new());
        for row in self.query(LETTERS, &params).await? {
            let id: i64 = column(&row, 0)?;
            step.after = Some(id);
            let is_call: bool = column(&row, 1)?;
            let texts: [Option<&[u8]>; 3] = [column(&row, 3)?, column(&row, 4)?, column(&row, 5)?];
            let is_meant = if is_call {
                column(&row, 2)?
            } else {
                texts.into_iter().flatten().any(|text| verb.person.is_in(text))
            };
            if is_meant {
                found.push(id);
            }
        }
        step.letters = self.delete_letters(&found).await?;
        self.effects.discarded += step.letters;
        Ok(step)
    }
}
