//! `segment-relay dev`: the relay and the sandbox in one process, for trials without an account.
//!
//! The environment's settings apply, except that calls always go to the sandbox. The address, the outbox and the admin
//! token have defaults here: nobody else can reach the relay, and its token is made for this run. Web pages of other sites
//! are refused, because the browser of whoever tries this can reach it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use url::Url;
use uuid::Uuid;

use super::address::{listen, listen_if_set, reachable};
use super::output::print;
use super::runtime::runtime_with_signals;
use super::sources;
use crate::app::{App, ReadAgain};
use crate::config::{self, Problems, Settings};
use crate::sources::settings::{ReadOptions, SourceTable, StandIn};
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
    /// The file of sources, or a directory with a sources.toml, instead of RELAY_SOURCES; secrets that are not set get stand-ins
    #[arg(long, value_name = "FILE")]
    sources: Option<PathBuf>,
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
    let (runtime, mut signals) = runtime_with_signals()?;
    let data = std::path::absolute(&arguments.data).context("cannot resolve the path of --data")?;
    let mut variables: BTreeMap<String, String> = config::variables().filter(|(_, value)| !value.is_empty()).collect();
    variables.remove("SEGMENT_WRITE_KEY_FILE");
    // The sandbox is in this process: no proxy is on the way.
    variables.retain(|name, _| !name.to_ascii_uppercase().ends_with("_PROXY"));
    variables.extend([("SEGMENT_WRITE_KEY", "dev"), ("SEGMENT_ENDPOINT", "http://localhost")].map(owned));
    if !is_set(&variables, "RELAY_OUTBOX_URL") {
        variables.insert("RELAY_OUTBOX_URL".to_owned(), format!("sqlite://{}", data.join("outbox.db").display()));
    }
    if let Some(path) = &arguments.sources {
        let path = std::path::absolute(sources::file_of(path)).context("cannot resolve the path of --sources")?;
        variables.insert("RELAY_SOURCES".to_owned(), path.display().to_string());
    }
    let (token, environment) = admin_token(&mut variables);
    let has_listen = is_set(&variables, "RELAY_LISTEN");
    let mut settings = config::from_variables(variables.clone().into_iter())?;
    if !has_listen {
        settings.listen.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let table = read_sources(&settings, &variables)?;
    // Without sources there is nothing to read again: the end of the terminal stops this process.
    let hangups = if settings.sources.is_some() { signals.take_hangup() } else { None };
    let logs = telemetry::start(&settings.logs, settings.traces.as_ref())?;
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
        let app = App::build(&settings, &table, &supervisor, logs.lines()).await?;
        let app = app.with_layer(sandbox::refuse_cross_site);
        print_instructions(&trial, &settings);
        print_sources(&trial, &table);
        let hangups = hangups.map(|hangups| (hangups, read_again(variables)));
        Ok(app.run(relay, operators, hangups, signals, &settings).await?.into())
    })
}

/// The sources, with stand-ins for the secrets that are not set.
fn read_sources(settings: &Settings, variables: &BTreeMap<String, String>) -> Result<SourceTable, Problems> {
    let options = ReadOptions {
        variable: &|name| variables.get(name).cloned(),
        has_outbox: settings.outbox.is_some(),
        admin_token: settings.admin_token.as_ref(),
        has_stand_ins: true,
    };
    settings.sources.as_ref().map_or_else(|| Ok(SourceTable::default()), |path| SourceTable::read(path, &options))
}

/// SIGHUP reads only the sources again.
fn read_again(variables: BTreeMap<String, String>) -> ReadAgain {
    Arc::new(move || {
        let settings = config::from_variables(variables.clone().into_iter())?;
        let table = read_sources(&settings, &variables)?;
        Ok((Vec::new(), settings, table))
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

/// Prints where events are sent, and what their senders sign with.
fn print_sources(Trial { relay, .. }: &Trial, table: &SourceTable) {
    let names: Vec<&str> = table.names().map(|name| &**name).collect();
    if names.is_empty() {
        return;
    }
    let stand_ins = table.stand_ins().iter();
    let stand_ins: String = stand_ins.map(|StandIn { place, secret }| format!("  {place:32}  {secret}\n")).collect();
    let about = if stand_ins.is_empty() {
        ""
    } else {
        "\nSecrets that are not set, and what stands in for them here alone:\n\n"
    };
    let _ = print(format_args!(
        "\nSend an event to {relay}/sources/NAME, signed as its sender signs. NAME is one of {}.\n{about}{stand_ins}",
        names.join(", ")
    ));
}

fn print_instructions(Trial { relay, operators, sandbox, token, environment }: &Trial, settings: &Settings) {
    let outbox = settings.outbox.as_ref().map(|outbox| outbox.place.to_string()).unwrap_or_default();
    let auth = &settings.auth;
    let auth_hint =
        if auth.is_none() { String::new() } else { format!(" (with the credentials of RELAY_AUTH={})", auth.name()) };
    // The commands work the same if nobody reads them.
    let _ = print(format_args!(
        "relay   {relay}\nsandbox {sandbox} (replaces Segment)\noutbox  {outbox}\npage    {operators}/ (admin token: {token})\n\nSend a customer{auth_hint}:\n\n  \
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
