//! Delivery: sends the calls of the outbox to Segment, and settles them in the outbox.
//!
//! A call that was just stored arrives through a channel. Calls that did not fit into the prefetch window, and calls
//! that an earlier start left behind, are read back from disk. The publisher retries, pauses and splits batches. A
//! prefetched call waits there for as long as Segment fails. A call leaves the prefetch window only when its settlement
//! is synced, so that no call is read and sent a second time while this process lives.
//!
//! One loop waits for the next event and applies it. While the process drains, the loop takes no new calls; it ends when
//! all calls in requests are settled.

mod prefetch_window;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::outbox::{Outbox, OutboxError, StoredCall};
use crate::publisher::LiveClients;
use crate::segment::{CallOutcome, SettledCall};
use crate::supervisor::Supervisor;
use prefetch_window::{MAX_WINDOW_BYTES, PageRequest, PrefetchOutcome, PrefetchWindow};

/// Settlements in one transaction, at most: as many as one full request to Segment can bring.
const MAX_SETTLEMENTS: usize = 2_500;

/// Pause before the store is asked again after it failed. As often as the store checks whether a full disk has space
/// again.
const STORE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Interval at which the outbox is checked for calls that were not announced: under high load an announcement may be
/// lost.
const OUTBOX_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A settlement that is being synced.
type PendingSettlement = Pin<Box<dyn Future<Output = (Arc<[SettledCall]>, Result<(), OutboxError>)> + Send>>;

/// The delivery loop.
pub struct Delivery {
    outbox: Arc<dyn Outbox>,
    clients: Arc<LiveClients>,
    window: PrefetchWindow,
    /// Outcomes of prefetched calls come back through this channel. It never holds more than the prefetched calls.
    delivered: mpsc::UnboundedSender<SettledCall>,
    /// Earliest time of the next read from the outbox.
    read_at: Instant,
    supervisor: Supervisor,
}

enum DeliveryEvent {
    /// Calls were stored just now.
    Fresh(Vec<StoredCall>),
    /// It is time to read a page, if there is anything to read.
    Read,
    /// Calls were accepted or refused by Segment.
    Outcomes(Vec<SettledCall>),
    /// A settlement is synced, or failed.
    SettlementDone(Arc<[SettledCall]>, Result<(), OutboxError>),
    Draining,
}

struct DeliveryInputs {
    fresh: mpsc::Receiver<Vec<StoredCall>>,
    delivered: mpsc::UnboundedReceiver<SettledCall>,
    settlement: Option<PendingSettlement>,
}

impl Delivery {
    /// Starts sending the calls of `outbox` through `clients`. `fresh` announces the calls that were just stored.
    pub fn start(
        outbox: Arc<dyn Outbox>,
        fresh: mpsc::Receiver<Vec<StoredCall>>,
        clients: Arc<LiveClients>,
        supervisor: &Supervisor,
    ) {
        let (sender, delivered) = mpsc::unbounded_channel();
        let (window, read_at) = (PrefetchWindow::new(MAX_WINDOW_BYTES), Instant::now());
        let delivery = Self { outbox, clients, window, delivered: sender, read_at, supervisor: supervisor.clone() };
        let inputs = DeliveryInputs { fresh, delivered, settlement: None };
        supervisor.supervise_until_drained("delivery", delivery.run(inputs));
    }

    async fn run(mut self, mut inputs: DeliveryInputs) {
        loop {
            match self.next_event(&mut inputs).await {
                DeliveryEvent::Fresh(calls) => self.prefetch_fresh(&calls),
                DeliveryEvent::Read if self.wants_to_read() => self.read_page().await,
                DeliveryEvent::Read => {}
                DeliveryEvent::Outcomes(delivered) => {
                    inputs.settlement = Some(settle_after(Duration::ZERO, self.outbox.clone(), delivered.into()));
                }
                DeliveryEvent::SettlementDone(delivered, Ok(())) => {
                    self.window.remove_settled(delivered.iter().map(|call| call.id));
                    let refused =
                        || delivered.iter().filter(|call| matches!(call.outcome, CallOutcome::Refused(_))).count();
                    tracing::debug!(calls = delivered.len(), refused = refused(), "settlement synced");
                }
                DeliveryEvent::SettlementDone(delivered, Err(OutboxError::Full)) => {
                    let seconds = STORE_RETRY_PAUSE.as_secs_f64();
                    tracing::debug!(calls = delivered.len(), seconds, "settlement retried: the outbox is full");
                    inputs.settlement = Some(settle_after(STORE_RETRY_PAUSE, self.outbox.clone(), delivered));
                }
                // The store has logged the reason, and ends the process.
                DeliveryEvent::SettlementDone(_, Err(_)) => return,
                DeliveryEvent::Draining => break,
            }
        }
        let supervisor = self.supervisor.clone();
        tokio::select! {
            () = self.drain(inputs) => {}
            () = supervisor.cancelled() => {}
        }
    }

