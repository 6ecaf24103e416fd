//! `segment-relay healthcheck`: asks the local service whether it lives.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::reachable;
use super::serve::runtime;
use crate::config;

/// A service that takes longer to say that it lives is not healthy.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to ask instead of the address of RELAY_LISTEN or PORT
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => format!("http://{}/healthz", reachable(config::listen_from_environment()?)),
    };
    runtime()?.block_on(ask(&url))?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(url: &str) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().context("cannot set up HTTP")?;
    let status = client.get(url).send().await.with_context(|| format!("{url} does not answer"))?.status();
    if !status.is_success() {
        bail!("{url} answers {status}");
    }
    Ok(())
}
