//! `segment-relay dev`: the relay and the sandbox in one process, to try things without an account.
//!
//! Settings of the environment hold, but for the way to Segment: that always leads to the sandbox.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use url::Url;

use super::reachable;
use super::serve::{listen, runtime};
use crate::app::App;
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::{sandbox, telemetry};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where the sandbox listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = super::sandbox::LISTEN)]
    sandbox_listen: SocketAddr,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let own = ["SEGMENT_WRITE_KEY", "SEGMENT_ENDPOINT"];
    let variables = config::variables()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .chain([("SEGMENT_WRITE_KEY".to_owned(), "dev".to_owned())]);
    let mut settings = config::from_variables(variables)?;
    let _written_until_here = telemetry::start(&settings.logs)?;
    runtime()?.block_on(async {
        let life = Lifecycle::new();
        let segment = listen(arguments.sandbox_listen).await?;
        let relay = listen(settings.listen).await?;
        let sandbox_url = format!("http://{}", reachable(segment.local_addr()?));
        settings.segment.endpoint = Url::parse(&sandbox_url).context("cannot point at the sandbox")?;
        print_how_to_try(&format!("http://{}", reachable(relay.local_addr()?)), &sandbox_url);
        let until = life.clone();
        life.supervise("sandbox", async move {
            if let Err(error) = sandbox::serve(segment, async move { until.cut().await }).await {
                tracing::error!(%error, "the sandbox ended");
            }
        });
        let app = App::build(&settings, &life)?;
        Ok(app.run(relay, &settings).await?.into())
    })
}

fn print_how_to_try(relay: &str, sandbox: &str) {
    println!(
        "relay   {relay}\nsandbox {sandbox} (stands in for Segment)\n\nSend a customer:\n\n  \
         curl -i {relay}/customers -H 'content-type: application/json' \\\n    \
         -d '{{\"userId\":\"c-1042\",\"traits\":{{\"email\":\"ada@example.com\",\"name\":\"Ada Lovelace\"}}}}'\n\n\
         See what Segment got:\n\n  curl {sandbox}/events\n\n\
         Let Segment fail, then heal it:\n\n  curl {sandbox}/faults -d '{{\"status\":503}}'\n  \
         curl {sandbox}/faults -d '{{}}'\n"
    );
}