    async fn next_event(&self, inputs: &mut DeliveryInputs) -> DeliveryEvent {
        let mut delivered = Vec::new();
        let is_settling = inputs.settlement.is_some();
        let read_at = if self.wants_to_read() { self.read_at } else { Instant::now() + OUTBOX_CHECK_INTERVAL };
        tokio::select! {
            biased;
            () = self.supervisor.draining() => DeliveryEvent::Draining,
            (delivered, result) = finish_settlement(&mut inputs.settlement), if is_settling => {
                DeliveryEvent::SettlementDone(delivered, result)
            }
            _ = inputs.delivered.recv_many(&mut delivered, MAX_SETTLEMENTS), if !is_settling => {
                DeliveryEvent::Outcomes(delivered)
            }
            Some(calls) = inputs.fresh.recv() => DeliveryEvent::Fresh(calls),
            () = tokio::time::sleep_until(read_at) => DeliveryEvent::Read,
        }
    }

    fn wants_to_read(&self) -> bool {
        self.window.wants_to_read(self.outbox.stats().last_id)
    }

    /// Prefetches calls that were stored just now. A call with unread calls before it is left for a later read.
    fn prefetch_fresh(&mut self, calls: &[StoredCall]) {
        for stored in calls {
            let outcome = self.window.offer_fresh(stored);
            if !self.hand_over(stored, outcome) {
                return;
            }
        }
    }

    /// Reads a page. No settlement is applied meanwhile: a call settled after the read would be sent again.
    async fn read_page(&mut self) {
        let PageRequest { cursor, from, users, limit } = self.window.next_page(self.outbox.stats().last_id);
        match self.outbox.page(from, users, limit).await {
            Ok(page) => {
                let has_room = page.calls.iter().all(|stored| {
                    let outcome = self.window.offer(cursor, stored);
                    self.hand_over(stored, outcome)
                });
                tracing::debug!(?cursor, read = page.calls.len(), prefetched = self.window.len(), "outbox page read");
                if has_room {
                    self.window.finish_page(cursor, page.next);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not read the outbox");
                self.read_at = Instant::now() + STORE_RETRY_PAUSE;
            }
        }
    }

    /// Hands a prefetched call to the publisher. False if the window has no room for more calls.
    fn hand_over(&self, stored: &StoredCall, outcome: PrefetchOutcome) -> bool {
        if outcome == PrefetchOutcome::Prefetched
            && let Err(error) = self.clients.deliver(stored.id, stored.call.clone(), stored.is_parked, &self.delivered)
        {
            // The window is smaller than the publisher's queue, so this cannot happen. If it does, the process ends, and the
            // next start reads the call again.
            tracing::error!(code = error.code.as_str(), "the publisher's queue had no room for a stored call");
            self.supervisor.fail("delivery", "the publisher's queue was full");
        }
        outcome != PrefetchOutcome::NoRoom
    }

    /// Settles the calls that are in requests. The publisher drops the stored calls that it has not sent; when the last
    /// call is gone, the channel closes.
    async fn drain(self, mut inputs: DeliveryInputs) {
        let Self { outbox, delivered, .. } = self;
        drop(delivered);
        loop {
            if let Some(settlement) = inputs.settlement.take() {
                // A call whose settlement fails here is sent again after the next start, which is allowed.
                let _ = settlement.await;
            }
            let mut delivered = Vec::new();
            if inputs.delivered.recv_many(&mut delivered, MAX_SETTLEMENTS).await == 0 {
                break;
            }
            inputs.settlement = Some(settle_after(Duration::ZERO, outbox.clone(), delivered.into()));
        }
        let calls = outbox.stats().waiting;
        if calls > 0 {
            tracing::info!(calls, "calls remain in the outbox until the next start");
        }
    }
}

/// Settles calls in the outbox after a pause.
fn settle_after(pause: Duration, outbox: Arc<dyn Outbox>, delivered: Arc<[SettledCall]>) -> PendingSettlement {
    Box::pin(async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let result = outbox.settle(delivered.clone()).await;
        (delivered, result)
    })
}

/// Waits for the pending settlement; for ever if there is none.
async fn finish_settlement(pending: &mut Option<PendingSettlement>) -> (Arc<[SettledCall]>, Result<(), OutboxError>) {
    let Some(settlement) = pending else { return std::future::pending().await };
    let settled = settlement.await;
    *pending = None;
    settled
}
