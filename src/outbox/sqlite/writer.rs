//! The writer: the thread that owns the writing connection, runs each group of commands in one transaction, and answers
//! after the commit.
//!
//! A failed commit is never repeated as it was. If the disk is full or another program holds a lock, nothing was
//! changed: the callers get an error, and once a second a tiny transaction checks whether the fault is over. While the
//! disk is full only commands that free space are tried. Any other failure ends the store. After a file is lost, what can
//! still be delivered is settled, in the lost files, and nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, Result};
use tokio::sync::watch;

use super::checkpoint::CheckpointHandle;
use super::command::{CommandQueue, WriterCommand, keep_space_freeing, refuse};
use super::expire::Expiry;
use super::file::LockedFile;
use super::lost::LostFiles;
use super::memory::Memory;
use super::prune::Pruners;
use super::reading::Reading;
use super::reserve::Reserve;
use super::state::{StoreFault, StoreState, is_shared_memory_full};
use super::transaction::{Effects, Transaction};
use super::watch::FileWatch;
use crate::outbox::limits::{is_over_share, room};
use crate::outbox::watchers::Watchers;
use crate::outbox::{DeliveryOutcome, OutboxStats};
use crate::segment::{CallOutcome, Refusal};

/// `rm -r` deletes one file after another: after this pause it is known which are lost.
const DELETE_PAUSE: Duration = Duration::from_millis(100);

/// The reason that `/readyz` shows while the write-ahead log takes the room of calls.
const LONG_WAL: &str = "the outbox is full: a reader of its file keeps the write-ahead log from being emptied";

pub(super) struct Writer {
    /// A backup holds it too.
    pub(super) conn: Rc<Connection>,
    /// Held while the store is open, so that no other process writes.
    pub(super) lock: LockedFile,
    pub(super) watch: FileWatch,
    pub(super) queue: CommandQueue,
    pub(super) state: Arc<StoreState>,
    pub(super) reading: Reading,
    pub(super) memory: Memory,
    /// After the last commit.
    pub(super) stats: OutboxStats,
    /// Bytes of the log that are part of `stats.bytes`.
    pub(super) counted_wal: u64,
    /// Bytes of the file that are not in use.
    pub(super) free_bytes: u64,
    pub(super) pruners: Pruners,
    pub(super) expiry: Expiry,
    pub(super) watchers: Watchers,
    pub(super) checkpoints: CheckpointHandle,
    pub(super) reserve: Reserve,
    /// Why the last transaction failed, if it did.
    pub(super) fault: Option<StoreFault>,
    /// What was lost, if a file was.
    pub(super) lost: Option<LostFiles>,
    /// The trouble that was logged last.
    pub(super) logged_trouble: Option<&'static str>,
    /// Dead letters that were deleted for want of room and not logged yet.
    pub(super) pushed_out: u64,
    /// True when everything is closed.
    pub(super) ended: watch::Sender<bool>,
}

impl Writer {
    /// Runs until the store is closed and every queued command is finished.
    pub(super) fn run(mut self) {
        while let Some(group) = self.queue.next_group() {
            self.run_group(group);
        }
        self.end();
    }

    /// Executes a group: its backup last, because that executes the groups that arrive between its steps.
    pub(super) fn run_group(&mut self, mut group: Vec<WriterCommand>) {
        if group.iter().any(|command| matches!(command, WriterCommand::Close)) {
            self.queue.commands.close();
        }
        if self.state.has_failed() {
            self.queue.commands.close();
            refuse(group, StoreFault::Closed);
            return self.answer_next();
        }
        if self.checkpoints.missed_tick() {
            group.push(WriterCommand::Tick);
        }
        // Delivery is answered after the transaction, so that it gets what this stores.
        let requests: Vec<WriterCommand> = group.extract_if(.., |command| command.is_request()).collect();
        self.look();
        if group.iter().any(|command| matches!(command, WriterCommand::Tick)) {
            self.tick();
        }
        if self.lost.is_some() {
            group = self.keep_deliverable(group);
        } else if self.fault == Some(StoreFault::DiskFull) {
            group = keep_space_freeing(group, StoreFault::DiskFull);
        }
        let backup = group.extract_if(.., |command| matches!(command, WriterCommand::Backup(..))).next();
        self.execute(group);
        for command in requests {
            match command {
                WriterCommand::Next(room, reply) => self.reading.ask(room, reply),
                WriterCommand::EmptyLog(reply) => reply.answer(Ok(self.checkpoints.empty(&self.conn, &self.state))),
                WriterCommand::NextParked(limit, early, reply) => reply.answer(self.next_parked(limit, early)),
                other => other.finish(Some(StoreFault::Closed)),
            }
        }
        self.answer_next();
        if let Some(WriterCommand::Backup(job, reply)) = backup {
            self.back_up(job, reply);
        }
    }

