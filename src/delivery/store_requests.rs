//! The requests to the store that have no answer yet, at most one of each kind.
//!
//! The store does one thing after another, and answers in this order. What `next` took before a user was parked must reach the
//! publisher before it hears that the user is parked, and a parked call must come after that. So answers that are there
//! together are applied in the order of the fields of [`StoreAnswers`].

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::outbox::{Outbox, OutboxError, StoredCall};
use crate::publisher::LiveClients;
use crate::segment::SettledCall;

/// A request without an answer, if there is one.
type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Calls that are settled in one transaction.
pub(super) struct Settlement {
    pub(super) calls: Arc<[SettledCall]>,
    /// The users among them whose calls are parked.
    pub(super) parked_users: Vec<Arc<str>>,
}

/// What the store answered: at least one of these.
pub(super) struct StoreAnswers {
    pub(super) next: Option<Result<Vec<StoredCall>, OutboxError>>,
    pub(super) settlement: Option<(Settlement, Result<(), OutboxError>)>,
    /// With the number of calls that were asked for.
    pub(super) parked: Option<(usize, Result<Vec<StoredCall>, OutboxError>)>,
}

#[derive(Default)]
pub(super) struct StoreRequests {
    next: Pending<Result<Vec<StoredCall>, OutboxError>>,
    settlement: Pending<(Settlement, Result<(), OutboxError>)>,
    parked: Pending<(usize, Result<Vec<StoredCall>, OutboxError>)>,
}

impl StoreRequests {
    /// Asks for calls after a pause, when the publisher has room for them.
    pub(super) fn ask_next(&mut self, pause: Duration, outbox: Arc<dyn Outbox>, clients: Arc<LiveClients>) {
        self.next = Some(Box::pin(async move {
            wait(pause).await;
            let room = clients.wait_for_room().await;
            outbox.next(room).await
        }));
    }

    /// Settles calls after a pause.
    pub(super) fn settle(&mut self, pause: Duration, outbox: Arc<dyn Outbox>, settlement: Settlement) {
        self.settlement = Some(Box::pin(async move {
            wait(pause).await;
            let result = outbox.settle(settlement.calls.clone()).await;
            (settlement, result)
        }));
    }

    pub(super) fn ask_parked(&mut self, limit: usize, early: bool, outbox: Arc<dyn Outbox>) {
        self.parked = Some(Box::pin(async move { (limit, outbox.next_parked(limit, early).await) }));
    }

    pub(super) fn is_settling(&self) -> bool {
        self.settlement.is_some()
    }

    pub(super) fn is_asking_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Waits for the next answer, and returns all that are there.
    pub(super) async fn answers(&mut self) -> StoreAnswers {
        // Without the runtime's budget, at whose end an answer that is there would look as if it were not.
        tokio::task::unconstrained(poll_fn(|context| self.poll_answers(context))).await
    }

    /// Polls what is applied last first: an answer that the store sent before one that is found here is found, too.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<StoreAnswers> {
        let parked = poll(&mut self.parked, context);
        let settlement = poll(&mut self.settlement, context);
        let next = poll(&mut self.next, context);
        if next.is_none() && settlement.is_none() && parked.is_none() {
            return Poll::Pending;
        }
        Poll::Ready(StoreAnswers { next, settlement, parked })
    }

    /// The settlement that is not synced yet. The other requests are dropped.
    pub(super) async fn finish_settlement(self) {
        if let Some(settlement) = self.settlement {
            // A call whose settlement fails here is sent again after the next start, which is allowed.
            let _ = settlement.await;
        }
    }
}

/// The answer, if it is there: then there is no request any more.
fn poll<T>(pending: &mut Pending<T>, context: &mut Context<'_>) -> Option<T> {
    match pending.as_mut()?.as_mut().poll(context) {
        Poll::Ready(answer) => {
            *pending = None;
            Some(answer)
        }
        Poll::Pending => None,
    }
}

async fn wait(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Settlement, StoreRequests};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn an_answer_that_was_sent_before_another_one_comes_with_it() {
        // Each answer is sent while the answers are polled, as by a thread that is between two of them.
        let (next, next_answer) = oneshot::channel();
        let (settled, settled_answer) = oneshot::channel();
        let requests = &mut StoreRequests {
            next: Some(Box::pin(async { next_answer.await.unwrap() })),
            settlement: Some(Box::pin(async {
                settled_answer.await.unwrap();
                (Settlement { calls: Vec::new().into(), parked_users: Vec::new() }, Ok(()))
            })),
            parked: Some(Box::pin(async {
                next.send(Ok(Vec::new())).unwrap();
                settled.send(()).unwrap();
                (1, Ok(Vec::new()))
            })),
        };
        let answers = requests.answers().await;
        assert!(answers.next.is_some() && answers.settlement.is_some() && answers.parked.is_some());
        assert!(!requests.is_settling() && !requests.is_asking_parked());
    }

    #[tokio::test]
    async fn an_answer_is_found_when_the_budget_of_the_task_is_used_up() {
        let (next, next_answer) = oneshot::channel();
        next.send(Ok(Vec::new())).unwrap();
        let requests = &mut StoreRequests {
            next: Some(Box::pin(async { next_answer.await.unwrap() })),
            parked: Some(Box::pin(async { (1, Ok(Vec::new())) })),
            ..StoreRequests::default()
        };
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::consume_budget().await;
        }
        let answers = requests.answers().await;
        assert!(answers.next.is_some() && answers.parked.is_some());
    }
}
