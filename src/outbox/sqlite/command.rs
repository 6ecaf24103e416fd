//! The writer's commands, and their queue. A command keeps its caller's channel and its result until the commit.
//!
//! Group commit: a group of commands is one transaction and one sync. A small group is taken at once. Under load a
//! group starts a fixed interval after the last one, so that more callers share the cost of a transaction.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::forget::ForgetVerb;
use super::group::Group;
use super::parked_verbs::ParkedVerb;
use super::scrub::{Scrub, ScrubError};
use super::state::StoreFault;
use super::transaction::Transaction;
use crate::outbox::columns::event_bytes;
use crate::outbox::limits::{MAX_TRANSACTION_BYTES, ROW_OVERHEAD, group_bytes};
use crate::outbox::{
    Append, Appended, BackupError, CallId, DeletedRows, KeptEvent, OutboxError, StillOut, StoreCopy, StoredCall,
};
use crate::segment::{CallOutcome, MAX_CALL_BYTES, SettledCall};

/// Commands that may wait: as many as requests may be in flight by default (`RELAY_MAX_IN_FLIGHT`), so that callers
/// wait here, in order.
pub(super) const QUEUE_CAPACITY: usize = 2048;

/// Commands in one group: half of the queue, so that the other half can fill up during the sync.
const MAX_GROUP_COMMANDS: usize = 1024;

/// From the start of a group to the start of the next one, under load. With 512 callers, who wait for 15 ms, three
/// milliseconds instead of one save a tenth of the CPU (`cargo bench`).
const GROUP_INTERVAL: Duration = Duration::from_millis(3);

/// Up to this many commands are not load: a few callers never wait for others.
const SMALL_GROUP: usize = 32;

pub(super) enum WriterCommand {
    Append(Append, Reply<Appended>),
    AppendGroup(Group, Reply<Vec<Result<Appended, OutboxError>>>),
    Keep(KeptEvent, Reply<()>),
    /// Of the event with this id, by these calls.
    Replace(i64, Vec<Append>, Reply<Option<Vec<Appended>>>),
    NoteReason(i64, String, Reply<()>),
    Settle(Arc<[SettledCall]>, Reply<()>),
    /// Of dead letters with these ids.
    Replay(Vec<i64>, Reply<u64>),
    Discard(Vec<i64>, Reply<u64>),
    Parked(ParkedVerb, Reply<u64>),
    Forget(ForgetVerb, Reply<DeletedRows>),
    /// Clears what belongs to no row.
    Scrub(Scrub, Reply<()>),
    /// Whether the log is empty now, and all of it in the file. Is not part of a transaction.
    EmptyLog(Reply<bool>),
    /// Which of these calls are out.
    StillOut(Vec<CallId>, Reply<StillOut>),
    /// Is answered when there are calls for this room. Is not part of a transaction.
    Next(usize, Reply<Vec<StoredCall>>),
    /// A number of parked calls, and whether they may be early. Is not part of a transaction.
    NextParked(usize, bool, Reply<Vec<StoredCall>>),
    /// Is not part of a transaction.
    Backup(BackupJob, Reply<Result<StoreCopy, BackupError>>),
    /// Sent once a second: starts work that no caller asks for.
    Tick,
    /// Accept no more commands, finish those that are queued, then end.
    Close,
}

/// What a backup is copied to.
pub(super) struct BackupJob {
    pub(super) path: PathBuf,
    /// The right to the one copy that may exist.
    pub(super) permit: OwnedSemaphorePermit,
}

/// A caller's channel, and the result that it gets after the commit.
pub(super) struct Reply<T> {
    caller: oneshot::Sender<Result<T, OutboxError>>,
    pub(super) result: Result<T, OutboxError>,
}

impl<T> Reply<T> {
    pub(super) fn channel() -> (Self, oneshot::Receiver<Result<T, OutboxError>>) {
        let (caller, answer) = oneshot::channel();
        (Self { caller, result: Err(OutboxError::Unconfirmed) }, answer)
    }

