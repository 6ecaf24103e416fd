//! `segment-relay serve`: the service, until a signal stops it.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::app::App;
use crate::config::Settings;
use crate::supervisor::{Signals, Supervisor};
use crate::telemetry;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let (runtime, signals) = runtime_with_signals()?;
    let settings = super::settings()?;
    let _flushed_on_drop = telemetry::start(&settings.logs)?;
    runtime.block_on(serve(&settings, signals))
}

/// A runtime with one thread for each core.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start a runtime")
}

/// A runtime, and the signal handlers. A command that serves calls this before all else: without the handlers, SIGTERM
/// kills the process instead of draining it.
pub(super) fn runtime_with_signals() -> anyhow::Result<(Runtime, Signals)> {
    let runtime = runtime()?;
    let entered = runtime.enter();
    let signals = Signals::install().context("cannot install the signal handlers")?;
    drop(entered);
    Ok((runtime, signals))
}

/// Runs the relay with these settings.
async fn serve(settings: &Settings, signals: Signals) -> anyhow::Result<ExitCode> {
    let supervisor = Supervisor::new();
    let listener = listen(settings.listen).await?;
    let app = App::build(settings, &supervisor)?;
    Ok(app.run(listener, signals, settings).await?.into())
}

/// Listens on `address`.
pub(super) async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
