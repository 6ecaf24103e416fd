//! Empties the outbox: reads in order, sends through the dispatcher, settles.
//!
//! What was just stored comes straight from the store; only what there was no room for, or what an earlier start left, is
//! read back from disk. What waits goes on waiting for as long as Segment's trouble lasts: retries, pauses and the search
//! for culprits are the dispatcher's business. A call leaves the hand when its settlement is synced, not before, so that
//! none is read and sent a second time while this process lives.
//!
//! One loop: it waits for the next step, and applies it. When the process drains it takes nothing more, and ends when all
//! that is under way is settled.

mod hand;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::outbox::{Outbox, OutboxError, Stored};
use crate::publisher::LiveClients;
use crate::segment::Delivered;
use crate::supervisor::Supervisor;
use hand::{Hand, Offer, Reading};

/// How many settlements go into one transaction at most: as many as one full request to Segment can bring.
const MAX_SETTLED: usize = 2_500;

/// How long to wait before the store is asked again for what it could not do.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether the outbox holds more than what was heard of: what is stored in a great hurry may not be
/// heard.
const LOOK: Duration = Duration::from_secs(1);

/// A settlement that is being synced.
type Settling = Pin<Box<dyn Future<Output = (Arc<[Delivered]>, Result<(), OutboxError>)> + Send>>;

/// The way from the outbox to Segment.
pub struct Delivery {
    outbox: Arc<dyn Outbox>,
    clients: Arc<LiveClients>,
    hand: Hand,
    /// What becomes of what was handed over comes back here. As many as are in hand at most.
    delivered: mpsc::UnboundedSender<Delivered>,
    /// When the outbox may be read again.
    read_at: Instant,
    supervisor: Supervisor,
}

/// What happened.
enum Step {
    /// These were stored just now.
    Fresh(Vec<Stored>),
    /// It is time to read from the outbox, if there is anything.
    Read,
    /// These came back from Segment.
    Delivered(Vec<Delivered>),
    /// These settlements are synced, or not.
    Settled(Arc<[Delivered]>, Result<(), OutboxError>),
    Draining,
}

/// What delivery hears from.
struct Ears {
    fresh: mpsc::Receiver<Vec<Stored>>,
    delivered: mpsc::UnboundedReceiver<Delivered>,
    settling: Option<Settling>,
}

impl Delivery {
    /// Starts emptying `outbox` through `clients`; `fresh` brings what was just stored.
    pub fn start(
        outbox: Arc<dyn Outbox>,
        fresh: mpsc::Receiver<Vec<Stored>>,
        clients: Arc<LiveClients>,
        supervisor: &Supervisor,
    ) {
        let (sender, delivered) = mpsc::unbounded_channel();
        let (hand, read_at) = (Hand::default(), Instant::now());
        let delivery = Self { outbox, clients, hand, delivered: sender, read_at, supervisor: supervisor.clone() };
        let ears = Ears { fresh, delivered, settling: None };
        supervisor.supervise_until_drained("delivery", delivery.run(ears));
    }

    async fn run(mut self, mut ears: Ears) {
        loop {
            match self.next_step(&mut ears).await {
                Step::Fresh(calls) => self.take_fresh(&calls),
                Step::Read if self.wants_to_read() => self.read().await,
                Step::Read => {}
                Step::Delivered(delivered) => {
                    ears.settling = Some(settle(self.outbox.clone(), delivered.into(), Duration::ZERO))
                }
                Step::Settled(delivered, Ok(())) => self.hand.settled(delivered.iter().map(|call| call.id)),
                Step::Settled(delivered, Err(OutboxError::Full)) => {
                    ears.settling = Some(settle(self.outbox.clone(), delivered, STORE_PAUSE));
                }
                // The store has said why, and ends the process.
                Step::Settled(_, Err(_)) => return,
                Step::Draining => break,
            }
        }
        let supervisor = self.supervisor.clone();
        tokio::select! {
            () = self.finish(ears) => {}
            () = supervisor.cancelled() => {}
        }
    }

