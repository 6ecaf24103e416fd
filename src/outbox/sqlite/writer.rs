//! The writer: one thread that owns the writing connection, does all that waits in one transaction, and answers after the
//! commit.
//!
//! A commit that fails is never tried again as it was. If the disk is full or another program holds a lock, nothing was
//! changed: the group is told so, and once a second a tiny transaction finds out whether that is over. While the disk is
//! full only what makes room is tried. Any other failure is the end of the store.

use std::fs::File;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Result};
use tokio::sync::{mpsc, watch};

use super::checkpoint::Checkpoints;
use super::command::{Command, Done};
use super::fault::Fault;
use super::inbox::Inbox;
use super::prune::Pruner;
use super::reserve::Reserve;
use super::shared::Shared;
use super::transaction::{Committed, Counters, Measured, Transaction};
use super::watchers::Watchers;
use crate::outbox::{Outcome, Stored};

pub(super) struct Writer {
    pub(super) conn: Connection,
    /// Held while the store is open: nobody else may write.
    pub(super) lock: File,
    pub(super) inbox: Inbox,
    pub(super) shared: Arc<Shared>,
    pub(super) fresh: mpsc::Sender<Vec<Stored>>,
    pub(super) counters: Counters,
    pub(super) measured: Measured,
    pub(super) max_bytes: u64,
    pub(super) pruner: Pruner,
    pub(super) watchers: Watchers,
    pub(super) checkpoints: Checkpoints,
    pub(super) reserve: Reserve,
    /// Why the last transaction failed, if it did.
    pub(super) fault: Option<Fault>,
    /// The trouble that was logged.
    pub(super) said: Option<&'static str>,
    /// Says that everything is closed.
    pub(super) ended: watch::Sender<bool>,
}

impl Writer {
    /// Works until the store is closed, and all that was begun is finished.
    pub(super) fn run(mut self) {
        while let Some(mut group) = self.inbox.next_group() {
            if group.iter().any(|command| matches!(command, Command::Close)) {
                self.inbox.close();
            }
            if self.shared.is_over() {
                self.inbox.close();
                refuse(group, Fault::Over);
                continue;
            }
            let is_tick = group.iter().any(|command| matches!(command, Command::Tick));
            if is_tick {
                self.watchers.sweep();
                self.say_trouble();
            }
            if self.fault == Some(Fault::Full) {
                group = self.only_what_makes_room(group);
                if is_tick {
                    self.checkpoints.make_room(&self.conn, &self.shared);
                }
            } else if is_tick && !self.reserve.is_held() && self.reserve.take() {
                self.measure();
            }
            self.work(group);
        }
        let Self { conn, lock, checkpoints, shared, ended, .. } = self;
        checkpoints.end(&conn, &shared);
        drop(conn);
        drop(lock);
        ended.send_replace(true);
    }

    /// Carries a group out. If the disk is full, what makes room is tried once more without what takes it.
    fn work(&mut self, mut group: Vec<Command>) {
        if !self.has_work(&group) {
            return;
        }
        match self.transact(&mut group) {
            Ok((done, committed)) => self.committed(group, done, committed),
            Err(error) if self.fault != Some(Fault::Full) && Fault::of(&error) == Fault::Full => {
                self.failed(Vec::new(), &error);
                let rest = self.only_what_makes_room(group);
                // A tick has found out by now.
                self.work(rest.into_iter().filter(|command| !matches!(command, Command::Tick)).collect());
            }
            Err(error) => self.failed(group, &error),
        }
    }

    /// What of a group can make room, or takes none. The others are told that the disk is full.
    fn only_what_makes_room(&self, group: Vec<Command>) -> Vec<Command> {
        let (rest, takers) = group.into_iter().partition(|command| match command {
            Command::Settle(..) | Command::Discard(..) | Command::Tick | Command::Close => true,
            Command::Append(..) | Command::Replay(..) | Command::ReplayAll(..) => false,
        });
        refuse(takers, Fault::Full);
        rest
    }

    /// Whether a group is worth a transaction: a tick is, while it must be found out whether there is room again.
    fn has_work(&self, group: &[Command]) -> bool {
        group.iter().any(|command| match command {
            Command::Tick => self.fault.is_some() || self.pruner.is_due(now()),
            Command::Close => false,
            _ => true,
        })
    }

