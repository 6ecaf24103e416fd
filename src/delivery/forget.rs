//! Forgets a person: deletes what waits, takes back what the publisher holds, and waits for what is in a request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::outbox::{DeletedRows, ForgetRequests, Forgetting, Forgotten, OutboxError, Person, PersonStore};
use crate::publisher::LiveClients;
use crate::supervisor::Supervisor;

/// Pause before the store is asked again whether calls are out: a request to Segment takes longer, mostly.
const PAUSE: Duration = Duration::from_millis(50);

/// Pause before a request that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Forgets persons of a store whose calls these clients send.
pub struct Forget {
    store: Arc<dyn PersonStore>,
    clients: Arc<LiveClients>,
    supervisor: Supervisor,
}

impl Forget {
    pub fn new(store: Arc<dyn PersonStore>, clients: Arc<LiveClients>, supervisor: Supervisor) -> Self {
        Self { store, clients, supervisor }
    }

    /// Serves the requests of all relays that share the outbox, one after the other, while this one delivers.
    pub fn serve(self, requests: Arc<dyn ForgetRequests>) {
        let supervisor = self.supervisor.clone();
        supervisor.supervise("forget requests", async move {
            loop {
                match requests.next().await {
                    Ok((id, person)) => {
                        let result = forget(&*self.store, &self.clients, Arc::new(person)).await;
                        if let Err(error) = &result {
                            tracing::warn!(%error, "a person could not be forgotten yet; the request is tried again");
                            tokio::time::sleep(RETRY_PAUSE).await;
                        }
                        requests.answer(id, result).await;
                    }
                    Err(OutboxError::Closed) => return self.supervisor.draining().await,
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
            }
        });
    }
}

#[async_trait]
impl Forgetting for Forget {
    async fn forget(&self, person: Person) -> Result<Forgotten, OutboxError> {
        let (store, clients) = (self.store.clone(), self.clients.clone());
        let (sender, done) = oneshot::channel();
        // The caller may leave: the work goes on.
        self.supervisor.spawn("forget", async move {
            let _ = sender.send(forget(&*store, &clients, Arc::new(person)).await);
        });
        done.await.unwrap_or(Err(OutboxError::Unconfirmed))
    }
}

async fn forget(store: &dyn PersonStore, clients: &LiveClients, person: Arc<Person>) -> Result<Forgotten, OutboxError> {
    let DeletedRows { mut forgotten, mut out } = store.delete_person(person.clone()).await?;
    // A call that delivery has not handed over yet, or that failed, is found in a later turn.
    while !out.is_empty() {
        let ids: HashSet<i64> = out.iter().copied().collect();
        clients.take_back(&person.user_id, &ids);
        tokio::time::sleep(PAUSE).await;
        let still = store.still_out(out).await?;
        forgotten.waiting += still.deleted;
        out = still.out;
    }
    store.scrub().await?;
    Ok(forgotten)
}