    async fn next_step(&self, ears: &mut Ears) -> Step {
        let mut delivered = Vec::new();
        let is_settling = ears.settling.is_some();
        let read_at = if self.wants_to_read() { self.read_at } else { Instant::now() + LOOK };
        tokio::select! {
            biased;
            () = self.supervisor.draining() => Step::Draining,
            (delivered, result) = settled(&mut ears.settling), if is_settling => Step::Settled(delivered, result),
            _ = ears.delivered.recv_many(&mut delivered, MAX_SETTLED), if !is_settling => Step::Delivered(delivered),
            Some(calls) = ears.fresh.recv() => Step::Fresh(calls),
            () = tokio::time::sleep_until(read_at) => Step::Read,
        }
    }

    fn wants_to_read(&self) -> bool {
        self.hand.wants_to_read(self.outbox.contents().last_id)
    }

    /// Takes what was just stored, unless something before it is unread: then it is read in its turn.
    fn take_fresh(&mut self, calls: &[Stored]) {
        for stored in calls {
            let offer = self.hand.offer_fresh(stored);
            if !self.hand_over(stored, offer) {
                return;
            }
        }
    }

    /// Reads a page. Nothing is settled meanwhile: a call that was settled after it was read would be sent again.
    async fn read(&mut self) {
        let Reading { cursor, from, whose, limit } = self.hand.reading(self.outbox.contents().last_id);
        match self.outbox.page(from, whose, limit).await {
            Ok(page) => {
                for stored in &page.calls {
                    let offer = self.hand.offer(cursor, stored);
                    if !self.hand_over(stored, offer) {
                        return;
                    }
                }
                self.hand.page_is_done(cursor, page.next);
            }
            Err(error) => {
                tracing::warn!(%error, "could not read the outbox");
                self.read_at = Instant::now() + STORE_PAUSE;
            }
        }
    }

    /// False if there is no room for more.
    fn hand_over(&self, stored: &Stored, offer: Offer) -> bool {
        if offer == Offer::Taken
            && let Err(error) = self.clients.deliver(stored.id, stored.call.clone(), &self.delivered)
        {
            // The hand is smaller than the dispatcher's room, so this cannot be. If it is, the next start sets it right.
            tracing::error!(code = error.code.as_str(), "a stored call found no room");
            self.supervisor.fail("delivery", "lost its place");
        }
        offer != Offer::NoRoom
    }

    /// Settles what is under way. The dispatcher drops what it has not sent, and with the last of it the channel ends.
    async fn finish(self, mut ears: Ears) {
        let Self { outbox, delivered, .. } = self;
        drop(delivered);
        loop {
            if let Some(under_way) = ears.settling.take() {
                // What could not be settled now is sent again after the next start, which is allowed.
                let _ = under_way.await;
            }
            let mut delivered = Vec::new();
            if ears.delivered.recv_many(&mut delivered, MAX_SETTLED).await == 0 {
                break;
            }
            ears.settling = Some(settle(outbox.clone(), delivered.into(), Duration::ZERO));
        }
        let calls = outbox.contents().waiting;
        if calls > 0 {
            tracing::info!(calls, "what is in the outbox waits for the next start");
        }
    }
}

/// Settles after a pause.
fn settle(outbox: Arc<dyn Outbox>, delivered: Arc<[Delivered]>, pause: Duration) -> Settling {
    Box::pin(async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let result = outbox.settle(delivered.clone()).await;
        (delivered, result)
    })
}

/// The settlement that is being synced, once it is; waits for ever if there is none.
async fn settled(settling: &mut Option<Settling>) -> (Arc<[Delivered]>, Result<(), OutboxError>) {
    let Some(under_way) = settling else { return std::future::pending().await };
    let settled = under_way.await;
    *settling = None;
    settled
}