    fn transact(&mut self, group: &mut [Command]) -> Result<(Vec<Done>, Committed)> {
        let _timer = self.shared.metrics.outbox_commit_seconds.start_timer();
        self.shared.metrics.outbox_commit_calls.observe(group.len() as f64);
        let mut transaction = Transaction::begin(&self.conn, now(), self.counters, self.room(), self.max_bytes)?;
        let mut done = Vec::with_capacity(group.len());
        for command in group {
            done.push(transaction.carry_out(command)?);
        }
        if self.pruner.is_due(transaction.now) {
            transaction.prune(&mut self.pruner)?;
        }
        if transaction.effects.settled_keys {
            self.pruner.settled(transaction.now);
        }
        Ok((done, transaction.commit()?))
    }

    /// One line a change, and one a second at most: at the brink of being full it comes and goes.
    fn say_trouble(&mut self) {
        let trouble = self.shared.contents().trouble;
        match trouble {
            Some(why) if self.said != trouble => tracing::warn!("calls cannot be stored: {why}"),
            None if self.said.is_some() => tracing::info!("calls can be stored again"),
            _ => {}
        }
        self.said = trouble;
    }

    /// What appends may add, in bytes.
    fn room(&self) -> u64 {
        self.reserve.room(self.measured.room, self.measured.free)
    }

    /// What is said about room, and why there is none.
    fn measure(&mut self) {
        let is_disk_full = self.room() == 0 && !self.reserve.is_held();
        let trouble = self.fault.or(is_disk_full.then_some(Fault::Full)).map(Fault::trouble);
        self.shared.update(&self.counters, &self.measured, trouble);
    }

    /// It is on disk: now everybody may hear of it.
    fn committed(&mut self, group: Vec<Command>, done: Vec<Done>, committed: Committed) {
        let Committed { counters, effects, measured, sync } = committed;
        self.counters = counters;
        self.measured = measured;
        // What was settled says nothing about room for more.
        if self.fault.is_some() && group.iter().any(|command| matches!(command, Command::Append(..) | Command::Tick)) {
            self.fault = None;
        }
        let metrics = &self.shared.metrics;
        metrics.outbox_sync_seconds.observe(sync.as_secs_f64());
        metrics.outbox_stored.inc_by(effects.stored);
        metrics.outbox_delivered.inc_by(effects.delivered);
        metrics.outbox_refused.inc_by(effects.refused);
        if effects.refused > 0 {
            tracing::warn!(calls = effects.refused, "Segment refused calls; they are dead letters now");
        }
        metrics.outbox_replayed.inc_by(effects.replayed);
        metrics.outbox_discarded.inc_by(effects.discarded);
        if !effects.fresh.is_empty() {
            // If there is no place, delivery reads them from the disk.
            let _ = self.fresh.try_send(effects.fresh);
        }
        self.measure();
        effects.watching.into_iter().for_each(|(id, watcher)| self.watchers.add(id, watcher));
        effects.told.iter().for_each(|(id, outcome): &(_, Outcome)| self.watchers.tell(*id, outcome));
        for (command, done) in group.into_iter().zip(done) {
            let Some(again) = command.answer(done) else { continue };
            if self.inbox.is_closed() {
                again.refuse(Fault::Over);
            } else {
                self.inbox.carry(again);
            }
        }
        self.checkpoints.after_commit(&self.conn, &self.shared);
    }

    /// It is not on disk, or nobody knows.
    fn failed(&mut self, group: Vec<Command>, error: &rusqlite::Error) {
        let mut fault = Fault::of(error);
        if fault != Fault::Fatal && !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
            fault = Fault::Fatal;
        }
        match fault {
            Fault::Full | Fault::Locked => {
                if fault == Fault::Full {
                    self.reserve.give_up();
                }
                self.shared.trouble(fault.trouble());
            }
            Fault::Fatal | Fault::Over => {
                self.shared.fail("could not sync", error);
                self.inbox.close();
            }
        }
        self.fault = Some(fault);
        self.pruner.forget_nothing();
        refuse(group, fault);
    }
}

fn refuse(group: Vec<Command>, fault: Fault) {
    group.into_iter().for_each(|command| command.refuse(fault));
}

/// The wall clock, in milliseconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
