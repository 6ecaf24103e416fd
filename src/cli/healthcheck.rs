//! `segment-relay healthcheck`: asks the local service whether it is healthy.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::address::{given_url, http_client, local_url};
use super::runtime::runtime;

/// Shorter than the 5 s that a container's health check usually has.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The URL to probe, instead of the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let url = match &arguments.url {
        Some(url) => given_url(url)?.to_owned(),
        None => format!("{}/healthz", local_url()?),
    };
    runtime()?.block_on(probe(&url))?;
    Ok(ExitCode::SUCCESS)
}

async fn probe(url: &str) -> anyhow::Result<()> {
    let client = http_client(url).timeout(TIMEOUT).build().context("cannot set up HTTP")?;
    let status = client.get(url).send().await.with_context(|| format!("{url} does not answer"))?.status();
    if !status.is_success() {
        bail!("{url} answers {status}");
    }
    Ok(())
}
