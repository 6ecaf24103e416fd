//! The composition root: the only file that names concrete types and puts them together.

mod notify;
mod sources;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use crate::api::{
    self, AdminState, AppState, DurationSummary, OutboxReport, ParkedReport, Routes, SegmentReport, ShutGate,
    TroubleReport,
};
use crate::auth::Auth;
use crate::config::{OutboxPlace, OutboxSettings, Problems, Settings};
use crate::delivery::{Delivery, Forget};
use crate::metrics::{Metrics, Summary};
use crate::notify::Notifier;
use crate::outbox::postgres::PostgresOutbox;
use crate::outbox::sqlite::SqliteOutbox;
use crate::outbox::{Calls, DeadLetters, FleetReport, Forgetting, OutboxClients, OutboxStats, ParkedUsers, Store};
use crate::publisher::LiveClients;
use crate::segment::SegmentClients;
use crate::server::{self, LimitTooLow, Limits, fd_limit};
use crate::sources::mapping::{MAPPING_FDS, Mapper};
use crate::sources::settings::SourceTable;
use crate::supervisor::{ShutdownOutcome, Signals, Supervisor};
use crate::telemetry::{EVERY_LINE, LogLines};
use sources::{SourceParts, check_filters};

/// What the operators' own address serves at once: a few operators, their scripts, probes and scrapers of metrics. None of it
/// is taken from senders' share, nor the reverse. Idle connections stay longer than scrapers wait, which is up to a minute.
const OPERATORS: Limits = Limits { connections: 64, streams: 64, keep_alive: Duration::from_secs(75), threads: 1 };

