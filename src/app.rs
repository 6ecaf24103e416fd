//! The composition root: the only file that names concrete types and puts them together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::api::{self, AdminState, AppState, DurationSummary, MAX_BODIES_IN_PROGRESS, OutboxReport, SegmentReport};
use crate::auth::Auth;
use crate::config::{OutboxSettings, Settings};
use crate::delivery::Delivery;
use crate::metrics::{Metrics, Summary};
use crate::outbox::sqlite::SqliteOutbox;
use crate::outbox::{DeadLetters, Outbox, OutboxClients, OutboxStats};
use crate::publisher::LiveClients;
use crate::segment::SegmentClients;
use crate::server::{self, Limits, fd_limit};
use crate::supervisor::{ShutdownOutcome, Signals, Supervisor};

/// A relay that is assembled and does not serve yet.
pub struct App {
    state: Arc<AppState>,
    outbox: Option<Arc<SqliteOutbox>>,
    supervisor: Supervisor,
    limits: Limits,
}

impl App {
    /// Assembles the relay and starts what runs behind its routes.
    ///
    /// # Errors
    /// If HTTPS cannot be set up, the outbox cannot be opened, or the limit of open files is too low.
    pub fn build(settings: &Settings, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let connections = fd_limit::max_connections(server::MAX_CONNECTIONS, settings.segment.max_concurrency.get())?;
        // A stream waits for its body, or is in flight.
        let streams = MAX_BODIES_IN_PROGRESS.saturating_add(settings.max_in_flight);
        let metrics = Arc::new(Metrics::new()?);
        let live = Arc::new(LiveClients::start(settings.segment.clone(), metrics.clone(), supervisor)?);
        let open = |outbox| open_outbox(outbox, &metrics, &live, supervisor);
        let outbox = settings.outbox.as_ref().map(open).transpose()?;
        let clients: Arc<dyn SegmentClients> = match &outbox {
            Some(outbox) => Arc::new(OutboxClients::new(outbox.clone(), live.message_ids(), supervisor)),
            None => live.clone(),
        };
        let mut state = AppState::new(
            clients,
            metrics.clone(),
            supervisor.clone(),
            settings.request_timeout,
            settings.max_in_flight,
        )
        .with_auth(Auth::new(&settings.auth))
        .with_metrics_hook(gauges(&metrics, &live, outbox.as_ref()));
        if let Some(outbox) = outbox.clone() {
            state = state.with_readiness(move || outbox.stats().trouble);
        }
        if let Some(token) = &settings.admin_token {
            state = state.with_admin(admin(token.reveal(), settings, &live, outbox.as_ref(), &metrics));
        }
        let limits = Limits { connections, streams, keep_alive: settings.keep_alive };
        Ok(Self { state: Arc::new(state), outbox, supervisor: supervisor.clone(), limits })
    }

    /// Serves on `listener` until a signal, or the death of a task, stops it.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn run(
        self,
        listener: TcpListener,
        signals: Signals,
        settings: &Settings,
    ) -> anyhow::Result<ShutdownOutcome> {
        let address = listener.local_addr().context("no local address")?;
        let service = api::service(self.state);
        self.supervisor.supervise("server", server::serve(listener, service, self.limits, self.supervisor.clone()));
        let auth = settings.auth.name();
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
        let proxy = settings.segment.proxy.as_ref().map(tracing::field::display);
        tracing::info!(%address, endpoint = %settings.segment.endpoint, proxy, auth, "segment-relay serves");
        let outcome = self.supervisor.run(signals, settings.shutdown_delay, settings.shutdown_grace).await;
        if let Some(outbox) = self.outbox {
            outbox.close().await;
        }
        Ok(if self.supervisor.has_failed() { ShutdownOutcome::Failed } else { outcome })
    }
}

/// Opens the outbox and starts its delivery.
fn open_outbox(
    settings: &OutboxSettings,
    metrics: &Arc<Metrics>,
    live: &Arc<LiveClients>,
    supervisor: &Supervisor,
) -> anyhow::Result<Arc<SqliteOutbox>> {
    let (outbox, fresh) = SqliteOutbox::open(settings, metrics.clone(), supervisor)?;
    tracing::info!(path = %settings.path.display(), calls = outbox.stats().waiting, "the outbox is open");
    Delivery::start(outbox.clone(), fresh, live.clone(), supervisor);
    Ok(outbox)
}

/// Updates the gauges that are not counted along the way.
fn gauges(
    metrics: &Arc<Metrics>,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<SqliteOutbox>>,
) -> impl Fn() + Send + Sync + 'static {
    let (metrics, live, outbox) = (metrics.clone(), live.clone(), outbox.cloned());
    move || {
        live.update_gauges(&metrics);
        let oldest = outbox.as_ref().and_then(|outbox| age_of_oldest(&outbox.stats()));
        metrics.outbox_oldest_seconds.set(oldest.map_or(0, |age| age.as_secs().cast_signed()));
    }
}

/// What operators may see and do.
fn admin(
    token: &str,
    settings: &Settings,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<SqliteOutbox>>,
    metrics: &Arc<Metrics>,
) -> AdminState {
    let (live, metrics, endpoint) = (live.clone(), metrics.clone(), settings.segment.endpoint.to_string());
    let (stored, dead_letters) = (outbox.cloned(), outbox.cloned().map(|outbox| outbox as Arc<dyn DeadLetters>));
    let segment = move || {
        let shut = live.gate_shut_until();
        let shut = shut.map(|(until, code)| (until.saturating_duration_since(Instant::now()), code.as_str()));
        SegmentReport::new(endpoint.clone(), live.failed_in_a_row(), shut)
    };
    let outbox = move || stored.as_ref().map(|outbox| outbox_report(outbox.stats(), &metrics));
    AdminState::new(token, dead_letters).with_reports(segment, outbox)
}

fn outbox_report(stats: OutboxStats, metrics: &Metrics) -> OutboxReport {
    OutboxReport {
        oldest_seconds: age_of_oldest(&stats).map(|age| age.as_secs()),
        waiting: stats.waiting,
        stored_total: metrics.outbox_stored.get(),
        delivered_total: metrics.outbox_accepted.get(),
        refused_total: metrics.outbox_refused.get(),
        dead_letters: stats.dead_letters,
        keys: stats.keys,
        bytes: stats.bytes,
        max_bytes: stats.max_bytes,
        trouble: stats.trouble,
        commit_ms: DurationSummary::from_seconds(&Summary::from_histogram(&metrics.outbox_commit_seconds)),
        sync_ms: DurationSummary::from_seconds(&Summary::from_histogram(&metrics.outbox_sync_seconds)),
    }
}

/// How long the oldest call has waited. Zero if the clock was set back since.
fn age_of_oldest(stats: &OutboxStats) -> Option<Duration> {
    let stored_at = u64::try_from(stats.oldest_stored_at?).ok().map(Duration::from_millis)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(stored_at))
}
