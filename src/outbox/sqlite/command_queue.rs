//! Group commit: the queue of commands for the writer, which takes them in groups. A group is one transaction and one
//! sync.
//!
//! A few commands are taken at once. Under load the next group starts a fixed interval after the last one, so that
//! groups are larger: more callers share the cost of a transaction, and under load they wait for others anyway.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::command::Command;
use super::transaction::MAX_TRANSACTION_BYTES;

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

pub(super) struct CommandQueue {
    commands: mpsc::Receiver<Command>,
    /// Commands of the last group that need another transaction.
    requeued: VecDeque<Command>,
    last_started: Option<Instant>,
    /// Commands in the last group.
    last_size: usize,
}

impl CommandQueue {
    pub(super) fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self { commands, requeued: VecDeque::new(), last_started: None, last_size: 0 }
    }

    /// The next group, in the order of arrival; `None` when the queue is closed and empty. Blocks.
    pub(super) fn next_group(&mut self) -> Option<Vec<Command>> {
        let mut group: Vec<Command> = self.requeued.drain(..).collect();
        if group.is_empty() {
            group.push(self.commands.blocking_recv()?);
        }
        let mut bytes = group.iter().map(Command::cost).sum();
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

    fn fill(&mut self, group: &mut Vec<Command>, bytes: &mut usize) {
        while group.len() < MAX_GROUP_COMMANDS && *bytes < MAX_TRANSACTION_BYTES {
            let Ok(command) = self.commands.try_recv() else { return };
            *bytes += command.cost();
            group.push(command);
        }
    }

    /// Puts a command into the next group.
    pub(super) fn requeue(&mut self, command: Command) {
        self.requeued.push_back(command);
    }

    /// Accepts no more commands. Queued commands are still handed out.
    pub(super) fn close(&mut self) {
        self.commands.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }
}