    /// Answers without a transaction.
    pub(super) fn answer(self, result: Result<T, OutboxError>) {
        // The caller may have left.
        let _ = self.caller.send(result);
    }

    /// Whether the caller has left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    /// Sends the result, or this error instead.
    fn send(self, error: Option<OutboxError>) {
        // The caller may have left.
        let _ = self.caller.send(error.map_or(self.result, Err));
    }
}

impl WriterCommand {
    /// Bytes that it adds to a transaction, approximately.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Append(append, _) => ROW_OVERHEAD + append.call.json().len(),
            Self::AppendGroup(group, _) => group_bytes(&group.appends),
            Self::Keep(event, _) => ROW_OVERHEAD + event_bytes(event) as usize,
            Self::Replace(_, appends, _) => group_bytes(appends),
            Self::NoteReason(_, reason, _) => ROW_OVERHEAD + reason.len(),
            Self::Settle(delivered, _) => {
                let values = |delivered: &SettledCall| match &delivered.outcome {
                    CallOutcome::Accepted => 0,
                    CallOutcome::Refused(refusal) => refusal.reason.len(),
                    // The row is moved.
                    CallOutcome::Parked(_) | CallOutcome::Behind | CallOutcome::TakenBack => MAX_CALL_BYTES,
                };
                delivered.iter().map(|delivered| ROW_OVERHEAD + values(delivered)).sum()
            }
            // The sizes are unknown until the rows are read. Many together are as much as a transaction takes (`find`).
            Self::Replay(ids, _) => (ids.len() * (ROW_OVERHEAD + MAX_CALL_BYTES)).min(MAX_TRANSACTION_BYTES),
            Self::Discard(ids, _) => ids.len() * ROW_OVERHEAD,
            Self::Parked(..) | Self::Forget(..) | Self::Scrub(..) => MAX_TRANSACTION_BYTES,
            Self::StillOut(..) => 0,
            Self::Next(..) | Self::NextParked(..) | Self::EmptyLog(..) => 0,
            Self::Backup(..) | Self::Tick | Self::Close => 0,
        }
    }

    pub(super) fn execute(&mut self, transaction: &mut Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Append(append, reply) => reply.result = transaction.append(append)?,
            Self::AppendGroup(group, reply) => reply.result = transaction.append_group(group)?,
            Self::Keep(event, reply) => reply.result = transaction.keep(event)?,
            Self::Replace(id, appends, reply) => reply.result = transaction.replace(*id, appends)?,
            Self::NoteReason(id, reason, reply) => reply.result = Ok(transaction.note_reason(*id, reason)?),
            Self::Settle(delivered, reply) => reply.result = Ok(transaction.settle(delivered)?),
            Self::Replay(ids, reply) => reply.result = Ok(transaction.replay(ids)?),
            Self::Discard(ids, reply) => reply.result = Ok(transaction.discard(ids)?),
            Self::Parked(verb, reply) => reply.result = Ok(transaction.act_on_next_users(verb)?),
            Self::Forget(verb, reply) => {
                transaction.forget_step(verb)?;
                if verb.is_finished {
                    reply.result = Ok(std::mem::take(&mut verb.deleted));
                }
            }
            Self::Scrub(scrub, reply) => match scrub.step(transaction.conn) {
                Ok(()) if scrub.is_finished => reply.result = Ok(()),
                Ok(()) => {}
                Err(ScrubError::Sqlite(error)) => return Err(error),
                Err(ScrubError::Unable(reason)) => {
                    tracing::error!(reason, "the bytes of deleted rows could not be cleared");
                    scrub.is_finished = true;
                }
            },
            Self::StillOut(ids, reply) => {
                let (out, back): (Vec<_>, Vec<_>) = ids.iter().partition(|id| transaction.memory.is_out(**id));
                let deleted = back.iter().filter(|id| transaction.memory.forgotten.remove(id)).count() as u64;
                reply.result = Ok(StillOut { out, deleted });
            }
            Self::Next(..) | Self::NextParked(..) | Self::EmptyLog(..) => {}
            Self::Backup(..) | Self::Tick | Self::Close => {}
        }
        Ok(())
    }

    /// Is answered after the transaction, so that delivery gets what this stores.
    pub(super) fn is_request(&self) -> bool {
        matches!(self, Self::Next(..) | Self::NextParked(..) | Self::EmptyLog(..))
    }

    /// Call if it is unfinished after a commit, before the log can be written from its start.
    pub(super) fn committed(&mut self, conn: &Connection, log: &File) {
        if let Self::Scrub(scrub, _) = self {
            scrub.committed(conn, log);
        }
    }

    /// Whether it adds what was not in the store.
    pub(super) fn adds(&self) -> bool {
        matches!(self, Self::Append(..) | Self::AppendGroup(..) | Self::Keep(..))
    }

    /// Whether it adds calls to those that wait, or keeps an event.
    pub(super) fn stores(&self) -> bool {
        self.adds() || matches!(self, Self::Replay(..) | Self::Replace(..))
    }

    /// Whether it needs another transaction.
    pub(super) fn is_unfinished(&self) -> bool {
        match self {
            Self::Parked(verb, _) => !verb.is_finished,
            Self::Forget(verb, _) => !verb.is_finished,
            Self::Scrub(scrub, _) => !scrub.is_finished,
            _ => false,
        }
    }

    /// Sends the caller the result, after the commit only, or why the command was not committed.
    pub(super) fn finish(self, fault: Option<StoreFault>) {
        let error = fault.map(|fault| match fault {
            StoreFault::DiskFull => OutboxError::Full,
            // Only what adds something promises `Busy`. For the others `Full` says the same: nothing was changed.
            StoreFault::Locked if self.adds() => OutboxError::Busy,
            StoreFault::Locked => OutboxError::Full,
            StoreFault::Fatal => OutboxError::Unconfirmed,
            StoreFault::Closed => OutboxError::Closed,
        });
        match self {
            Self::Append(_, reply) => reply.send(error),
            Self::AppendGroup(_, reply) => reply.send(error),
            Self::Keep(_, reply) | Self::NoteReason(_, _, reply) => reply.send(error),
            Self::Replace(_, _, reply) => reply.send(error),
            Self::Settle(_, reply) => reply.send(error),
            Self::Replay(_, reply) | Self::Discard(_, reply) => reply.send(error),
            Self::Parked(_, reply) => reply.send(error),
            Self::Forget(_, reply) => reply.send(error),
            Self::Scrub(_, reply) => reply.send(error),
            Self::EmptyLog(reply) => reply.send(error),
            Self::StillOut(_, reply) => reply.send(error),
            Self::Next(_, reply) | Self::NextParked(_, _, reply) => reply.send(error),
            Self::Backup(_, reply) => reply.send(error),
            Self::Tick | Self::Close => {}
        }
    }
}

