//! Delivery: takes calls from the outbox, hands them to the publisher, and settles what comes back.
//!
//! It holds no calls. The store says which calls are next, the publisher says how many it has room for. The publisher retries,
//! pauses and splits batches. A call that fails on its own comes back from it as parked, and so do the later calls of its user.
//! The store keeps these apart, and delivery takes the first one of each user again at a pace of their own (`parked_pace`).
//!
//! One loop waits for the next event and applies it. While the process drains, the loop takes no new calls; it ends when
//! all calls in requests are settled.

mod forget;
mod parked_pace;
mod store_requests;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::outbox::{CallId, Outbox, OutboxError, StoredCall};
use crate::publisher::LiveClients;
use crate::segment::{CallOutcome, SendFence, SettledCall};
use crate::supervisor::Supervisor;
use parked_pace::ParkedPace;
use store_requests::{Settlement, StoreAnswers, StoreRequests};

/// Settlements in one transaction, at most: as many as one full request to Segment can bring.
const MAX_SETTLEMENTS: usize = 2_500;

/// How often delivery looks whether users are parked where another relay may have parked them.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Pause before the store is asked again after it failed. As often as the store checks whether a full disk has space
/// again.
const STORE_RETRY_PAUSE: Duration = Duration::from_secs(1);

pub use forget::Forget;

/// The delivery loop.
pub struct Delivery {
    outbox: Arc<dyn Outbox>,
    clients: Arc<LiveClients>,
    requests: StoreRequests,
    /// The calls that the publisher holds. Its room bounds them.
    out: HashMap<CallId, OutCall>,
    /// Outcomes come back through this channel. It never holds more than the calls that are out.
    delivered: mpsc::UnboundedSender<SettledCall>,
    parked_pace: ParkedPace,
    supervisor: Supervisor,
}

struct OutCall {
    user_id: Arc<str>,
    is_parked: bool,
}

enum DeliveryEvent {
    /// The store answered.
    Answers(StoreAnswers),
    /// The publisher gave calls back.
    Outcomes(Vec<SettledCall>),
    /// It is time to take parked calls.
    ParkedTurn,
    /// No stored call may be sent any more.
    FenceShut,
    /// Other relays may have changed what the store says.
    Look,
    Draining,
}

/// The store is closed or broken. It has logged the reason, and ends the process.
struct StoreEnded;

impl Delivery {
    /// Starts sending the calls of `outbox` through `clients`, which make this many requests a second at most.
    pub fn start(
        outbox: Arc<dyn Outbox>,
        clients: Arc<LiveClients>,
        max_requests_per_second: NonZeroU32,
        supervisor: &Supervisor,
    ) {
        let (sender, delivered) = mpsc::unbounded_channel();
        if let Some(fence) = outbox.fence() {
            clients.set_fence(fence);
        }
        let delivery = Self {
            outbox,
            clients,
            requests: StoreRequests::default(),
            out: HashMap::new(),
            delivered: sender,
            parked_pace: ParkedPace::new(max_requests_per_second, Instant::now()),
            supervisor: supervisor.clone(),
        };
        supervisor.supervise_until_drained("delivery", delivery.run(delivered));
    }

    async fn run(mut self, mut delivered: mpsc::UnboundedReceiver<SettledCall>) {
        self.ask_next(Duration::ZERO);
        loop {
            match self.next_event(&mut delivered).await {
                DeliveryEvent::Answers(answers) => {
                    let Ok(()) = self.apply(answers) else { return };
                }
                DeliveryEvent::Outcomes(calls) => self.settle(calls),
                DeliveryEvent::ParkedTurn => {
                    let (limit, early) = (self.parked_pace.take(Instant::now()), self.parked_pace.is_early());
                    self.requests.ask_parked(limit, early, self.outbox.clone());
                }
                DeliveryEvent::FenceShut => self.clients.take_back_all(),
                DeliveryEvent::Look => {}
                DeliveryEvent::Draining => break,
            }
        }
        let supervisor = self.supervisor.clone();
        tokio::select! {
            () = self.drain(delivered) => {}
            () = supervisor.cancelled() => {}
        }
    }

    async fn next_event(&mut self, delivered: &mut mpsc::UnboundedReceiver<SettledCall>) -> DeliveryEvent {
        let mut outcomes = Vec::new();
        let is_settling = self.requests.is_settling();
        let has_parked = !self.requests.is_asking_parked() && self.outbox.stats().parked_users > 0;
        let fence = self.outbox.fence();
        let parked_at = self.parked_pace.next_at().filter(|_| has_parked);
        tokio::select! {
            biased;
            () = self.supervisor.draining() => DeliveryEvent::Draining,
            () = wait_until_shut(fence.as_deref()) => DeliveryEvent::FenceShut,
            answers = self.requests.answers() => DeliveryEvent::Answers(answers),
            _ = delivered.recv_many(&mut outcomes, MAX_SETTLEMENTS), if !is_settling => {
                DeliveryEvent::Outcomes(outcomes)
            }
            () = wait_until(parked_at) => DeliveryEvent::ParkedTurn,
            () = sleep(LOOK_INTERVAL), if fence.is_some() && !has_parked => DeliveryEvent::Look,
        }
    }

