//! The connections for what operators read and change: opened when they are needed, and dropped when they are idle.
//!
//! One is for short statements, the other one for searches, which take long. A connection whose statement did not end well is dropped,
//! and so is one whose caller left: an open transaction ends with it, and nothing of it is done.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::database_error::{DatabaseError, MAX_ATTEMPTS};
use super::operator_connections::Held;
use super::shared::Shared;
use crate::outbox::OutboxError;

/// A parameter of a statement.
pub(super) type Param<'p> = (&'p (dyn ToSql + Sync), Type);

impl Shared {
    /// The connection for short statements.
    pub(super) async fn operator(&self) -> Result<Held<'_>, OutboxError> {
        self.operators.statements.take(&self.connector, "operator", |is_open| self.refusal(is_open)).await
    }

    /// The connection for searches.
    pub(super) async fn searcher(&self) -> Result<Held<'_>, OutboxError> {
        self.operators.searches.take(&self.connector, "search", |is_open| self.refusal(is_open)).await
    }

    /// Why there is no connection now: the store is closed, or the database is known to be away.
    fn refusal(&self, is_open: bool) -> Option<OutboxError> {
        if self.closing.is_cancelled() {
            return Some(OutboxError::Closed);
        }
        (!is_open && self.figures.lock().is_away).then_some(OutboxError::Away)
    }

    /// The rows of a statement that writes nothing.
    pub(super) async fn read_rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, OutboxError> {
        let held = self.operator().await?;
        let rows = held.query(sql, params).await.map_err(|error| unreadable(&error))?;
        held.give_back();
        Ok(rows)
    }

    /// The rows of a statement that is a transaction of its own.
    pub(super) async fn write_rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, OutboxError> {
        let mut attempts = 0;
        loop {
            let held = self.operator().await?;
            let warnings = held.warnings();
            attempts += 1;
            match held.query(sql, params).await {
                Ok(rows) => {
                    let is_confirmed = held.warnings() == warnings;
                    held.give_back();
                    return if is_confirmed { Ok(rows) } else { Err(not_confirmed()) };
                }
                Err(error) if attempts < MAX_ATTEMPTS && error.is_conflict() => held.give_back(),
                Err(error) => return Err(unwritten(&error)),
            }
        }
    }
}

/// The wait for a synchronous standby was ended.
pub(super) fn not_confirmed() -> OutboxError {
    tracing::warn!(
        "the database ended the wait for its synchronous standby; what an operator changed is not confirmed"
    );
    OutboxError::Unconfirmed
}

/// What a caller hears whose statement failed that writes nothing.
pub(super) fn unreadable(error: &DatabaseError) -> OutboxError {
    tracing::warn!(%error, "the outbox could not be read");
    OutboxError::Unreadable
}

/// What a caller hears whose statement failed that writes.
pub(super) fn unwritten(error: &DatabaseError) -> OutboxError {
    tracing::warn!(%error, "the outbox could not be changed");
    error.of_change()
}

/// A column of a row.
pub(super) fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, OutboxError> {
    row.try_get(index).map_err(|error| unreadable(&DatabaseError::of_statement(&error)))
}

/// A column with text of callers or of Segment.
pub(super) fn text(row: &Row, index: usize) -> Result<String, OutboxError> {
    column::<&[u8]>(row, index).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
