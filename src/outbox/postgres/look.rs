//! One step of reading: it takes calls after the cursor, moves those that must wait, and takes calls of users in turn.

use std::collections::HashSet;

use super::database_error::{DatabaseError, ErrorKind};
use super::deliverer::Deliverer;
use super::page::{self, Page};
use super::settle::Work;
use crate::outbox::limits::many_bytes;
use crate::outbox::{CallId, OutboxError, StoredCall};

impl Deliverer {
    /// Answers delivery, if it waits and there are calls.
    pub(super) async fn look_for_calls(&mut self) -> Result<(), DatabaseError> {
        let Some((room, reply)) = self.asked.take() else { return self.look_at_snapshot().await };
        if reply.is_closed() {
            return Ok(());
        }
        let mut calls = Vec::new();
        match self.read_step(room, &mut calls).await {
            Ok(()) if calls.is_empty() => self.asked = Some((room, reply)),
            Ok(()) => {
                if let Err(Ok(calls)) = reply.send(Ok(calls)) {
                    self.give_back(&calls);
                }
            }
            Err(error) => {
                // Nothing is lost: the calls are read again.
                self.give_back(&calls);
                if matches!(error.kind(), ErrorKind::Refused(_)) {
                    let _ = reply.send(Err(OutboxError::Unreadable));
                } else {
                    self.asked = Some((room, reply));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes whether a transaction has ended since the last look.
    async fn look_at_snapshot(&mut self) -> Result<(), DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let text = page::snapshot_text(connection).await;
        let text = self.checked(text)?;
        let is_new = text != self.snapshot;
        if is_new {
            // The page, which is read after this, sees at least as much.
            self.snapshot = text;
            (self.has_more, self.requests.may_have) = (true, true);
        }
        Ok(())
    }

    async fn read_step(&mut self, room: usize, calls: &mut Vec<StoredCall>) -> Result<(), DatabaseError> {
        self.look_at_snapshot().await?;
        let is_turn_first = self.is_turn_first;
        for is_turn in [is_turn_first, !is_turn_first] {
            let left = room.saturating_sub(json_bytes(calls));
            if left == 0 && !calls.is_empty() {
                break;
            }
            if is_turn {
                self.read_in_turn(left, calls).await?;
            } else if self.has_more {
                self.read_forward(left, calls).await?;
            }
        }
        if !calls.is_empty() {
            self.is_turn_first = !is_turn_first;
        }
        if self.has_more || self.turns.may_have {
            self.look_again();
        }
        Ok(())
    }

    async fn read_in_turn(&mut self, left: usize, calls: &mut Vec<StoredCall>) -> Result<(), DatabaseError> {
        let Some(connection) = self.connection.as_ref().filter(|_| self.turns.may_have) else { return Ok(()) };
        // Calls after the cursor wait until those of their users before it were read.
        let read = self.turns.read(connection, self.cursor.read_to(), left, &mut self.out).await;
        calls.extend(self.checked(read)?);
        Ok(())
    }

    /// Takes calls after the cursor, and moves those that must wait.
    async fn read_forward(&mut self, left: usize, calls: &mut Vec<StoredCall>) -> Result<(), DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let read = page::read(connection, &self.cursor, left).await;
        let Some(page) = self.checked(read)? else {
            tracing::error!("the outbox's database answers with rows that are not the relay's");
            return Ok(());
        };
        if self.server.is_some_and(|server| server != page.server) {
            // The server was started anew behind a connection that stayed, or its ids begin elsewhere.
            self.begin_cursor();
            return Ok(());
        }
        self.server = Some(page.server);
        let Page { snapshot, calls: rows, is_cut, .. } = page;
        let last = rows.last().map(|row| row.id);
        let (mut moved, mut moved_users) = (Vec::<CallId>::new(), HashSet::new());
        for row in rows {
            if self.out.is_out(row.id) {
                continue;
            }
            let has_many = self.out.bytes_of(&row.user) > many_bytes(self.shared.rules.max_bytes);
            if row.call.is_none() || has_many || moved_users.contains(&row.user) {
                moved_users.insert(row.user);
                moved.push(row.id);
                continue;
            }
            let (id, user, length) = (row.id, row.user, row.length);
            if let Some(stored) = row.stored() {
                self.out.take(id, user, length, false);
                calls.push(stored);
            }
        }
        if !moved.is_empty() {
            // They are in the order of their ids, and so behind the parked calls of their users.
            let work = Work { behind: moved, ..Work::default() };
            if !self.run_work(&work).await? {
                self.give_back(calls);
                calls.clear();
                return Ok(());
            }
        }
        let read_to = self.cursor.read_to();
        self.cursor.advance(&snapshot, last, is_cut);
        self.has_more = is_cut;
        // Calls that are kept apart may have waited for the cursor.
        self.turns.may_have |= self.turns.has_rows && read_to < self.cursor.read_to();
        Ok(())
    }
}

fn json_bytes(calls: &[StoredCall]) -> usize {
    calls.iter().map(|stored| stored.call.json().len()).sum()
}
