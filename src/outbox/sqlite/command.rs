//! What the writer is asked to do, and how it answers.
//!
//! A command keeps its caller's ear while it is carried out; nobody is answered before the commit.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::fault::Fault;
use crate::outbox::{Append, Appended, OutboxError};
use crate::segment::{Delivered, MAX_CALL_BYTES};

/// Where an answer goes. A caller who left is no error.
pub(super) type Reply<T> = oneshot::Sender<Result<T, OutboxError>>;

/// What a row costs beside what it holds, in bytes, roughly: its entry in each table and index.
pub(super) const ROW_OVERHEAD: usize = 128;

pub(super) enum Command {
    Append(Append, Reply<Appended>),
    Settle(Arc<[Delivered]>, Reply<()>),
    Replay(i64, Reply<bool>),
    ReplayAll(ReplayAll, Reply<u64>),
    Discard(i64, Reply<bool>),
    /// A second went by: see whether something is to be done unasked.
    Tick,
    /// Take nothing more, finish what is there, end.
    Close,
}

/// How far replaying all dead letters has come: it is done in parts, with other commands between them.
#[derive(Default)]
pub(super) struct ReplayAll {
    /// The greatest id there was at the beginning.
    pub(super) up_to: Option<i64>,
    /// The last id that was looked at.
    pub(super) after: i64,
    pub(super) replayed: u64,
}

/// What became of a command.
pub(super) enum Done {
    Appended(Result<Appended, OutboxError>),
    Settled,
    Was(bool),
    Count(u64),
    /// There is more to do: it goes into the next group as well.
    Again,
    Nothing,
}

impl Command {
    /// What it adds to a transaction, in bytes, roughly.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Append(append, _) => ROW_OVERHEAD + append.call.json().len(),
            Self::Settle(delivered, _) => {
                let reason = |delivered: &Delivered| delivered.outcome.as_ref().err().map_or(0, |why| why.reason.len());
                delivered.iter().map(|delivered| ROW_OVERHEAD + reason(delivered)).sum()
            }
            // Nobody knows its size before it is read.
            Self::Replay(..) => ROW_OVERHEAD + MAX_CALL_BYTES,
            Self::ReplayAll(..) | Self::Discard(..) | Self::Tick | Self::Close => ROW_OVERHEAD,
        }
    }

    /// Tells the caller what became of it. Gives itself back if it is not at its end.
    pub(super) fn answer(self, done: Done) -> Option<Self> {
        match (self, done) {
            (again, Done::Again) => return Some(again),
            (Self::Append(_, reply), Done::Appended(appended)) => drop(reply.send(appended)),
            (Self::Settle(_, reply), Done::Settled) => drop(reply.send(Ok(()))),
            (Self::Replay(_, reply) | Self::Discard(_, reply), Done::Was(was)) => drop(reply.send(Ok(was))),
            (Self::ReplayAll(_, reply), Done::Count(count)) => drop(reply.send(Ok(count))),
            // Every other pair is one that `Transaction::carry_out` does not make, and the caller hears "unconfirmed".
            _ => {}
        }
        None
    }

    /// Tells the caller that its group was not committed.
    pub(super) fn refuse(self, fault: Fault) {
        let error = match fault {
            Fault::Full => OutboxError::Full,
            // Only an append says "not begun in time"; for the others it is the same as no room: nothing was changed.
            Fault::Locked if matches!(self, Self::Append(..)) => OutboxError::Busy,
            Fault::Locked => OutboxError::Full,
            Fault::Fatal => OutboxError::Unconfirmed,
            Fault::Over => OutboxError::Closed,
        };
        match self {
            Self::Append(_, reply) => drop(reply.send(Err(error))),
            Self::Settle(_, reply) => drop(reply.send(Err(error))),
            Self::Replay(_, reply) | Self::Discard(_, reply) => drop(reply.send(Err(error))),
            Self::ReplayAll(_, reply) => drop(reply.send(Err(error))),
            Self::Tick | Self::Close => {}
        }
    }
}
