//! `segment-relay sandbox`: a local replacement of Segment's API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use super::address::listen;
use super::output::print;
use super::runtime::runtime_with_signals;
use crate::sandbox;

pub(super) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The address to listen on; port 0 takes a free port
    #[arg(long, value_name = "ADDRESS", default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (runtime, mut signals) = runtime_with_signals()?;
    runtime.block_on(async {
        let listener = listen(arguments.listen)?;
        let address = listener.local_addr()?;
        // The sandbox works the same if nobody reads this.
        let _ = print(format_args!("sandbox listening on http://{address}"));
        sandbox::serve(listener, async move { _ = signals.recv().await }).await;
        Ok(ExitCode::SUCCESS)
    })
}
