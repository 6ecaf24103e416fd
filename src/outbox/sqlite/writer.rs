//! The writer: the thread that owns the writing connection, runs each group of commands in one transaction, and answers
//! after the commit.
//!
//! A failed commit is never repeated as it was. If the disk is full or another program holds a lock, nothing was
//! changed: the callers get an error, and once a second a tiny transaction checks whether the fault is over. While the
//! disk is full only commands that free space are tried. Any other failure ends the store.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::checkpoint::CheckpointHandle;
use super::command::{CommandQueue, WriterCommand};
use super::prune::Pruner;
use super::reserve::Reserve;
use super::state::{StoreFault, StoreState};
use super::transaction::{Effects, Transaction, room};
use crate::outbox::{CallId, DeliveryOutcome, OutboxStats, StoredCall};

pub(super) struct Writer {
    pub(super) conn: Connection,
    /// Held while the store is open, so that no other process writes.
    pub(super) lock: File,
    pub(super) queue: CommandQueue,
    pub(super) state: Arc<StoreState>,
    pub(super) new_calls: mpsc::Sender<Vec<StoredCall>>,
    /// After the last commit.
    pub(super) stats: OutboxStats,
    /// Bytes of the file that are not in use.
    pub(super) free_bytes: u64,
    pub(super) pruner: Pruner,
    pub(super) watchers: Watchers,
    pub(super) checkpoints: CheckpointHandle,
    pub(super) reserve: Reserve,
    /// Why the last transaction failed, if it did.
    pub(super) fault: Option<StoreFault>,
    /// The trouble that was logged last.
    pub(super) logged_trouble: Option<&'static str>,
    /// True when everything is closed.
    pub(super) ended: watch::Sender<bool>,
}

impl Writer {
    /// Runs until the store is closed and every queued command is finished.
    pub(super) fn run(mut self) {
        while let Some(mut group) = self.queue.next_group() {
            if group.iter().any(|command| matches!(command, WriterCommand::Close)) {
                self.queue.commands.close();
            }
            if self.state.has_failed() {
                self.queue.commands.close();
                refuse(group, StoreFault::Closed);
                continue;
            }
            let is_tick = group.iter().any(|command| matches!(command, WriterCommand::Tick));
            if is_tick {
                self.watchers.remove_closed();
                self.log_trouble();
            }
            if self.fault == Some(StoreFault::DiskFull) {
                group = keep_space_freeing(group);
                if is_tick {
                    self.checkpoints.checkpoint_now(&self.conn, &self.state);
                }
            } else if is_tick && !self.reserve.is_held() && self.reserve.allocate() {
                self.publish_stats();
            }
            self.execute(group);
        }
        let Self { conn, lock, checkpoints, state, ended, .. } = self;
        checkpoints.close(&conn, &state);
        drop(conn);
        drop(lock);
        ended.send_replace(true);
    }

    /// Executes a group. If the disk is full, the commands that free space are tried once more without the others.
    fn execute(&mut self, mut group: Vec<WriterCommand>) {
        let has_work = group.iter().any(|command| match command {
            // While there is a fault, a tick needs a transaction to find out whether it is over.
            WriterCommand::Tick => self.fault.is_some() || self.pruner.is_due(now()),
            WriterCommand::Close => false,
            _ => true,
        });
        if !has_work {
            return;
        }
        match self.transact(&mut group) {
            Ok(effects) => self.committed(group, effects),
            Err(error)
                if self.fault != Some(StoreFault::DiskFull)
                    && StoreFault::from_error(&error) == StoreFault::DiskFull =>
            {
                self.failed(Vec::new(), &error);
                let mut rest = keep_space_freeing(group);
                // The tick has done its work: the disk is known to be full.
                rest.retain(|command| !matches!(command, WriterCommand::Tick));
                self.execute(rest);
            }
            Err(error) => self.failed(group, &error),
        }
    }

    fn transact(&mut self, group: &mut [WriterCommand]) -> Result<Effects> {
        let _timer = self.state.metrics.outbox_commit_seconds.start_timer();
        self.state.metrics.outbox_commit_commands.observe(group.len() as f64);
        let mut transaction = Transaction::begin(&self.conn, now(), self.stats, self.room())?;
        for command in group {
            command.execute(&mut transaction)?;
        }
        if self.pruner.is_due(transaction.now) {
            transaction.prune(&mut self.pruner)?;
        }
        if transaction.effects.settled_keys {
            self.pruner.key_settled(transaction.now);
        }
        transaction.commit()
    }

    /// Logs a change of the trouble, once a second at most: an outbox that is nearly full enters and leaves it often.
    fn log_trouble(&mut self) {
        let trouble = self.state.stats().trouble;
        match trouble {
            Some(why) if self.logged_trouble != trouble => tracing::warn!("calls cannot be stored: {why}"),
            None if self.logged_trouble.is_some() => tracing::info!("calls can be stored again"),
            _ => {}
        }
        self.logged_trouble = trouble;
    }

    /// Bytes that appends may add.
    fn room(&self) -> u64 {
        self.reserve.room(room(&self.stats), self.free_bytes)
    }

    /// Publishes the statistics, with the reason if there is no room.
    fn publish_stats(&mut self) {
        let is_disk_full = self.room() == 0 && !self.reserve.is_held();
        let fault = self.fault.or(is_disk_full.then_some(StoreFault::DiskFull));
        self.state.update(self.stats, fault.map(StoreFault::trouble));
    }

