//! `segment-relay serve`: the service, until it is told to stop.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::app::App;
use crate::config::Settings;
use crate::supervisor::Supervisor;
use crate::telemetry;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let settings = super::settings()?;
    let _written_until_here = telemetry::start(&settings.logs)?;
    runtime()?.block_on(serve(&settings))
}

/// A thread a core.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start a runtime")
}

/// Runs the relay with these settings.
pub(super) async fn serve(settings: &Settings) -> anyhow::Result<ExitCode> {
    let supervisor = Supervisor::new();
    let listener = listen(settings.listen).await?;
    let app = App::build(settings, &supervisor)?;
    Ok(app.run(listener, settings).await?.into())
}

/// Listens on `address`.
pub(super) async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
