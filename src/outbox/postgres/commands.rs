//! How others speak to the deliverer: commands on a channel.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::outbox::{CallId, DeletedRows, Forgotten, OutboxError, Person, StillOut, StoredCall};
use crate::segment::SettledCall;

/// Commands that may wait. Delivery has one of each kind at most.
pub(super) const QUEUE_CAPACITY: usize = 64;

/// The caller's channel.
pub(super) type Reply<T> = oneshot::Sender<Result<T, OutboxError>>;

pub(super) enum Command {
    Settle(Arc<[SettledCall]>, Reply<()>),
    /// Is answered when there are calls for this room.
    Next(usize, Reply<Vec<StoredCall>>),
    /// A number of parked calls, and whether they may be early.
    NextParked(usize, bool, Reply<Vec<StoredCall>>),
    /// What was handed out and is not settled is not sent any more.
    DeliveryEnded,
    DeletePerson(Arc<Person>, Reply<DeletedRows>),
    StillOut(Vec<CallId>, Reply<StillOut>),
    /// Is answered with the next request to forget a person, and its number.
    NextForget(Reply<(i64, Person)>),
    AnswerForget(i64, Result<Forgotten, OutboxError>, Reply<()>),
    /// Folds the tallies and publishes the figures now.
    #[cfg(test)]
    Publish(Reply<()>),
}

/// Speaks to the deliverer of this relay. When the store is closed, every command fails.
#[derive(Clone)]
pub(super) struct DelivererHandle {
    commands: mpsc::Sender<Command>,
}

impl DelivererHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// As [`Outbox::settle`](crate::outbox::Outbox::settle).
    pub(super) async fn settle(&self, delivered: Arc<[SettledCall]>) -> Result<(), OutboxError> {
        self.ask(|reply| Command::Settle(delivered, reply)).await
    }

    /// As [`Outbox::next`](crate::outbox::Outbox::next).
    pub(super) async fn next(&self, room: usize) -> Result<Vec<StoredCall>, OutboxError> {
        self.ask(|reply| Command::Next(room, reply)).await
    }

    /// As [`Outbox::next_parked`](crate::outbox::Outbox::next_parked).
    pub(super) async fn next_parked(&self, limit: usize, early: bool) -> Result<Vec<StoredCall>, OutboxError> {
        self.ask(|reply| Command::NextParked(limit, early, reply)).await
    }

    /// As [`Outbox::delivery_ended`](crate::outbox::Outbox::delivery_ended).
    pub(super) async fn delivery_ended(&self) {
        // A store that is closed hands out nothing.
        let _ = self.commands.send(Command::DeliveryEnded).await;
    }

    /// As [`PersonStore::delete_person`](crate::outbox::PersonStore::delete_person).
    pub(super) async fn delete(&self, person: Arc<Person>) -> Result<DeletedRows, OutboxError> {
        self.ask(|reply| Command::DeletePerson(person, reply)).await
    }

    /// As [`PersonStore::still_out`](crate::outbox::PersonStore::still_out).
    pub(super) async fn which_are_out(&self, calls: Vec<CallId>) -> Result<StillOut, OutboxError> {
        self.ask(|reply| Command::StillOut(calls, reply)).await
    }

    /// Waits for the next request to forget a person.
    pub(super) async fn next_forget(&self) -> Result<(i64, Person), OutboxError> {
        self.ask(Command::NextForget).await
    }

    /// Answers the request with this number.
    pub(super) async fn answer_forget(
        &self,
        id: i64,
        result: Result<Forgotten, OutboxError>,
    ) -> Result<(), OutboxError> {
        self.ask(|reply| Command::AnswerForget(id, result, reply)).await
    }

    /// Folds the tallies and publishes the figures now.
    #[cfg(test)]
    pub(super) async fn publish(&self) -> Result<(), OutboxError> {
        self.ask(Command::Publish).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| OutboxError::Closed)?;
        answer.await.unwrap_or(Err(OutboxError::Closed))
    }
}
