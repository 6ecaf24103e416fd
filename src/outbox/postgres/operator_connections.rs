//! The connections for operators: each is for one caller at a time, and is dropped when it is idle.

use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::connect::{Connection, Connector};
use crate::outbox::OutboxError;

/// How long an idle connection is kept: an operator who looks at pages needs no new one for each.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// The connections.
pub(super) struct Operators {
    pub(super) statements: Slot,
    pub(super) searches: Slot,
    /// The number of the last group of calls that an event was replaced by. The appender's numbers are positive.
    group: AtomicI64,
}

#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Idle>>);

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection, for one caller.
pub(super) struct Held<'s> {
    slot: MutexGuard<'s, Option<Idle>>,
    connection: Connection,
}

impl Operators {
    pub(super) fn new() -> Self {
        Self { statements: Slot::default(), searches: Slot::default(), group: AtomicI64::new(0) }
    }

    /// A number for a group that is not repeated.
    pub(super) fn next_group(&self) -> i64 {
        self.group.fetch_sub(1, Ordering::Relaxed) - 1
    }

    /// Drops the connections that are idle for too long. One that is used is not.
    pub(super) fn drop_idle(&self) {
        for slot in [&self.statements, &self.searches] {
            if let Ok(mut idle) = slot.0.try_lock()
                && idle.as_ref().is_some_and(|idle| idle.since.elapsed() > MAX_IDLE)
            {
                *idle = None;
            }
        }
    }

    /// Waits for the callers, and drops the connections.
    pub(super) async fn close(&self) {
        for slot in [&self.statements, &self.searches] {
            *slot.0.lock().await = None;
        }
    }
}

impl Slot {
    /// Waits for the connection, and opens it if there is none. Nothing is opened if `refusal` has an error then.
    pub(super) async fn take(
        &self,
        connector: &Connector,
        name: &'static str,
        refusal: impl Fn(bool) -> Option<OutboxError>,
    ) -> Result<Held<'_>, OutboxError> {
        let mut slot = self.0.lock().await;
        let idle = slot.take().filter(|idle| !idle.connection.is_lost());
        if let Some(error) = refusal(idle.is_some()) {
            return Err(error);
        }
        let connection = match idle {
            Some(idle) => idle.connection,
            None => connector.open(name).await.map_err(|error| {
                tracing::warn!(%error, "the outbox's database cannot be used for an operator");
                OutboxError::Away
            })?,
        };
        Ok(Held { slot, connection })
    }
}

impl Held<'_> {
    /// Keeps the connection for the next caller. No transaction is open.
    pub(super) fn give_back(mut self) {
        *self.slot = Some(Idle { connection: self.connection, since: Instant::now() });
    }
}

impl Deref for Held<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}