    /// Applies a committed transaction's effects, and answers the callers.
    fn committed(&mut self, group: Vec<WriterCommand>, effects: Effects) {
        (self.stats, self.free_bytes) = (effects.stats, effects.free_bytes);
        // A settlement that worked does not show that there is room for more.
        if self.fault.is_some()
            && group.iter().any(|command| matches!(command, WriterCommand::Append(..) | WriterCommand::Tick))
        {
            self.fault = None;
        }
        let metrics = &self.state.metrics;
        let accepted = effects.outcomes.len() as u64 - effects.refused;
        metrics.outbox_sync_seconds.observe(effects.sync.as_secs_f64());
        // A replayed call was counted when it was first stored.
        metrics.outbox_stored.inc_by(effects.new_calls.len() as u64 - effects.replayed);
        metrics.outbox_accepted.inc_by(accepted);
        metrics.outbox_refused.inc_by(effects.refused);
        metrics.dead_letters_replayed.inc_by(effects.replayed);
        metrics.dead_letters_discarded.inc_by(effects.discarded);
        tracing::debug!(
            commands = group.len(),
            calls = effects.new_calls.len(),
            bytes = effects.new_calls.iter().map(|stored| stored.call.json().len()).sum::<usize>(),
            sync = ?effects.sync,
            "a transaction was committed"
        );
        if !effects.outcomes.is_empty() {
            tracing::debug!(accepted, refused = effects.refused, "calls were settled");
        }
        if effects.refused > 0 {
            tracing::warn!(calls = effects.refused, "Segment refused calls; they are dead letters now");
        }
        if !effects.new_calls.is_empty() {
            // If the feed is full, delivery reads these calls from the disk.
            let _ = self.new_calls.try_send(effects.new_calls);
        }
        self.publish_stats();
        effects.watchers.into_iter().for_each(|(id, watcher)| self.watchers.add(id, watcher));
        effects.outcomes.iter().for_each(|(id, outcome)| self.watchers.notify(*id, outcome));
        for command in group {
            if !command.is_unfinished() {
                command.finish(None);
            } else if self.queue.commands.is_closed() {
                command.finish(Some(StoreFault::Closed));
            } else {
                self.queue.requeued.push(command);
            }
        }
        self.checkpoints.after_commit(&self.conn, &self.state);
    }

    /// The commit failed, or was not confirmed.
    fn failed(&mut self, group: Vec<WriterCommand>, error: &rusqlite::Error) {
        let mut fault = StoreFault::from_error(error);
        if fault != StoreFault::Fatal && !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
            fault = StoreFault::Fatal;
        }
        match fault {
            StoreFault::DiskFull => self.reserve.release(),
            StoreFault::Locked => {}
            StoreFault::Fatal | StoreFault::Closed => {
                self.state.fail("could not sync", error);
                self.queue.commands.close();
            }
        }
        self.fault = Some(fault);
        self.pruner.recheck();
        self.publish_stats();
        refuse(group, fault);
    }
}

/// Keeps the commands that can free space, or need none. The other callers get
/// [`OutboxError::Full`](crate::outbox::OutboxError::Full).
fn keep_space_freeing(group: Vec<WriterCommand>) -> Vec<WriterCommand> {
    let (kept, refused) = group.into_iter().partition(|command| match command {
        WriterCommand::Settle(..) | WriterCommand::Discard(..) | WriterCommand::Tick | WriterCommand::Close => true,
        WriterCommand::Append(..) | WriterCommand::Replay(..) | WriterCommand::ReplayAll(..) => false,
    });
    refuse(refused, StoreFault::DiskFull);
    kept
}

fn refuse(group: Vec<WriterCommand>, fault: StoreFault) {
    group.into_iter().for_each(|command| command.finish(Some(fault)));
}

/// The wall clock, in milliseconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// The callers that wait for the outcome of a call.
#[derive(Default)]
pub(super) struct Watchers {
    by_call: HashMap<CallId, Vec<oneshot::Sender<DeliveryOutcome>>>,
}

impl Watchers {
    pub(super) fn add(&mut self, id: CallId, watcher: oneshot::Sender<DeliveryOutcome>) {
        self.by_call.entry(id).or_default().push(watcher);
    }

    /// Sends the outcome to every watcher of this call.
    pub(super) fn notify(&mut self, id: CallId, outcome: &DeliveryOutcome) {
        for watcher in self.by_call.remove(&id).unwrap_or_default() {
            // The caller may have left.
            let _ = watcher.send(outcome.clone());
        }
    }

    /// Removes watchers whose callers left, so that the memory is bounded by the callers that still wait.
    pub(super) fn remove_closed(&mut self) {
        self.by_call.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.is_closed());
            !watchers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Watchers;
    use crate::outbox::DeliveryOutcome;
    use tokio::sync::oneshot;

    #[test]
    fn every_watcher_is_notified_and_closed_ones_are_removed() {
        let mut watchers = Watchers::default();
        let (first, mut first_receiver) = oneshot::channel();
        let (second, mut second_receiver) = oneshot::channel();
        let (left, gone) = oneshot::channel();
        watchers.add(1, first);
        watchers.add(1, second);
        watchers.add(2, left);
        drop(gone);
        watchers.remove_closed();
        assert_eq!(watchers.by_call.len(), 1);
        watchers.notify(1, &DeliveryOutcome::Accepted);
        watchers.notify(2, &DeliveryOutcome::Accepted);
        assert_eq!(first_receiver.try_recv().unwrap(), DeliveryOutcome::Accepted);
        assert_eq!(second_receiver.try_recv().unwrap(), DeliveryOutcome::Accepted);
        assert!(watchers.by_call.is_empty());
    }
}
