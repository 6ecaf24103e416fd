//! Callers who wait for an outcome, and the task that looks for outcomes and reads the figures.
//!
//! The relay that delivers settles calls itself, and notifies the callers at once. Any other relay, and one that began to deliver
//! just now, looks for the keys of the calls that are watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connect::Connection;
use super::figures;
use super::fleet;
use super::keys::{Digest, look_up};
use super::shared::{Reopening, Shared};
use crate::outbox::{CallId, DeliveryOutcome};

/// How often outcomes are looked for: a caller waits for half of it beyond the delivery.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often the figures are read, and how often the relay that delivers looks for outcomes.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// How many keys are looked for by one statement.
const MAX_KEYS: usize = 1000;

/// Receives the outcome of a call: at once, if it is known.
pub(super) fn watch(
    shared: &Shared,
    id: CallId,
    key: Digest,
    outcome: Option<DeliveryOutcome>,
) -> oneshot::Receiver<DeliveryOutcome> {
    let (sender, receiver) = oneshot::channel();
    match outcome {
        // This cannot fail: the receiver still exists.
        Some(outcome) => drop(sender.send(outcome)),
        None => {
            shared.watchers.lock().add(id, sender);
            let mut watched = shared.watched.lock();
            watched.by_call.insert(id, key);
            watched.is_new = true;
        }
    }
    receiver
}

/// Reads the figures once a second, and looks for outcomes, until the store is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let (mut reopening, mut connection, mut read_at) = (Reopening::new("figures"), None, None::<Instant>);
    let closing = shared.closing.clone();
    let work = async {
        loop {
            let open = match connection.take().filter(|connection: &Connection| !connection.is_lost()) {
                Some(open) => open,
                None => reopening.open(&shared.connector).await,
            };
            let is_due = read_at.is_none_or(|at| at.elapsed() >= READ_INTERVAL);
            if is_due {
                read_at = Some(Instant::now());
                shared.operators.drop_idle();
                if let Err(error) = shared.read_figures(&open).await {
                    tracing::debug!(%error, "the figures of the outbox could not be read");
                }
            }
            if let Err(error) = look(&shared, &open, is_due).await {
                tracing::debug!(%error, "the outcomes of calls could not be read");
            }
            connection = Some(open);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        () = closing.cancelled() => {}
        () = work => {}
    }
}

/// Looks for the outcomes of the calls that are watched.
async fn look(shared: &Shared, connection: &Connection, is_due: bool) -> anyhow::Result<()> {
    let watched: Vec<(CallId, Digest)> = {
        let is_delivering = shared.figures.lock().is_delivering;
        let mut watched = shared.watched.lock();
        if !std::mem::take(&mut watched.is_new) && is_delivering && !is_due {
            return Ok(());
        }
        let mut watchers = shared.watchers.lock();
        watchers.remove_closed();
        watched.by_call.retain(|id, _| watchers.has(*id));
        watched.by_call.iter().map(|(id, key)| (*id, *key)).collect()
    };
    for watched in watched.chunks(MAX_KEYS) {
        let keys: Vec<Digest> = watched.iter().map(|(_, key)| *key).collect();
        let mut known = look_up(connection, &keys).await?;
        for (id, key) in watched {
            match known.remove(key) {
                Some(known) => {
                    let mut watchers = shared.watchers.lock();
                    known.outcome.into_iter().for_each(|outcome| watchers.notify(*id, &outcome));
                }
                // Nobody knows: an operator or the person wanted it to be forgotten.
                None => shared.watchers.lock().remove(*id),
            }
        }
    }
    Ok(())
}

impl Shared {
    fn tell_of_move(&self) {
        if self.fleet.lock().move_unfinished {
            tracing::warn!("a move into this database has not ended: no relay delivers until `segment-relay move` has");
        } else {
            tracing::info!("the move into this database has ended");
        }
    }

    /// Reads the figures of the whole outbox.
    pub(super) async fn read_figures(&self, connection: &Connection) -> anyhow::Result<()> {
        let _one = self.reading.lock().await;
        self.figures.lock().begin_reading();
        let reading = figures::read(connection, self.relay).await?;
        let fleet = fleet::read(connection, self.relay).await?;
        let is_news = fleet.move_unfinished != std::mem::replace(&mut *self.fleet.lock(), fleet).move_unfinished;
        if is_news {
            self.tell_of_move();
        }
        let mut figures = self.figures.lock();
        figures.end_reading(reading);
        figures.publish(&self.metrics);
        Ok(())
    }
}
