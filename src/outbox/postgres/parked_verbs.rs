//! Trying parked users again and giving them up, in steps of one transaction each.

use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::asking::Users;
use super::database_error::DatabaseError;
use super::deliverer::Deliverer;
use super::figures::UserKey;
use super::leave::LetterCause;
use super::out::Out;
use super::page::user_key;
use super::parked::ParkedRows;
use super::request_progress::{VerbStep, write_answer};
use super::settle::Work;
use super::transaction::{Transaction, column};
use crate::outbox::client::digest;
use crate::outbox::wishes::Wish;
use crate::outbox::{CallId, ParkedFilter};

/// Users whom one transaction looks at: other work waits for it meanwhile, and each may have a call of the largest size.
const STEP_USERS: i64 = 128;

const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM segment_relay.parked";

const BY_ID: &str = "
    SELECT p.id, p.user_key, p.is_failing, p.status, p.reason, first.id, first.source
    FROM (SELECT id, user_key, since IS NOT NULL AS is_failing, status, reason FROM segment_relay.parked
        WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3) AS p
    CROSS JOIN LATERAL (SELECT id, source FROM segment_relay.parked_calls WHERE user_key = p.user_key
        ORDER BY user_key, id LIMIT 1) AS first ORDER BY p.id";

const BY_USER: &str = "
    SELECT p.id, p.user_key, p.is_failing, p.status, p.reason, first.id, first.source
    FROM (SELECT id, user_key, since IS NOT NULL AS is_failing, status, reason FROM segment_relay.parked
        WHERE user_key = $1 LIMIT 1) AS p
    CROSS JOIN LATERAL (SELECT id, source FROM segment_relay.parked_calls WHERE user_key = p.user_key
        ORDER BY user_key, id LIMIT 1) AS first";

const FIRST_DUE: &str =
    "SELECT floor(extract(epoch FROM retry_at) * 1000)::bigint FROM segment_relay.parked WHERE since IS NOT NULL
    ORDER BY retry_at, id LIMIT 1";

/// A user who fits.
struct MeantUser {
    user: UserKey,
    first: CallId,
    status: u16,
    reason: String,
}

/// What a step does.
#[derive(Default)]
struct Plan {
    /// Calls that are out: while they are in requests, nobody knows whether they are accepted.
    wishes: Vec<CallId>,
    now: Vec<MeantUser>,
    next: i64,
    is_last: bool,
}

impl Deliverer {
    /// Does a step. True if it was the last one, and the request is answered.
    pub(super) async fn act(&mut self, step: &mut VerbStep) -> Result<bool, DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(false) };
        let begun = Transaction::begin(connection, self.owner).await;
        let done = match begun {
            Ok(Some(mut transaction)) => {
                let done = transaction.act(step, &self.out, &mut self.turn).await;
                transaction.end(done).await.map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let Some((plan, effects)) = self.checked(done)? else {
            self.end_tenure();
            return Ok(true);
        };
        self.committed(&effects);
        step.count += (plan.wishes.len() + plan.now.len()) as u64;
        step.next = plan.next;
        for id in plan.wishes {
            self.out.wish(id, step.wish);
        }
        Ok(plan.is_last)
    }
}

impl Transaction<'_> {
    async fn act(&mut self, step: &mut VerbStep, out: &Out, turn: &mut i64) -> Result<Plan, DatabaseError> {
        let plan = self.plan(step, out).await?;
        match step.wish {
            Wish::GiveUp => {
                let given_up = plan.now.iter().map(|user| LetterCause {
                    id: user.first,
                    why: "operator",
                    status: user.status,
                    reason: user.reason.clone(),
                    attempts: 0,
                });
                let work = Work { given_up: given_up.collect(), ..Work::default() };
                self.settle(&work, None, turn).await?;
            }
            Wish::Retry => {
                let is_one = matches!(step.users, Users::One(_));
                self.make_due(&plan.now.iter().map(|user| user.user).collect::<Vec<_>>(), is_one).await?;
            }
            // `forget` deletes calls, not this.
            Wish::Forget => {}
        }
        if plan.is_last {
            let count = step.count + (plan.wishes.len() + plan.now.len()) as u64;
            write_answer(self.connection, step.request, &json!({ "count": count })).await?;
        }
        Ok(plan)
    }

    async fn plan(&self, step: &mut VerbStep, out: &Out) -> Result<Plan, DatabaseError> {
        let of_user = match &step.users {
            Users::All(ParkedFilter { user_id: Some(user_id), .. }) => Some(digest(&[user_id.as_bytes()])),
            _ => None,
        };
        let rows = if let Some(user) = of_user {
            self.query(BY_USER, &[(&&user[..], Type::BYTEA)]).await?
        } else {
            let last = match step.last {
                Some(last) => last,
                None => match self.query(NEWEST, &[]).await?.first() {
                    Some(row) => *step.last.insert(column(row, 0)?),
                    None => 0,
                },
            };
            let params: [super::transaction::Param<'_>; 3] =
                [(&step.next, Type::INT8), (&last, Type::INT8), (&STEP_USERS, Type::INT8)];
            self.query(BY_ID, &params).await?
        };
        let is_last = of_user.is_some() || (rows.len() as i64) < STEP_USERS;
        let mut plan = Plan { is_last, next: step.next, ..Plan::default() };
        for row in &rows {
            plan.next = column::<i64>(row, 0)?.saturating_add(1);
            let Some(user) = meant_user(row, &step.users)? else { continue };
            if out.is_out(user.first) { plan.wishes.push(user.first) } else { plan.now.push(user) }
        }
        Ok(plan)
    }

    /// Makes users due now. A single one goes before all who are due.
    async fn make_due(&mut self, users: &[UserKey], is_one: bool) -> Result<(), DatabaseError> {
        let mut rows = ParkedRows::default();
        self.read_parked(users, &mut rows).await?;
        let first = match self.query(FIRST_DUE, &[]).await?.first() {
            Some(row) if is_one => column::<i64>(row, 0)?.saturating_sub(1),
            _ => i64::MAX,
        };
        let now = self.now;
        for row in rows.new.values_mut() {
            row.retry_at = if is_one { now.min(first) } else { now.min(row.retry_at) };
        }
        self.write_parked(&rows).await
    }
}

/// The user of a row, if the first call fails and fits.
fn meant_user(row: &Row, users: &Users) -> Result<Option<MeantUser>, DatabaseError> {
    let (is_failing, status): (bool, Option<i32>) = (column(row, 2)?, column(row, 3)?);
    let (reason, source): (Option<&[u8]>, Option<&str>) = (column(row, 4)?, column(row, 6)?);
    let Some(user) = user_key(row).filter(|_| is_failing) else { return Ok(None) };
    let status = status.and_then(|status| u16::try_from(status).ok());
    if let Users::All(filter) = users
        && (filter.status.is_some() && filter.status != status
            || filter.source.is_some() && filter.source.as_deref() != source)
    {
        return Ok(None);
    }
    let reason = String::from_utf8_lossy(reason.unwrap_or_default()).into_owned();
    Ok(Some(MeantUser { user, first: column(row, 5)?, status: status.unwrap_or(0), reason }))
}