    fn ask_next(&mut self, pause: Duration) {
        self.requests.ask_next(pause, self.outbox.clone(), self.clients.clone());
    }

    /// Applies answers in the order in which the store gave them.
    fn apply(&mut self, StoreAnswers { next, settlement, parked }: StoreAnswers) -> Result<(), StoreEnded> {
        if let Some(next) = next {
            let calls = calls_or_none(next)?;
            let pause = if calls.is_none() { STORE_RETRY_PAUSE } else { Duration::ZERO };
            self.hand_over(calls.unwrap_or_default());
            self.ask_next(pause);
        }
        if let Some((settlement, result)) = settlement {
            self.finish_settlement(settlement, result)?;
        }
        if let Some((asked, parked)) = parked {
            let calls = calls_or_none(parked)?.unwrap_or_default();
            self.parked_pace.taken(calls.len(), asked, Instant::now());
            self.hand_over(calls);
        }
        Ok(())
    }

    fn finish_settlement(&mut self, settlement: Settlement, result: Result<(), OutboxError>) -> Result<(), StoreEnded> {
        let calls = settlement.calls.len();
        match result {
            Ok(()) => {
                let parked_users = settlement.parked_users.len();
                tracing::debug!(calls, parked_users, "settlement synced");
                if parked_users > 0 {
                    self.clients.confirm_parked(&settlement.parked_users);
                }
                Ok(())
            }
            Err(error @ (OutboxError::Full | OutboxError::Busy)) => {
                let seconds = STORE_RETRY_PAUSE.as_secs_f64();
                tracing::debug!(calls, seconds, %error, "settlement retried");
                self.requests.settle(STORE_RETRY_PAUSE, self.outbox.clone(), settlement);
                Ok(())
            }
            Err(_) => Err(StoreEnded),
        }
    }

    /// Hands calls to the publisher.
    fn hand_over(&mut self, calls: Vec<StoredCall>) {
        for StoredCall { id, call, is_parked } in calls {
            self.out.insert(id, OutCall { user_id: call.user_id().clone(), is_parked });
            if let Err(error) = self.clients.deliver(id, call, is_parked, &self.delivered) {
                // The publisher says how much room it has, so this cannot happen. If it does, the process ends, and the next
                // start reads the call again.
                tracing::error!(code = error.code.as_str(), "the publisher's queue had no room for a stored call");
                self.supervisor.fail("delivery", "the publisher's queue was full");
                return;
            }
        }
    }

    /// Settles calls that the publisher gave back.
    fn settle(&mut self, calls: Vec<SettledCall>) {
        let mut parked_users = Vec::new();
        for SettledCall { id, outcome } in &calls {
            let Some(OutCall { user_id, is_parked }) = self.out.remove(id) else { continue };
            match outcome {
                CallOutcome::Accepted if is_parked => self.parked_pace.accepted(),
                CallOutcome::Refused(_) | CallOutcome::TakenBack if is_parked => self.parked_pace.returned(),
                CallOutcome::Parked(_) | CallOutcome::Behind if is_parked => self.parked_pace.failed(),
                _ => {}
            }
            if matches!(outcome, CallOutcome::Parked(_) | CallOutcome::Behind) {
                parked_users.push(user_id);
            }
        }
        // The calls of one user mostly come back together.
        parked_users.dedup();
        let settlement = Settlement { calls: calls.into(), parked_users };
        self.requests.settle(Duration::ZERO, self.outbox.clone(), settlement);
    }

    /// Settles the calls that are in requests. The publisher drops the stored calls that it has not sent; when the last
    /// call is gone, the channel closes.
    async fn drain(self, mut outcomes: mpsc::UnboundedReceiver<SettledCall>) {
        let Self { outbox, mut requests, delivered, .. } = self;
        drop(delivered);
        loop {
            requests.finish_settlement().await;
            let mut calls = Vec::new();
            if outcomes.recv_many(&mut calls, MAX_SETTLEMENTS).await == 0 {
                break;
            }
            requests = StoreRequests::default();
            let settlement = Settlement { calls: calls.into(), parked_users: Vec::new() };
            requests.settle(Duration::ZERO, outbox.clone(), settlement);
        }
        outbox.delivery_ended().await;
        let calls = outbox.stats().waiting;
        if calls > 0 {
            tracing::info!(
                calls,
                "calls remain in the outbox; they are delivered after the next start, or by another relay of the fleet"
            );
        }
    }
}

/// The calls that the store gave; `None` if it could not read or write now, and is asked again.
fn calls_or_none(answer: Result<Vec<StoredCall>, OutboxError>) -> Result<Option<Vec<StoredCall>>, StoreEnded> {
    match answer {
        Ok(calls) => {
            tracing::debug!(calls = calls.len(), "calls were taken from the outbox");
            Ok(Some(calls))
        }
        Err(OutboxError::Closed | OutboxError::Unconfirmed) => Err(StoreEnded),
        Err(error) => {
            // The store has logged the reason.
            tracing::debug!(%error, "no calls could be taken from the outbox");
            Ok(None)
        }
    }
}

/// Waits until the fence is shut; for ever if there is none.
async fn wait_until_shut(fence: Option<&SendFence>) {
    match fence {
        Some(fence) => fence.wait_until_shut().await,
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever if there is no time.
async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
