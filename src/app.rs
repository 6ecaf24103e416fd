//! The composition root: the only file that names concrete types and puts them together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::config::{OutboxSettings, Settings};
use crate::delivery::Delivery;
use crate::descriptors;
use crate::http::operator::{Durations, Operator, OutboxReport, SegmentReport};
use crate::http::{self, Edge};
use crate::lifecycle::{Ending, Lifecycle};
use crate::outbox::sqlite::{SqliteOutbox, SqliteSettings};
use crate::outbox::{Contents, DeadLetters, Outbox, OutboxClients};
use crate::segment::{LiveClients, SegmentClients};
use crate::status::{Status, Summary};

/// A relay that is put together and not yet running.
pub struct App {
    edge: Arc<Edge>,
    outbox: Option<Arc<SqliteOutbox>>,
    life: Lifecycle,
    /// How many connections there may be.
    places: usize,
}

impl App {
    /// Puts the relay together and starts what runs behind its routes.
    ///
    /// # Errors
    /// If HTTPS cannot be set up, the outbox cannot be opened, or too few files may be open.
    pub fn build(settings: &Settings, life: &Lifecycle) -> anyhow::Result<Self> {
        let places = descriptors::for_connections(http::MAX_CONNECTIONS, settings.segment.max_concurrency.get())?;
        let status = Arc::new(Status::new()?);
        let live = Arc::new(LiveClients::start(settings.segment.clone(), status.clone(), life)?);
        let outbox = settings.outbox.as_ref().map(|outbox| open(outbox, &status, &live, life)).transpose()?;
        let clients: Arc<dyn SegmentClients> = match &outbox {
            Some(outbox) => Arc::new(OutboxClients::new(outbox.clone(), live.message_ids(), life)),
            None => live.clone(),
        };
        let (segment, stored, gauges) = (live.clone(), outbox.clone(), status.clone());
        let mut edge =
            Edge::new(clients, status.clone(), life.clone(), settings.request_timeout, settings.max_in_flight)
                .guarded_by(settings.auth.clone())
                .measured_by(move || {
                    segment.measure(&gauges);
                    let oldest = stored.as_ref().and_then(|outbox| age(&outbox.contents()));
                    gauges.outbox_oldest_seconds.set(oldest.map_or(0, |age| age.as_secs().cast_signed()));
                });
        if let Some(outbox) = outbox.clone() {
            edge = edge.ready_without(move || outbox.contents().trouble);
        }
        if let Some(token) = &settings.admin_token {
            edge = edge.operated_by(operator(token.reveal(), settings, &live, outbox.as_ref(), &status));
        }
        Ok(Self { edge: Arc::new(edge), outbox, life: life.clone(), places })
    }

    /// Serves on `listener` until told to stop.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn run(self, listener: TcpListener, settings: &Settings) -> anyhow::Result<Ending> {
        let address = listener.local_addr().context("no local address")?;
        self.life.supervise("http", http::serve(listener, self.edge, self.places));
        let auth = settings.auth.name();
        tracing::info!(%address, endpoint = %settings.segment.endpoint, auth, "segment-relay serves");
        if settings.auth.is_none() {
            tracing::warn!("RELAY_AUTH is none: whoever can reach this port can send customers");
        }
        let ending = self.life.run(settings.shutdown_delay, settings.shutdown_grace).await?;
        if let Some(outbox) = self.outbox {
            outbox.close().await;
        }
        Ok(if self.life.has_failed() { Ending::Failed } else { ending })
    }
}

/// Opens the outbox and starts to empty it.
fn open(
    settings: &OutboxSettings,
    status: &Arc<Status>,
    live: &Arc<LiveClients>,
    life: &Lifecycle,
) -> anyhow::Result<Arc<SqliteOutbox>> {
    let OutboxSettings { path, max_bytes, window } = settings.clone();
    let (outbox, fresh) = SqliteOutbox::open(&SqliteSettings { path, max_bytes, window }, status.clone(), life)?;
    tracing::info!(path = %settings.path.display(), calls = outbox.contents().waiting, "the outbox is open");
    Delivery::start(outbox.clone(), fresh, live.clone(), life);
    Ok(outbox)
}

/// What operators may see and do.
fn operator(
    token: &str,
    settings: &Settings,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<SqliteOutbox>>,
    status: &Arc<Status>,
) -> Operator {
    let (live, status, endpoint) = (live.clone(), status.clone(), settings.segment.endpoint.to_string());
    let (stored, dead_letters) = (outbox.cloned(), outbox.cloned().map(|outbox| outbox as Arc<dyn DeadLetters>));
    let segment = move || {
        let shut = live.shut();
        SegmentReport {
            endpoint: endpoint.clone(),
            failed_in_a_row: live.failed_in_a_row(),
            gate_code: shut.map(|(_, code)| code.as_str()),
            gate_opens_in: shut.map(|(until, _)| until.saturating_duration_since(Instant::now())),
        }
    };
    let outbox = move || stored.as_ref().map(|outbox| report(outbox.contents(), &status));
    Operator::new(token, dead_letters).reporting(segment, outbox)
}

fn report(contents: Contents, status: &Status) -> OutboxReport {
    OutboxReport {
        oldest_seconds: age(&contents).map(|age| age.as_secs()),
        waiting: contents.waiting,
        stored_total: status.outbox_stored.get(),
        delivered_total: status.outbox_delivered.get(),
        refused_total: status.outbox_refused.get(),
        dead_letters: contents.dead_letters,
        keys: contents.keys,
        bytes: contents.bytes,
        max_bytes: contents.max_bytes,
        trouble: contents.trouble,
        commit_ms: Durations::of_seconds(&Summary::of(&status.outbox_commit_seconds)),
        sync_ms: Durations::of_seconds(&Summary::of(&status.outbox_sync_seconds)),
    }
}

/// How long the oldest call has waited; nothing if the clock was set back since.
fn age(contents: &Contents) -> Option<Duration> {
    let stored_at = u64::try_from(contents.oldest_stored_at?).ok().map(Duration::from_millis)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(stored_at))
}
