//! How a person is forgotten: a relay asks for it, and the one that delivers does it, because it alone can take calls back from its
//! publisher.

use std::sync::Arc;

use async_trait::async_trait;

use super::asking::{Verb, forgotten};
use super::commands::DelivererHandle;
use super::shared::Shared;
use crate::outbox::{
    CallId, DeletedRows, ForgetRequests, Forgetting, Forgotten, OutboxError, Person, PersonStore, StillOut,
};

/// Asks the relay that delivers.
pub(super) struct AskToForget(pub(super) Arc<Shared>);

#[async_trait]
impl Forgetting for AskToForget {
    /// What was asked for is done although the caller leaves: the request stays.
    async fn forget(&self, person: Person) -> Result<Forgotten, OutboxError> {
        self.0.ask(&Verb::Forget(person)).await.map(|answer| forgotten(&answer))
    }
}

#[async_trait]
impl PersonStore for DelivererHandle {
    async fn delete_person(&self, person: Arc<Person>) -> Result<DeletedRows, OutboxError> {
        self.delete(person).await
    }

    /// What vacuum, the log and backups still hold is the database's.
    async fn scrub(&self) -> Result<(), OutboxError> {
        Ok(())
    }

    async fn still_out(&self, calls: Vec<CallId>) -> Result<StillOut, OutboxError> {
        self.which_are_out(calls).await
    }
}

#[async_trait]
impl ForgetRequests for DelivererHandle {
    async fn next(&self) -> Result<(i64, Person), OutboxError> {
        self.next_forget().await
    }

    async fn answer(&self, id: i64, result: Result<Forgotten, OutboxError>) {
        // The request comes again if its answer could not be written.
        let _ = self.answer_forget(id, result).await;
    }
}