/// Reads again what SIGHUP reads: the names of secrets that come from files, the settings with them, and the sources.
pub type ReadAgain = Arc<dyn Fn() -> Result<(Vec<&'static str>, Settings, SourceTable), Problems> + Send + Sync>;

/// A relay that is assembled and does not serve yet.
pub struct App {
    state: AppState,
    sources: SourceParts,
    outbox: Option<Arc<dyn Store>>,
    notifier: Option<Notifier>,
    supervisor: Supervisor,
    limits: Limits,
}

impl App {
    /// Assembles the relay and starts what runs behind its routes.
    ///
    /// # Errors
    /// If a filter cannot be compiled ([`Problems`]), HTTPS cannot be set up, the outbox cannot be opened, or the limit of open
    /// files is too low.
    pub async fn build(
        settings: &Settings,
        table: &SourceTable,
        supervisor: &Supervisor,
        log: Arc<LogLines>,
    ) -> anyhow::Result<Self> {
        let connections = max_connections(settings)?;
        // A stream waits for its body, or is in flight.
        let streams = server::MAX_WAITING_STREAMS.saturating_add(settings.max_in_flight);
        let metrics = Arc::new(Metrics::new()?);
        let told = log.clone();
        supervisor.supervise("log", async move { told.tell_left_out().await });
        let mapper = Mapper::start(supervisor, metrics.clone())?;
        check_filters(&mapper, table).await?;
        let write_keys = table.write_keys(&settings.segment.write_key);
        let live = Arc::new(LiveClients::start(settings.segment.clone(), &write_keys, metrics.clone(), supervisor)?);
        let outbox = match &settings.outbox {
            Some(outbox) => Some(open_outbox(outbox, settings.segment.timeout, &live, &metrics, supervisor).await?),
            None => None,
        };
        if let Some(outbox) = &outbox {
            let pace = settings.segment.max_requests_per_second;
            Delivery::start(outbox.clone(), live.clone(), pace, supervisor);
        }
        let clients: Arc<dyn SegmentClients> = match &outbox {
            Some(outbox) => Arc::new(OutboxClients::new(outbox.clone(), live.message_ids(), supervisor)),
            None => live.clone(),
        };
        let sources = SourceParts::new(table, mapper, &live, outbox.as_ref(), metrics.clone());
        let tell = |told| notify::start(told, &live, outbox.as_ref(), sources.clone(), &metrics, supervisor);
        let notifier = settings.notify.as_ref().map(tell).transpose()?;
        let mut state = AppState::new(
            clients,
            metrics.clone(),
            supervisor.clone(),
            settings.request_timeout,
            settings.max_in_flight,
        )
        .with_auth(Auth::new(&settings.auth))
        .with_sources(sources.sources.clone())
        .with_metrics_hook(update_metrics(&metrics, &live, outbox.as_ref(), sources.clone(), log));
        if let Some(outbox) = outbox.clone() {
            state = state.with_readiness(move || outbox.stats().trouble);
        }
        if let Some(token) = &settings.admin_token {
            let admin = admin(token.reveal(), settings, &live, outbox.as_ref(), sources.clone(), &metrics);
            let forgetting = outbox.as_ref().and_then(|outbox| forgetting(outbox, &live, supervisor));
            let admin = admin.with_forgetting(forgetting);
            let stored = outbox.clone();
            let oldest = stored.map(|outbox| move || age_of_oldest(&outbox.stats()).map(|age| age.as_secs()));
            supervisor.supervise("history", admin.history().record(metrics.clone(), oldest));
            state = state.with_admin(admin);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits { connections, streams, keep_alive: settings.keep_alive, threads };
        Ok(Self { state, sources, outbox, notifier, supervisor: supervisor.clone(), limits })
    }

    /// Puts one more layer around the routes of each listener. It is told whether the listener's address is a loopback one.
    #[must_use]
    pub fn with_layer(self, wrap: fn(Router, bool) -> Router) -> Self {
        Self { state: self.state.with_layer(wrap), ..self }
    }

    /// Serves on `listener`, and operators on `operators` if they have an address of their own, until a signal, or the death
    /// of a task, stops it. With `hangups` each of these signals reads again what can be.
    ///
    /// # Errors
    /// If a listener has no address.
    pub async fn run(
        self,
        listener: TcpListener,
        operators: Option<TcpListener>,
        hangups: Option<(Signal, ReadAgain)>,
        signals: Signals,
        settings: &Settings,
    ) -> anyhow::Result<ShutdownOutcome> {
        let address = listener.local_addr().context("no local address")?;
        let state = Arc::new(self.state);
        let serve = |listener, address: SocketAddr, routes, limits: Limits| {
            let service = api::service(state.clone(), routes, address.ip().to_canonical().is_loopback());
            let name = if routes == Routes::Operators { "operators" } else { "senders" };
            let metrics = state.metrics().of_listener(name, limits.connections);
            let server = server::serve(listener, service, limits, metrics, self.supervisor.clone());
            self.supervisor.supervise_until_drained("server", server);
        };
        let routes = if operators.is_some() { Routes::Senders } else { Routes::All };
        if let Some(operators) = operators {
            let address = operators.local_addr().context("no local address")?;
            serve(operators, address, Routes::Operators, OPERATORS);
            tracing::info!(%address, "operators are served");
        }
        serve(listener, address, routes, self.limits);
        if let Some((hangups, read)) = hangups {
            let secrets = read_again(hangups, read, state.clone(), self.sources.clone(), self.notifier);
            self.supervisor.supervise("secrets", secrets);
        }
        let auth = settings.auth.name();
        warn_about(settings);
        let proxy = settings.segment.proxy.as_ref().map(tracing::field::display);
        tracing::info!(%address, endpoint = %settings.segment.endpoint, proxy, auth, "segment-relay serves");
        let outcome = self.supervisor.run(signals, settings.shutdown_delay, settings.shutdown_grace).await;
        if let Some(outbox) = self.outbox {
            outbox.close().await;
        }
        Ok(if self.supervisor.has_failed() { ShutdownOutcome::Failed } else { outcome })
    }
}

/// The number of senders' connections that the limit of open files allows beside all else.
///
/// # Errors
/// If too few are left.
pub fn max_connections(settings: &Settings) -> Result<usize, LimitTooLow> {
    let operators = if settings.admin_listen.is_some() { OPERATORS.connections + fd_limit::FDS_PER_CORE } else { 0 };
    let workers = if settings.sources.is_some() { MAPPING_FDS } else { 0 };
    fd_limit::max_connections(server::MAX_CONNECTIONS, settings.segment.max_concurrency.get(), operators + workers)
}

/// Logs the warnings about the settings.
fn warn_about(settings: &Settings) {
    for warning in settings.warnings() {
        tracing::warn!(name: EVERY_LINE, "{warning}");
    }
}

/// Reads the secrets that come from files and the file of sources again at each signal: takes all of them, or none if anything
/// is wrong.
async fn read_again(
    mut hangups: Signal,
    read: ReadAgain,
    state: Arc<AppState>,
    sources: SourceParts,
    notifier: Option<Notifier>,
) {
    while hangups.recv().await.is_some() {
        match read_all(read.clone(), &sources).await {
            Ok((names, settings, _)) if names.is_empty() && settings.sources.is_none() => {
                tracing::info!("no secret comes from a file, so none was read again");
            }
            Ok((names, settings, table)) => {
                sources.replace(&table, &settings.segment.write_key);
                state.replace_secrets(&settings.auth, settings.admin_token.as_ref());
                if let (Some(notifier), Some(notify)) = (&notifier, &settings.notify) {
                    notifier.replace_secrets(&notify.secrets);
                }
                let count = settings.sources.is_some().then(|| table.names().count());
                tracing::info!(names = names.join(", "), sources = count, "the secrets were read again");
                warn_about(&settings);
            }
            Err(problems) => {
                tracing::error!(problems, "the secrets could not be read again; those of before stay in use");
            }
        }
    }
}

/// What [`ReadAgain`] gives, with filters that can be compiled.
///
/// # Errors
/// All problems in one line.
async fn read_all(
    read: ReadAgain,
    sources: &SourceParts,
) -> Result<(Vec<&'static str>, Settings, SourceTable), String> {
    let in_one_line = |problems: Problems| problems.lines().join("; ");
    let read = tokio::task::spawn_blocking(move || read()).await;
    let read = read.map_err(|error| error.to_string())?.map_err(in_one_line)?;
    check_filters(&sources.mapper, &read.2).await.map_err(in_one_line)?;
    Ok(read)
}

/// Opens the outbox.
async fn open_outbox(
    settings: &OutboxSettings,
    segment_timeout: Duration,
    live: &Arc<LiveClients>,
    metrics: &Arc<Metrics>,
    supervisor: &Supervisor,
) -> anyhow::Result<Arc<dyn Store>> {
    let outbox: Arc<dyn Store> = match &settings.place {
        OutboxPlace::Sqlite(path) => SqliteOutbox::open(path, settings, metrics.clone(), supervisor)?,
        OutboxPlace::Postgres(url) => {
            let live = live.clone();
            let outage_lasts = Box::new(move || live.outage_lasts());
            PostgresOutbox::open(url, settings, segment_timeout, outage_lasts, metrics.clone(), supervisor).await?
        }
    };
    tracing::info!(outbox = %settings.place, calls = outbox.stats().waiting, "the outbox is open");
    Ok(outbox)
}

/// How persons are forgotten: by the store itself, if another process may deliver, or by this one.
fn forgetting(
    outbox: &Arc<dyn Store>,
    live: &Arc<LiveClients>,
    supervisor: &Supervisor,
) -> Option<Arc<dyn Forgetting>> {
    let own = |persons| Forget::new(persons, live.clone(), supervisor.clone());
    if let (Some(requests), Some(persons)) = (outbox.clone().forget_requests(), outbox.clone().persons()) {
        own(persons).serve(requests);
    }
    let own = |persons| Arc::new(own(persons)) as Arc<dyn Forgetting>;
    outbox.clone().forgetting().or_else(|| outbox.clone().persons().map(own))
}

/// Updates the metrics that are not counted along the way.
fn update_metrics(
    metrics: &Arc<Metrics>,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<dyn Store>>,
    sources: SourceParts,
    log: Arc<LogLines>,
) -> impl Fn() + Send + Sync + 'static {
    let (metrics, live, outbox) = (metrics.clone(), live.clone(), outbox.cloned());
    move || {
        live.update_gauges(&metrics);
        sources.update_gauges();
        if let Some(stats) = outbox.as_ref().map(|outbox| outbox.stats()) {
            let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            metrics.outbox_oldest_seconds.set(age_of_oldest(&stats).map_or(0, |age| gauge(age.as_secs())));
            metrics.outbox_max_bytes.set(gauge(stats.max_bytes));
            metrics.outbox_unwritable.set(stats.trouble.is_some().into());
            metrics.parked_bytes.set(gauge(stats.parked_bytes));
            metrics.dead_letter_bytes.set(gauge(stats.dead_letter_bytes));
        }
        if let Some(fleet) = outbox.as_ref().and_then(|outbox| outbox.fleet()) {
            update_fleet_metrics(&metrics, &fleet);
        }
        metrics.log_lines_over_limit.inc_by(log.take_left_out());
        metrics.log_lines_in_backlog.inc_by(log.take_dropped());
    }
}

fn update_fleet_metrics(metrics: &Metrics, fleet: &FleetReport) {
    let database = &fleet.database;
    let delivers = database.is_reachable && fleet.delivering.as_ref().is_some_and(|deliverer| deliverer.is_this);
    metrics.fleet_delivering.set(delivers.into());
    metrics.fleet_members.set(fleet.members.len() as i64);
    metrics.fleet_tenures.set(fleet.tenures.cast_signed());
    metrics.fleet_database_reachable.set(database.is_reachable.into());
    metrics.fleet_calls_table_bytes.set(database.calls_bytes.cast_signed());
    metrics.fleet_oldest_transaction_seconds.set(database.oldest_transaction_seconds as i64);
}

/// What operators may see and do.
fn admin(
    token: &str,
    settings: &Settings,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<dyn Store>>,
    sources: SourceParts,
    metrics: &Arc<Metrics>,
) -> AdminState {
    let (live, metrics, endpoint) = (live.clone(), metrics.clone(), settings.segment.endpoint.to_string());
    let (stored, dead_letters) = (outbox.cloned(), outbox.cloned().map(|outbox| outbox as Arc<dyn DeadLetters>));
    let parked = outbox.cloned().map(|outbox| outbox as Arc<dyn ParkedUsers>);
    let calls = outbox.cloned().map(|outbox| outbox as Arc<dyn Calls>);
    let backups = outbox.cloned().and_then(Store::backups);
    let fleet_of = outbox.cloned();
    let segment = move || {
        let now = Instant::now();
        let shut = live.gate_shut_until().map(|(until, code)| ShutGate {
            code: code.as_str(),
            shut_for: live.gate_shut_since().map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            opens_in: until.saturating_duration_since(now),
        });
        let last_trouble = live
            .last_failure()
            .map(|(code, reason, at)| TroubleReport::new(code, reason, now.saturating_duration_since(at)));
        let report = SegmentReport::new(endpoint.clone(), live.failed_in_a_row(), shut);
        SegmentReport { last_trouble, refused_sources: live.refused_sources(), ..report }
    };
    let outbox = move || {
        let report =
            |stats| OutboxReport { unconfigured_sources: sources.unconfigured(), ..outbox_report(stats, &metrics) };
        stored.as_ref().map(|outbox| report(outbox.stats()))
    };
    let fleet = move || fleet_of.as_ref().and_then(|outbox| outbox.fleet());
    let state = AdminState::new(token, dead_letters).with_fleet(fleet).with_parked(parked).with_calls(calls);
    state.with_backups(backups).with_reports(segment, outbox)
}

fn outbox_report(stats: OutboxStats, metrics: &Metrics) -> OutboxReport {
    let in_ms = |histogram| DurationSummary::from_seconds(&Summary::from_histogram(histogram));
    OutboxReport {
        oldest_seconds: age_of_oldest(&stats).map(|age| age.as_secs()),
        waiting: stats.waiting,
        parked: ParkedReport { users: stats.parked_users, calls: stats.parked_calls, bytes: stats.parked_bytes },
        stored_total: metrics.outbox_stored.get(),
        delivered_total: metrics.outbox_accepted.get(),
        refused_total: metrics.outbox_refused.get(),
        gave_up_total: metrics.outbox_gave_up.get(),
        dead_letters: stats.dead_letters,
        dead_letter_bytes: stats.dead_letter_bytes,
        keys: stats.keys,
        bytes: stats.bytes,
        max_bytes: stats.max_bytes,
        trouble: stats.trouble,
        commit_ms: in_ms(&metrics.outbox_commit_seconds),
        sync_ms: in_ms(&metrics.outbox_sync_seconds),
        unconfigured_sources: Vec::new(),
    }
}

/// How long the oldest call has waited. Zero if the clock was set back since.
fn age_of_oldest(stats: &OutboxStats) -> Option<Duration> {
    let stored_at = u64::try_from(stats.oldest_stored_at?).ok().map(Duration::from_millis)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(stored_at))
}
