//! The writer's commands. A command keeps its caller's channel and its result until the commit.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::dead_letters::ReplayAll;
use super::fault::StoreFault;
use super::transaction::{ROW_OVERHEAD, Transaction};
use crate::outbox::error::OutboxError;
use crate::outbox::store::{Append, Appended};
use crate::segment::{Delivered, MAX_CALL_BYTES};

pub(super) enum Command {
    Append(Append, Reply<Appended>),
    Settle(Arc<[Delivered]>, Reply<()>),
    Replay(i64, Reply<bool>),
    ReplayAll(ReplayAll, Reply<u64>),
    Discard(i64, Reply<bool>),
    /// Sent once a second: starts work that no caller asks for.
    Tick,
    /// Accept no more commands, finish those that are queued, then end.
    Close,
}

/// A caller's channel, and the result that it gets after the commit.
pub(super) struct Reply<T> {
    caller: oneshot::Sender<Result<T, OutboxError>>,
    result: Result<T, OutboxError>,
}

impl<T> Reply<T> {
    pub(super) fn channel() -> (Self, oneshot::Receiver<Result<T, OutboxError>>) {
        let (caller, answer) = oneshot::channel();
        (Self { caller, result: Err(OutboxError::Unconfirmed) }, answer)
    }

    /// Sends the result, or this error instead.
    fn send(self, error: Option<OutboxError>) {
        // The caller may have left.
        let _ = self.caller.send(error.map_or(self.result, Err));
    }
}

impl Command {
    /// Bytes that it adds to a transaction, approximately.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Append(append, _) => ROW_OVERHEAD + append.call.json().len(),
            Self::Settle(delivered, _) => {
                let reason = |delivered: &Delivered| delivered.outcome.as_ref().err().map_or(0, |why| why.reason.len());
                delivered.iter().map(|delivered| ROW_OVERHEAD + reason(delivered)).sum()
            }
            // The size is unknown until the row is read.
            Self::Replay(..) => ROW_OVERHEAD + MAX_CALL_BYTES,
            Self::ReplayAll(..) | Self::Discard(..) | Self::Tick | Self::Close => ROW_OVERHEAD,
        }
    }

    pub(super) fn execute(&mut self, transaction: &mut Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Append(append, reply) => reply.result = transaction.append(append)?,
            Self::Settle(delivered, reply) => reply.result = Ok(transaction.settle(delivered)?),
            Self::Replay(id, reply) => reply.result = Ok(transaction.replay(*id)?),
            Self::ReplayAll(all, reply) => reply.result = Ok(transaction.replay_next(all)?),
            Self::Discard(id, reply) => reply.result = Ok(transaction.discard(*id)?),
            Self::Tick | Self::Close => {}
        }
        Ok(())
    }

    /// Whether it needs another transaction.
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(self, Self::ReplayAll(all, _) if !all.is_finished)
    }

    /// Sends the caller the result. Call it after the commit only.
    pub(super) fn answer(self) {
        self.send(None);
    }

    /// Tells the caller that the command was not committed.
    pub(super) fn refuse(self, fault: StoreFault) {
        let error = match fault {
            StoreFault::DiskFull => OutboxError::Full,
            // Only `append` promises `Busy`. For the others `Full` says the same: nothing was changed.
            StoreFault::Locked if matches!(self, Self::Append(..)) => OutboxError::Busy,
            StoreFault::Locked => OutboxError::Full,
            StoreFault::Fatal => OutboxError::Unconfirmed,
            StoreFault::Closed => OutboxError::Closed,
        };
        self.send(Some(error));
    }

    fn send(self, error: Option<OutboxError>) {
        match self {
            Self::Append(_, reply) => reply.send(error),
            Self::Settle(_, reply) => reply.send(error),
            Self::Replay(_, reply) | Self::Discard(_, reply) => reply.send(error),
            Self::ReplayAll(_, reply) => reply.send(error),
            Self::Tick | Self::Close => {}
        }
    }
}