/// Keeps the commands that can free space, or need none. The other callers hear of the fault.
pub(super) fn keep_space_freeing(group: Vec<WriterCommand>, fault: StoreFault) -> Vec<WriterCommand> {
    let (kept, refused) = group.into_iter().partition(|command| match command {
        WriterCommand::Settle(..)
        | WriterCommand::Discard(..)
        | WriterCommand::StillOut(..)
        | WriterCommand::Tick
        | WriterCommand::Close => true,
        WriterCommand::Append(..) | WriterCommand::AppendGroup(..) | WriterCommand::Replay(..) => false,
        WriterCommand::Keep(..) | WriterCommand::Replace(..) | WriterCommand::NoteReason(..) => false,
        WriterCommand::Parked(..) | WriterCommand::Forget(..) | WriterCommand::Scrub(..) => false,
        WriterCommand::Backup(..) => false,
        // These are no part of a group.
        WriterCommand::Next(..) | WriterCommand::NextParked(..) | WriterCommand::EmptyLog(..) => true,
    });
    refuse(refused, fault);
    kept
}

pub(super) fn refuse(group: Vec<WriterCommand>, fault: StoreFault) {
    group.into_iter().for_each(|command| command.finish(Some(fault)));
}

pub(super) struct CommandQueue {
    pub(super) commands: mpsc::Receiver<WriterCommand>,
    /// Commands for the next group: they need another transaction.
    pub(super) requeued: Vec<WriterCommand>,
    last_started: Option<Instant>,
    /// Commands in the last group.
    last_size: usize,
}

