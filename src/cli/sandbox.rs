//! `segment-relay sandbox`: the local stand-in for Segment's API.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::serve::{listen, runtime};
use crate::sandbox;

/// Where the sandbox listens by default.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = LISTEN)]
    listen: SocketAddr,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let listener = listen(arguments.listen).await?;
        let address = listener.local_addr()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        println!("sandbox listening on http://{address}");
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        sandbox::serve(listener, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}