    fn end(mut self) {
        self.look();
        self.end_lost(true);
        let Self { conn, lock, watch, checkpoints, state, lost, stats, ended, .. } = self;
        let is_kept = checkpoints.close(&conn, &state) && watch.has_file();
        drop(conn);
        if let Some(lost) = lost {
            lost.log_end(&stats, is_kept);
        }
        drop((watch, lock));
        ended.send_replace(true);
    }

    /// What is done once a second.
    fn tick(&mut self) {
        self.watchers.remove_closed();
        self.log_trouble();
        self.take_key_windows();
        if self.state.is_unreadable() {
            return;
        }
        self.copy_lost(Duration::ZERO);
        let is_disk_full = self.fault == Some(StoreFault::DiskFull);
        self.checkpoints.tick(&self.conn, &self.state, &self.watch, is_disk_full);
        self.reserve.look();
        if !is_disk_full && self.lost.is_none() && !self.reserve.is_held() {
            self.reserve.allocate();
        }
        self.count_wal();
        self.note_space();
        self.publish_stats();
    }

    /// Notices that the disk has no space for the copy of the log.
    fn note_space(&mut self) {
        if self.checkpoints.has_no_space() && self.fault.is_none() {
            self.fault = Some(StoreFault::DiskFull);
            self.reserve.release();
        }
    }

    /// Looks at the files, unless one is known to be lost.
    fn look(&mut self) {
        if self.lost.is_none()
            && !self.state.has_failed()
            && let Err(loss) = self.watch.look(&self.conn)
        {
            std::thread::sleep(DELETE_PAUSE);
            self.lose(self.watch.look_again(loss));
        }
    }

    /// Ends the process after a loss, if there is no more to be done, or if the store `is_closed`.
    pub(super) fn end_lost(&mut self, is_closed: bool) {
        if let Some(lost) = &mut self.lost
            && !lost.is_ending
            && (is_closed || lost.is_over(self.stats.waiting, Instant::now()))
        {
            lost.is_ending = true;
            self.state.end("a file of the outbox was lost");
        }
    }

    /// Keeps what is done after a loss. Calls are settled in memory alone if the files cannot be trusted.
    fn keep_deliverable(&mut self, group: Vec<WriterCommand>) -> Vec<WriterCommand> {
        self.end_lost(false);
        let mut group = keep_space_freeing(group, StoreFault::DiskFull);
        if self.state.is_unreadable() {
            for command in group.drain(..) {
                if let WriterCommand::Settle(delivered, reply) = command {
                    for settled in delivered.iter() {
                        let outcome = match &settled.outcome {
                            CallOutcome::Accepted => DeliveryOutcome::Accepted,
                            CallOutcome::Refused(Refusal { reason, .. }) => DeliveryOutcome::Refused(reason.clone()),
                            // It is not tried again.
                            CallOutcome::Parked(_) | CallOutcome::Behind | CallOutcome::TakenBack => continue,
                        };
                        self.stats.waiting = self.stats.waiting.saturating_sub(1);
                        self.watchers.notify(settled.id, &outcome);
                    }
                    reply.answer(Ok(()));
                } else {
                    command.finish(Some(StoreFault::DiskFull));
                }
            }
            self.publish_stats();
        }
        group
    }

