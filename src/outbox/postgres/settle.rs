//! Settling calls. If all are accepted and none was kept apart, one statement does it, which names the lease. Everything else is
//! one transaction, which begins with the lease.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::counts::Counts;
use super::database_error::DatabaseError;
use super::figures::UserKey;
use super::leave::LetterCause;
use super::out::Out;
use super::parked::{ParkedRows, next};
use super::transaction::{Effects, Owner, Param, Transaction, column};
use crate::outbox::parking::{is_given_up, pause};
use crate::outbox::wishes::Wish;
use crate::outbox::{CallId, DeliveryOutcome};
use crate::segment::{CallOutcome, Refusal, SettledCall, Trouble};

/// The lease is locked before the first row is deleted, because the condition is evaluated once, before all else.
const ACCEPTED: &str = "
    WITH lease AS MATERIALIZED (SELECT 1 FROM segment_relay.lease WHERE owner = $2 AND epoch = $3 FOR SHARE),
        d AS (DELETE FROM segment_relay.calls WHERE id = ANY($1) AND (SELECT count(*) FROM lease) = 1
            RETURNING id, key, source, octet_length(call)::bigint + 128 AS bytes),
        k AS (INSERT INTO segment_relay.settled_keys (source, key, call_id)
            SELECT coalesce(source, ''), key, id FROM d WHERE key IS NOT NULL ORDER BY id),
        t AS (INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes)
            SELECT coalesce(source, ''), -count(*), -sum(bytes)::bigint FROM d GROUP BY 1 RETURNING source, waiting, waiting_bytes)
    SELECT NULL::text, (SELECT count(*) FROM lease), 0::bigint UNION ALL SELECT source, waiting, waiting_bytes FROM t";

/// What is to be done with calls.
#[derive(Default)]
pub(super) struct Work {
    pub(super) accepted: Vec<CallId>,
    pub(super) refused: Vec<LetterCause>,
    pub(super) parked: Vec<(CallId, Trouble, Option<Wish>)>,
    /// They wait behind earlier calls of their users.
    pub(super) behind: Vec<CallId>,
    pub(super) forgotten: Vec<CallId>,
    /// The first calls of parked users, which are given up.
    pub(super) given_up: Vec<LetterCause>,
}

impl Work {
    /// What a settlement asks for. Of a call that is in it twice, the first outcome counts, or that it was accepted.
    pub(super) fn new(delivered: &[SettledCall], out: &Out, is_fenced: bool) -> Self {
        let (mut work, mut seen) = (Self::default(), BTreeSet::new());
        let is_accepted = |settled: &&SettledCall| settled.outcome == CallOutcome::Accepted;
        for SettledCall { id, .. } in delivered.iter().filter(is_accepted) {
            if seen.insert(*id) {
                work.accepted.push(*id);
            }
        }
        for SettledCall { id, outcome } in delivered {
            if !seen.insert(*id) {
                continue;
            }
            let wish = out.wish_of(*id);
            match outcome {
                _ if wish == Some(Wish::Forget) => work.forgotten.push(*id),
                CallOutcome::Accepted => {}
                CallOutcome::Refused(Refusal { status, reason, attempts }) => work.refused.push(LetterCause {
                    id: *id,
                    why: "refused",
                    status: *status,
                    reason: reason.clone(),
                    attempts: *attempts,
                }),
                CallOutcome::Parked(trouble) => work.parked.push((*id, trouble.clone(), wish)),
                // The fence has shut: the call waits where it is, and is read again.
                CallOutcome::TakenBack if is_fenced => {}
                CallOutcome::Behind | CallOutcome::TakenBack => work.behind.push(*id),
            }
        }
        work
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.is_accepted_alone()
    }

    fn is_accepted_alone(&self) -> bool {
        self.refused.is_empty()
            && self.parked.is_empty()
            && self.behind.is_empty()
            && self.forgotten.is_empty()
            && self.given_up.is_empty()
    }

    /// Does it. `None`: another relay delivers, and nothing was done.
    pub(super) async fn run(
        &self,
        connection: &Connection,
        owner: Owner,
        out: &Out,
        give_up_after: Option<i64>,
        turn: &mut i64,
    ) -> Result<Option<Effects>, DatabaseError> {
        if self.is_accepted_alone() && self.accepted.iter().all(|id| out.is_in_calls(*id)) {
            return accept(connection, owner, &self.accepted).await;
        }
        let Some(mut transaction) = Transaction::begin(connection, owner).await? else { return Ok(None) };
        let done = transaction.settle(self, give_up_after, turn).await;
        transaction.end(done).await.map(|((), effects)| Some(effects))
    }
}

