//! One transaction of the deliverer. It begins with the lease, so that it does nothing if another relay delivers by now: until it
//! ends, no other relay can take the lease.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::connect::Connection;
use super::database_error::{DatabaseError, ErrorKind};
use super::durable_commit::settings;
use super::figures::UserKey;
use super::shared::Shared;
use super::tallies::Tallies;
use crate::outbox::{CallId, DeliveryOutcome};

/// A parameter of a statement.
pub(super) type Param<'p> = (&'p (dyn ToSql + Sync), Type);

/// The row of the lease, if this relay holds it in this tenure.
const LEASE: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM segment_relay.lease WHERE owner = $1 AND epoch = $2 FOR SHARE";

/// A relay that is stopped or cut off in the middle of a transaction would keep the lease from all others. Between two statements
/// milliseconds pass. After three seconds the server ends the transaction.
const BEGIN: &str = concat!("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '3s'; SELECT ", settings!());

/// Who delivers, and in which tenure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) relay: i64,
    pub(super) epoch: i64,
}

/// What is applied after the commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) tallies: Tallies,
    pub(super) outcomes: Vec<(CallId, DeliveryOutcome)>,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    /// Calls that became dead letters without a refusal.
    pub(super) given_up: u64,
    pub(super) parked_users: u64,
    pub(super) woken_users: u64,
    /// Calls of a forgotten person that were deleted.
    pub(super) forgotten: Vec<CallId>,
    pub(super) discarded: u64,
    pub(super) pushed_out: u64,
    pub(super) expired: u64,
    /// Users whose rows of `parked` changed, and the bytes of their calls that are kept apart.
    pub(super) user_bytes: Vec<(UserKey, i64)>,
    /// Users whose calls are kept apart, and of whom there may be calls to send.
    pub(super) has_turns: bool,
}

impl Effects {
    /// Counts what was committed, and tells those who wait for it.
    pub(super) fn apply(&self, shared: &Shared) {
        {
            let mut figures = shared.figures.lock();
            self.tallies.0.iter().for_each(|(source, counts)| figures.note(source.as_ref(), *counts));
        }
        {
            let mut watchers = shared.watchers.lock();
            self.outcomes.iter().for_each(|(id, outcome)| watchers.notify(*id, outcome));
        }
        let metrics = &shared.metrics;
        metrics.outbox_accepted.inc_by(self.accepted);
        metrics.outbox_refused.inc_by(self.refused);
        metrics.outbox_gave_up.inc_by(self.given_up);
        metrics.users_parked.inc_by(self.parked_users);
        metrics.users_woken.inc_by(self.woken_users);
        metrics.dead_letters_discarded.inc_by(self.discarded);
        metrics.dead_letters_pushed_out.inc_by(self.pushed_out);
        metrics.dead_letters_expired.inc_by(self.expired);
        if self.refused > 0 {
            tracing::warn!(calls = self.refused, "Segment refused calls; they are dead letters now");
        }
        if self.given_up > 0 {
            tracing::warn!(calls = self.given_up, "calls were given up; they are dead letters now");
        }
        if self.expired > 0 {
            tracing::info!(count = self.expired, "dead letters were deleted because of their age");
        }
        if self.pushed_out > 0 {
            let dead_letters = self.pushed_out;
            tracing::warn!(
                dead_letters,
                "the oldest dead letters were deleted: they and parked calls take half of the outbox"
            );
        }
    }
}

pub(super) struct Transaction<'c> {
    pub(super) connection: &'c Connection,
    /// The server's time, in milliseconds since 1970.
    pub(super) now: i64,
    pub(super) effects: Effects,
}

impl<'c> Transaction<'c> {
    /// Begins a transaction. `None`: another relay delivers, or this one in another tenure.
    pub(super) async fn begin(connection: &'c Connection, owner: Owner) -> Result<Option<Self>, DatabaseError> {
        let params: [Param<'_>; 2] = [(&owner.relay, Type::INT8), (&owner.epoch, Type::INT8)];
        // Both are sent at once.
        let (begun, lease) = tokio::join!(connection.batch(BEGIN), connection.query(LEASE, &params));
        begun?;
        let now = match lease.and_then(|rows| rows.first().map(|row| column(row, 0)).transpose()) {
            Ok(Some(now)) => now,
            Ok(None) => return connection.batch("ROLLBACK").await.map(|()| None),
            Err(error) => return Err(roll_back(connection, error).await),
        };
        Ok(Some(Self { connection, now, effects: Effects::default() }))
    }

    /// Commits what was done, with its counts; or undoes it, if it failed.
    pub(super) async fn end<T>(self, result: Result<T, DatabaseError>) -> Result<(T, Effects), DatabaseError> {
        let done = async {
            let value = result?;
            self.effects.tallies.write(self.connection).await?;
            if !self.connection.commit().await? {
                tracing::warn!(
                    "the database ended the wait for its synchronous standby; a fail-over may undo what was settled"
                );
            }
            Ok(value)
        };
        match done.await {
            Ok(value) => Ok((value, self.effects)),
            Err(error) => Err(roll_back(self.connection, error).await),
        }
    }

    pub(super) async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DatabaseError> {
        self.connection.query(sql, params).await
    }

    pub(super) async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, DatabaseError> {
        self.connection.execute(sql, params).await
    }
}

/// Leaves the connection as it was, if it is there still. The first error counts.
async fn roll_back(connection: &Connection, error: DatabaseError) -> DatabaseError {
    if matches!(error.kind(), ErrorKind::Refused(_))
        && let Err(lost) = connection.batch("ROLLBACK").await
    {
        return lost;
    }
    error
}

/// A column of a row.
pub(super) fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, DatabaseError> {
    row.try_get(index).map_err(|error| DatabaseError::of_statement(&error))
}