    /// Executes a group. If the disk is full, the commands that free space are tried once more without the others.
    fn execute(&mut self, mut group: Vec<WriterCommand>) {
        let has_work = group.iter().any(|command| match command {
            // While there is a fault, a tick needs a transaction to find out whether it is over.
            WriterCommand::Tick => {
                let is_expiry_due = self.expiry.is_due(now(), Instant::now());
                self.fault.is_some() || self.pruners.is_due(now()) || is_expiry_due || is_over_share(&self.stats)
            }
            WriterCommand::Close | WriterCommand::Backup(..) => false,
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
                // The commit was synced, and is found if the process dies now.
                let is_synced = is_shared_memory_full(&error);
                let mut rest =
                    keep_space_freeing(group, if is_synced { StoreFault::Fatal } else { StoreFault::DiskFull });
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
        let room = self.room();
        let mut transaction = Transaction::begin(&self.conn, now(), self.stats, room, &mut self.memory)?;
        let has_tick = group.iter().any(|command| matches!(command, WriterCommand::Tick));
        for command in group {
            command.execute(&mut transaction)?;
        }
        transaction.push_out()?;
        if self.pruners.is_due(transaction.now) {
            transaction.prune_in_turn(&mut self.pruners)?;
        }
        // Once a second is often enough, and so is its line in the log.
        if has_tick && self.expiry.is_due(transaction.now, Instant::now()) {
            transaction.expire(&mut self.expiry)?;
        }
        for source in &transaction.effects.settled_keys {
            self.pruners.key_settled(source.as_ref(), transaction.now);
        }
        if transaction.effects.stats.dead_letters > 0 {
            self.expiry.letters_exist(transaction.now);
        }
        transaction.commit()
    }

    /// Logs a change of the trouble, once a second at most: an outbox that is nearly full enters and leaves it often. Logs how
    /// many dead letters were deleted for want of room, too.
    fn log_trouble(&mut self) {
        let trouble = self.state.stats().trouble;
        match trouble {
            Some(why) if self.logged_trouble != trouble => tracing::warn!("calls cannot be stored: {why}"),
            None if self.logged_trouble.is_some() => tracing::info!("calls can be stored again"),
            _ => {}
        }
        self.logged_trouble = trouble;
        if self.pushed_out > 0 {
            let dead_letters = std::mem::take(&mut self.pushed_out);
            tracing::warn!(
                dead_letters,
                "the oldest dead letters were deleted: they and parked calls take half of the outbox"
            );
        }
    }

    /// Bytes that appends may add.
    fn room(&self) -> u64 {
        self.reserve.room(room(&self.stats), self.free_bytes)
    }

    /// Counts what a reader makes the log take.
    fn count_wal(&mut self) {
        let counted = self.checkpoints.counted_bytes(self.watch.wal_bytes());
        self.stats.bytes = self.stats.bytes.saturating_sub(self.counted_wal).saturating_add(counted);
        self.counted_wal = counted;
    }

    /// Whether the disk space of the log is wanted.
    fn truncates_wal(&self) -> bool {
        !self.reserve.is_held() || self.checkpoints.is_long(self.watch.wal_bytes())
    }

    /// Publishes the statistics, with the reason if there is no room.
    pub(super) fn publish_stats(&mut self) {
        let mut stats = self.stats;
        let is_disk_full = self.room() == 0 && !self.reserve.is_held();
        let fault = self.fault.or(is_disk_full.then_some(StoreFault::DiskFull));
        let is_log_long = self.counted_wal > 0 && room(&stats) == 0;
        let mut trouble = fault.map(StoreFault::trouble).or(is_log_long.then_some(LONG_WAL));
        if let Some(lost) = &self.lost {
            (trouble, stats.is_lost) = (Some(lost.loss.trouble()), true);
            if lost.is_ending && lost.loses_calls() {
                // Nothing waits for the next start.
                stats.waiting = 0;
            }
        }
        self.state.metrics.outbox_log_bytes.set(i64::try_from(self.watch.wal_bytes()).unwrap_or(i64::MAX));
        self.state.update(stats, trouble);
    }

    /// Applies a committed transaction's effects, and answers the callers.
    pub(super) fn committed(&mut self, group: Vec<WriterCommand>, effects: Effects) {
        (self.stats, self.free_bytes, self.counted_wal) = (effects.stats, effects.free_bytes, 0);
        self.look();
        self.count_wal();
        self.note_space();
        // A settlement that worked does not show that there is room for more.
        if self.fault.is_some()
            && !self.checkpoints.has_no_space()
            && group.iter().any(|command| command.adds() || matches!(command, WriterCommand::Tick))
        {
            self.fault = None;
        }
        effects.count(&self.state.metrics);
        tracing::debug!(
            commands = group.len(),
            calls = effects.stored,
            sync = ?effects.sync,
            "a transaction was committed"
        );
        self.pushed_out += effects.pushed_out;
        self.memory.end_transaction(true);
        effects.returned.iter().for_each(|id| self.memory.returned(*id));
        self.note_sources(&effects.sources);
        self.note_forgotten(&effects);
        self.reading.stored(effects.new_calls);
        self.publish_stats();
        effects.watchers.into_iter().for_each(|(id, watcher)| self.watchers.add(id, watcher));
        effects.outcomes.iter().for_each(|(id, outcome)| self.watchers.notify(*id, outcome));
        for mut command in group {
            if self.lost.is_some() && command.stores() {
                // It is in the lost file, and may be delivered.
                command.finish(Some(StoreFault::Fatal));
            } else if !command.is_unfinished() {
                command.finish(None);
            } else if self.queue.commands.is_closed() {
                command.finish(Some(StoreFault::Closed));
            } else {
                command.committed(&self.conn, self.watch.log());
                self.queue.requeued.push(command);
            }
        }
        if !self.state.is_unreadable() {
            self.checkpoints.after_commit(&self.conn, &self.state, self.truncates_wal());
        }
    }

    /// The commit failed, or was not confirmed.
    pub(super) fn failed(&mut self, group: Vec<WriterCommand>, error: &rusqlite::Error) {
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
        // Its error comes again in the next transaction.
        let _ = super::scrub::end(&self.conn);
        self.fault = Some(fault);
        self.memory.end_transaction(false);
        self.pruners.recheck();
        self.expiry.recheck();
        self.publish_stats();
        refuse(group, fault);
    }
}

/// The wall clock, in milliseconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
