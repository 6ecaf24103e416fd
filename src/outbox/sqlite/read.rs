//! Operators' reads beside the writer, over a read-only connection.
//!
//! A read never makes a commit wait. No transaction stays open between two reads: it would keep the write-ahead log
//! from being checkpointed, and the log would grow.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, Result};

use super::state::{StoreState, is_corruption, without_values};
use crate::outbox::OutboxError;

/// A read-only connection, until the store is closed.
pub(super) struct ReadConnection {
    conn: Mutex<Option<Connection>>,
    state: Arc<StoreState>,
}

impl ReadConnection {
    pub(super) fn new(conn: Connection, state: &Arc<StoreState>) -> Arc<Self> {
        Arc::new(Self { conn: Mutex::new(Some(conn)), state: state.clone() })
    }

    /// Runs a query on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, OutboxError> {
        let this = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let conn = this.conn.lock();
            let conn = conn.as_ref().ok_or(OutboxError::Closed)?;
            query(conn).map_err(|error| {
                if is_corruption(&error) {
                    this.state.fail("its file is damaged", &error);
                } else {
                    tracing::warn!(error = without_values(&error), "the outbox could not be read");
                }
                OutboxError::Unreadable
            })
        });
        answer.await.unwrap_or(Err(OutboxError::Unreadable))
    }

    /// Waits for the read in progress, and closes the connection.
    pub(super) async fn close(self: &Arc<Self>) {
        let this = self.clone();
        // An error means that the runtime is shutting down, which closes the connection as well.
        let _ = tokio::task::spawn_blocking(move || drop(this.conn.lock().take())).await;
    }
}
