//! `segment-relay dev`: the relay and the sandbox in one process, for trials without an account.
//!
//! The environment's settings apply, except that calls always go to the sandbox. The outbox and the admin token have
//! defaults here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use url::Url;

use super::address::{listen, reachable};
use super::runtime::runtime_with_signals;
use crate::app::App;
use crate::config::{self, Settings};
use crate::supervisor::Supervisor;
use crate::{sandbox, telemetry};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The address of the sandbox; port 0 takes a free port
    #[arg(long, value_name = "ADDRESS", default_value_t = super::sandbox::DEFAULT_LISTEN)]
    sandbox_listen: SocketAddr,
    /// The directory of the outbox, if RELAY_OUTBOX_URL is not set; it stays when this process ends
    #[arg(long, value_name = "DIRECTORY", default_value = ".segment-relay")]
    data: PathBuf,
}

/// The default admin token. A trial relay holds no real customer.
const DEFAULT_ADMIN_TOKEN: &str = "dev-token-of-a-trial";

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (runtime, signals) = runtime_with_signals()?;
    let data = std::path::absolute(&arguments.data).context("cannot resolve the path of --data")?;
    let outbox = format!("sqlite://{}", data.join("outbox.db").display());
    let overrides = [("SEGMENT_WRITE_KEY", "dev"), ("SEGMENT_ENDPOINT", "http://localhost")];
    let defaults = [("RELAY_OUTBOX_URL", outbox.as_str()), ("RELAY_ADMIN_TOKEN", DEFAULT_ADMIN_TOKEN)];
    let mut variables: BTreeMap<_, _> = defaults.into_iter().map(owned).collect();
    variables.extend(config::variables().filter(|(_, value)| !value.is_empty()));
    // The sandbox is in this process: no proxy is on the way.
    variables.retain(|name, _| !name.to_ascii_uppercase().ends_with("_PROXY"));
    variables.extend(overrides.into_iter().map(owned));
    let mut settings = config::from_variables(variables.into_iter())?;
    let _flush_on_drop = telemetry::start(&settings.logs)?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        let segment = listen(arguments.sandbox_listen).await?;
        let relay = listen(settings.listen).await?;
        let sandbox_url = format!("http://{}", reachable(segment.local_addr()?));
        settings.segment.endpoint = Url::parse(&sandbox_url).context("cannot point at the sandbox")?;
        let stages = supervisor.clone();
        supervisor.supervise("sandbox", async move {
            sandbox::serve(segment, async move { stages.cancelled().await }).await;
        });
        let relay_url = format!("http://{}", reachable(relay.local_addr()?));
        let app = App::build(&settings, &supervisor)?;
        print_instructions(&relay_url, &sandbox_url, &settings);
        Ok(app.run(relay, signals, &settings).await?.into())
    })
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn print_instructions(relay: &str, sandbox: &str, settings: &Settings) {
    let outbox = settings.outbox.as_ref().map(|outbox| outbox.path.display().to_string()).unwrap_or_default();
    let is_default = settings.admin_token.as_ref().is_some_and(|token| token.reveal() == DEFAULT_ADMIN_TOKEN);
    let token = if is_default { DEFAULT_ADMIN_TOKEN } else { "$RELAY_ADMIN_TOKEN" };
    let auth = &settings.auth;
    let auth_hint =
        if auth.is_none() { String::new() } else { format!(" (with the credentials of RELAY_AUTH={})", auth.name()) };
    println!(
        "relay   {relay}\nsandbox {sandbox} (replaces Segment)\noutbox  {outbox}\n\nSend a customer{auth_hint}:\n\n  \
         curl -i {relay}/customers -H 'content-type: application/json' \\\n    \
         -d '{{\"userId\":\"c-1042\",\"traits\":{{\"email\":\"ada@example.com\",\"name\":\"Ada Lovelace\"}}}}'\n\n\
         To wait for the answer of Segment, add -H 'prefer: wait=5'\n\n\
         Show what Segment received:\n\n  curl {sandbox}/events\n\n\
         Make Segment fail, show what waits, then end the failure:\n\n  curl {sandbox}/faults -d '{{\"status\":503}}'\n  \
         curl {relay}/status -H \"authorization: Bearer {token}\"\n  \
         curl {sandbox}/faults -d '{{}}'\n",
    );
}
