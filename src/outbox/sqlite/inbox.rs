//! What waits for the writer, taken group by group: each group is one transaction, and one sync.
//!
//! A few commands go at once. Under load a group waits until a pause since the last one began is over, so that it is
//! larger: what a transaction costs is then shared by more callers, and they have others to wait for anyway.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::command::Command;

/// How many commands may wait: as many as requests may be in flight by default (`RELAY_MAX_IN_FLIGHT`), so that the place
/// where callers wait is here, in order.
pub(super) const WAITING: usize = 2048;

/// Commands in one group. Half of what may wait: while one half is synced the other can come.
const GROUP_COMMANDS: usize = 1024;

/// The same in bytes: a disk writes so much in a few milliseconds, and nobody waits longer for it.
pub(super) const GROUP_BYTES: usize = 1024 * 1024;

/// From one group's beginning to the next one's, under load. With 512 callers, who wait for 15 ms, three milliseconds
/// instead of one save a tenth of the CPU (`cargo bench`).
const PAUSE: Duration = Duration::from_millis(3);

/// With so many commands it is not load: a few callers never wait for others.
const A_FEW: usize = 32;

pub(super) struct Inbox {
    commands: mpsc::Receiver<Command>,
    /// Commands that were not at their end in the last group.
    carried: VecDeque<Command>,
    last_began: Option<Instant>,
    /// How many commands the last group had.
    last_size: usize,
}

impl Inbox {
    pub(super) fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self { commands, carried: VecDeque::new(), last_began: None, last_size: 0 }
    }

    /// The next group, in the order of arrival; nothing when the inbox is closed and empty. Blocks.
    pub(super) fn next_group(&mut self) -> Option<Vec<Command>> {
        let mut group: Vec<Command> = self.carried.drain(..).collect();
        if group.is_empty() {
            group.push(self.commands.blocking_recv()?);
        }
        let mut bytes = group.iter().map(Command::cost).sum();
        self.fill(&mut group, &mut bytes);
        let since = self.last_began.map_or(PAUSE, |began| began.elapsed());
        // Many callers do not always come at once: after a large group a small one waits for the others too.
        let is_load = group.len().max(self.last_size) > A_FEW;
        if is_load && since < PAUSE {
            std::thread::sleep(PAUSE - since);
            self.fill(&mut group, &mut bytes);
        }
        self.last_began = Some(Instant::now());
        self.last_size = group.len();
        Some(group)
    }

    fn fill(&mut self, group: &mut Vec<Command>, bytes: &mut usize) {
        while group.len() < GROUP_COMMANDS && *bytes < GROUP_BYTES {
            let Ok(command) = self.commands.try_recv() else { return };
            *bytes += command.cost();
            group.push(command);
        }
    }

    /// Puts a command into the next group.
    pub(super) fn carry(&mut self, command: Command) {
        self.carried.push_back(command);
    }

    /// Takes nothing more: what is there already is still handed out.
    pub(super) fn close(&mut self) {
        self.commands.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }
}
