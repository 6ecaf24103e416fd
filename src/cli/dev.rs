//! `segment-relay dev`: the relay and the sandbox in one process, for trials without an account.
//!
//! The environment's settings apply, except that calls always go to the sandbox. The address, the outbox and the admin
//! token have defaults here: nobody else can reach the relay, and its token is made for this run. Web pages of other sites
//! are refused, because the browser of whoever tries this can reach it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use url::Url;
use uuid::Uuid;

use super::address::{listen, listen_if_set, reachable};
use super::output::print;
use super::runtime::runtime_with_signals;
use crate::app::App;
use crate::config::{self, Settings};
use crate::sources::settings::SourceTable;
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

/// What the printed lines need.
struct Trial {
    relay: String,
    /// Where operators' requests go.
    operators: String,
    sandbox: String,
    /// The admin token, as a shell reads it between double quotes.
    token: String,
    /// What a shell puts before an operators' command.
    environment: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (runtime, signals) = runtime_with_signals()?;
    let data = std::path::absolute(&arguments.data).context("cannot resolve the path of --data")?;
    let mut variables: BTreeMap<String, String> = config::variables().filter(|(_, value)| !value.is_empty()).collect();
    variables.remove("SEGMENT_WRITE_KEY_FILE");
    // The sandbox is in this process: no proxy is on the way.
    variables.retain(|name, _| !name.to_ascii_uppercase().ends_with("_PROXY"));
    variables.extend([("SEGMENT_WRITE_KEY", "dev"), ("SEGMENT_ENDPOINT", "http://localhost")].map(owned));
    if !is_set(&variables, "RELAY_OUTBOX_URL") {
        variables.insert("RELAY_OUTBOX_URL".to_owned(), format!("sqlite://{}", data.join("outbox.db").display()));
    }
    let (token, environment) = admin_token(&mut variables);
    let has_listen = is_set(&variables, "RELAY_LISTEN");
    let mut settings = config::from_variables(variables.into_iter())?;
    if !has_listen {
        settings.listen.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let sources = SourceTable::of(&settings)?;
    let logs = telemetry::start(&settings.logs)?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        let segment = listen(arguments.sandbox_listen)?;
        let relay = listen(settings.listen)?;
        let operators = listen_if_set(settings.admin_listen)?;
        let url = |address| format!("http://{}", reachable(address));
        let trial = Trial {
            relay: url(relay.local_addr()?),
            operators: url(operators.as_ref().unwrap_or(&relay).local_addr()?),
            sandbox: url(segment.local_addr()?),
            token,
            environment,
        };
        settings.segment.endpoint = Url::parse(&trial.sandbox).context("cannot point at the sandbox")?;
        let stages = supervisor.clone();
        supervisor.supervise("sandbox", async move {
            sandbox::serve(segment, async move { stages.cancelled().await }).await;
        });
        let app =
            App::build(&settings, &sources, &supervisor, logs.lines()).await?.with_layer(sandbox::refuse_cross_site);
        print_instructions(&trial, &settings);
        Ok(app.run(relay, operators, None, signals, &settings).await?.into())
    })
}

/// Whether a setting is set, by its value or by a file.
fn is_set(variables: &BTreeMap<String, String>, name: &str) -> bool {
    variables.contains_key(name) || variables.contains_key(&format!("{name}_FILE"))
}

/// Makes an admin token unless one is set. Returns the `token` and the `environment` of [`Trial`].
fn admin_token(variables: &mut BTreeMap<String, String>) -> (String, String) {
    if !is_set(variables, "RELAY_ADMIN_TOKEN") {
        // 122 bits of a cryptographic generator.
        let token = Uuid::new_v4().simple().to_string();
        variables.insert("RELAY_ADMIN_TOKEN".to_owned(), token.clone());
        let environment = format!("RELAY_ADMIN_TOKEN={token} ");
        return (token, environment);
    }
    let is_value = variables.contains_key("RELAY_ADMIN_TOKEN");
    let token = if is_value { "$RELAY_ADMIN_TOKEN" } else { r#"$(cat "$RELAY_ADMIN_TOKEN_FILE")"# };
    (token.to_owned(), String::new())
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn print_instructions(Trial { relay, operators, sandbox, token, environment }: &Trial, settings: &Settings) {
    let outbox = settings.outbox.as_ref().map(|outbox| outbox.path.display().to_string()).unwrap_or_default();
    let auth = &settings.auth;
    let auth_hint =
        if auth.is_none() { String::new() } else { format!(" (with the credentials of RELAY_AUTH={})", auth.name()) };
    // The commands work the same if nobody reads them.
    let _ = print(format_args!(
        "relay   {relay}\nsandbox {sandbox} (replaces Segment)\noutbox  {outbox}\n\nSend a customer{auth_hint}:\n\n  \
         curl -i {relay}/customers -H 'content-type: application/json' \\\n    \
         -d '{{\"userId\":\"c-1042\",\"traits\":{{\"email\":\"ada@example.com\",\"name\":\"Ada Lovelace\"}}}}'\n\n\
         To wait for the answer of Segment, add -H 'prefer: wait=5'\n\n\
         Show what Segment received:\n\n  curl {sandbox}/events\n\n\
         Make Segment fail, show what waits, then end the failure:\n\n  curl {sandbox}/faults -d '{{\"status\":503}}'\n  \
         curl {operators}/status -H \"authorization: Bearer {token}\"\n  \
         curl {sandbox}/faults -d '{{}}'\n\n\
         List the calls that Segment refused:\n\n  \
         {environment}segment-relay dead-letters list --url {operators}\n",
    ));
}