/// Deletes accepted calls that are all in `calls`.
async fn accept(connection: &Connection, owner: Owner, ids: &[CallId]) -> Result<Option<Effects>, DatabaseError> {
    let params: [Param<'_>; 3] = [(&ids, Type::INT8_ARRAY), (&owner.relay, Type::INT8), (&owner.epoch, Type::INT8)];
    let (mut effects, mut is_owner) = (Effects::default(), false);
    for row in connection.query(ACCEPTED, &params).await? {
        match column::<Option<&str>>(&row, 0)? {
            None => is_owner = column::<i64>(&row, 1)? == 1,
            Some(source) => {
                let (waiting, waiting_bytes): (i64, i64) = (column(&row, 1)?, column(&row, 2)?);
                effects.accepted += waiting.unsigned_abs();
                let source = (!source.is_empty()).then(|| Arc::from(source));
                effects.tallies.0.insert(source, Counts { waiting, waiting_bytes, ..Counts::default() });
            }
        }
    }
    effects.outcomes = ids.iter().map(|id| (*id, DeliveryOutcome::Accepted)).collect();
    Ok(is_owner.then_some(effects))
}

impl Transaction<'_> {
    /// Does all of it in the open transaction.
    pub(super) async fn settle(
        &mut self,
        work: &Work,
        give_up_after: Option<i64>,
        turn: &mut i64,
    ) -> Result<(), DatabaseError> {
        let mut rows = ParkedRows::default();
        let failed: Vec<CallId> = work.parked.iter().map(|(id, ..)| *id).collect();
        let users = self.find_users(&failed).await?;
        self.read_parked(&users.values().copied().collect::<Vec<_>>(), &mut rows).await?;
        let (mut letters, mut parked) = (work.refused.clone(), Vec::new());
        letters.extend(work.given_up.iter().cloned());
        for (id, trouble, wish) in &work.parked {
            let Some(user) = users.get(id) else { continue };
            match self.why_given_up(
                rows.new.get(user).and_then(|row| Some((row.since?, row.failures))),
                trouble,
                *wish,
                give_up_after,
            ) {
                Some(why) => letters.push(LetterCause {
                    id: *id,
                    why,
                    status: trouble.status.unwrap_or(0),
                    reason: trouble.reason.clone(),
                    attempts: trouble.attempts,
                }),
                None => parked.push((*id, *user, trouble, *wish)),
            }
        }
        let mut moved: Vec<CallId> = parked.iter().map(|(id, ..)| *id).chain(work.behind.iter().copied()).collect();
        moved.sort_unstable();
        self.move_apart(&moved, &mut rows, turn).await?;
        let mut left = self.accept(&work.accepted).await?;
        left.extend(self.make_letters(&letters).await?);
        left.extend(self.forget(&work.forgotten).await?);
        self.read_parked(&left.iter().map(|left| left.user).collect::<Vec<_>>(), &mut rows).await?;
        left.iter().for_each(|left| rows.leave(left, || next(turn)));
        for (_, user, trouble, wish) in parked {
            self.park(&mut rows, user, trouble, wish);
        }
        self.write_parked(&rows).await
    }

    /// Why a call that failed is not tried again, if it is not. The pair is since when its user's first call fails, and how often.
    fn why_given_up(
        &self,
        failing: Option<(i64, i32)>,
        trouble: &Trouble,
        wish: Option<Wish>,
        give_up_after: Option<i64>,
    ) -> Option<&'static str> {
        let (since, failures) = failing.unwrap_or((self.now, 0));
        match wish {
            Some(Wish::GiveUp) => Some("operator"),
            // In an outage nothing is the call's own fault.
            _ if trouble.is_own && is_given_up(give_up_after, since, i64::from(failures) + 1, self.now) => {
                Some("gave_up")
            }
            _ => None,
        }
    }

    fn park(&self, rows: &mut ParkedRows, user: UserKey, trouble: &Trouble, wish: Option<Wish>) {
        let Some(row) = rows.new.get_mut(&user) else { return };
        row.since.get_or_insert(self.now);
        row.attempts = row.attempts.saturating_add(i32::try_from(trouble.attempts).unwrap_or(i32::MAX));
        row.failures = row.failures.saturating_add(trouble.is_own.into());
        (row.status, row.reason) = (trouble.status.map(i32::from), Some(trouble.reason.clone().into_bytes()));
        let after = pause(i64::from(row.failures.max(1)));
        row.retry_at = if wish == Some(Wish::Retry) { self.now } else { self.now.saturating_add(after) };
    }
}
