//! Forgets a person: deletes what waits, takes back what the publisher holds, and waits for what is in a request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::outbox::{DeletedRows, Forgetting, Forgotten, OutboxError, Person, PersonStore};
use crate::publisher::LiveClients;
use crate::supervisor::Supervisor;

/// Pause before the store is asked again whether calls are out: a request to Segment takes longer, mostly.
const PAUSE: Duration = Duration::from_millis(50);

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