impl CommandQueue {
    pub(super) fn new(commands: mpsc::Receiver<WriterCommand>) -> Self {
        Self { commands, requeued: Vec::new(), last_started: None, last_size: 0 }
    }

    /// The next group, if a command waits. Does not wait for one.
    pub(super) fn group_that_waits(&mut self) -> Option<Vec<WriterCommand>> {
        if self.requeued.is_empty() {
            self.requeued.push(self.commands.try_recv().ok()?);
        }
        self.next_group()
    }

    /// The next group, in the order of arrival; `None` when the queue is closed and empty. Blocks.
    pub(super) fn next_group(&mut self) -> Option<Vec<WriterCommand>> {
        let mut group = std::mem::take(&mut self.requeued);
        // A scrub does not see what is changed before it in its own transaction.
        group.sort_by_key(|command| !matches!(command, WriterCommand::Scrub(..)));
        // What is done in many transactions leaves room for others in each.
        let mut bytes = 0;
        if group.is_empty() {
            let command = self.commands.blocking_recv()?;
            bytes = command.cost();
            group.push(command);
        }
        self.fill(&mut group, &mut bytes);
        let elapsed = self.last_started.map_or(GROUP_INTERVAL, |started| started.elapsed());
        // Callers come in waves: after a large group a small one waits for the rest of its wave.
        let is_load = group.len().max(self.last_size) > SMALL_GROUP;
        if is_load && elapsed < GROUP_INTERVAL {
            std::thread::sleep(GROUP_INTERVAL - elapsed);
            self.fill(&mut group, &mut bytes);
        }
        self.last_started = Some(Instant::now());
        self.last_size = group.len();
        Some(group)
    }

    fn fill(&mut self, group: &mut Vec<WriterCommand>, bytes: &mut usize) {
        while group.len() < MAX_GROUP_COMMANDS && *bytes < MAX_TRANSACTION_BYTES {
            let Ok(command) = self.commands.try_recv() else { return };
            *bytes += command.cost();
            group.push(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::{CommandQueue, Reply, WriterCommand};
    use crate::outbox::ParkedFilter;
    use crate::outbox::sqlite::parked_verbs::ParkedVerb;
    use crate::outbox::sqlite::scrub::Scrub;
    use crate::outbox::wishes::Wish;

    #[test]
    fn other_commands_run_between_the_transactions_of_a_long_one() {
        let (commands, received) = mpsc::channel(8);
        let mut queue = CommandQueue::new(received);
        queue.requeued.push(WriterCommand::Scrub(Scrub::default(), Reply::channel().0));
        commands.try_send(WriterCommand::Discard(vec![1], Reply::channel().0)).unwrap();
        assert_eq!(queue.next_group().unwrap().len(), 2);
    }

    #[test]
    fn a_scrub_is_the_first_of_what_is_put_back() {
        let mut queue = CommandQueue::new(mpsc::channel(1).1);
        let verb = ParkedVerb::all(Wish::Retry, ParkedFilter::default());
        queue.requeued.push(WriterCommand::Parked(verb, Reply::channel().0));
        queue.requeued.push(WriterCommand::Scrub(Scrub::default(), Reply::channel().0));
        assert!(matches!(queue.next_group().unwrap()[..], [WriterCommand::Scrub(..), WriterCommand::Parked(..)]));
    }
}
