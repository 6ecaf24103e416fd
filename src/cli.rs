//! The command line: `segment-relay [serve|dev|sandbox|check|healthcheck|dead-letters]`.
//!
//! Exit codes: 0 for success, 1 for a failure, 2 for wrong settings or arguments.

mod check;
mod dead_letters;
mod dev;
mod healthcheck;
mod sandbox;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::app::App;
use crate::config::{self, Problems};
use crate::supervisor::{Signals, Supervisor};
use crate::telemetry;

/// The exit code of wrong settings. clap has the same for wrong arguments.
const EXIT_USAGE: u8 = 2;

/// Receives customers from webhooks, sends them to Segment, and answers with the real outcome.
///
/// Settings come from the environment. SEGMENT_WRITE_KEY is required. config/relay.env lists all settings.
#[derive(Parser)]
#[command(name = "segment-relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service (the default)
    Serve,
    /// Run everything on one machine without an account: the relay on 8080, a sandbox that replaces Segment on 8090
    Dev(dev::Arguments),
    /// Run only the sandbox that replaces Segment's API, with faults on demand
    Sandbox(sandbox::Arguments),
    /// Check the settings and whether Segment can be reached
    Check,
    /// Exit with 0 if the local service is healthy (for containers without curl)
    Healthcheck(healthcheck::Arguments),
    /// List the calls that Segment refused, send them again or delete them (needs RELAY_ADMIN_TOKEN)
    DeadLetters(dead_letters::Arguments),
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        Command::Check => check::run(),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::DeadLetters(arguments) => dead_letters::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.is::<Problems>() => {
            eprintln!("{error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            eprintln!("segment-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The service, with the settings of the environment.
fn serve() -> anyhow::Result<ExitCode> {
    let (runtime, signals) = runtime_with_signals()?;
    let settings = config::from_environment()?;
    let _flush_on_drop = telemetry::start(&settings.logs)?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        let listener = listen(settings.listen).await?;
        let app = App::build(&settings, &supervisor)?;
        Ok(app.run(listener, signals, &settings).await?.into())
    })
}

/// A runtime with one thread for each core.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("cannot start a runtime")
}

/// A runtime, and the signal handlers. A command that serves calls this before all else: without the handlers, SIGTERM
/// kills the process instead of draining it.
fn runtime_with_signals() -> anyhow::Result<(Runtime, Signals)> {
    let runtime = runtime()?;
    let entered = runtime.enter();
    let signals = Signals::install().context("cannot install the signal handlers")?;
    drop(entered);
    Ok((runtime, signals))
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// The URL at which this process's settings let the running service be reached from this machine.
fn local_url() -> anyhow::Result<String> {
    Ok(format!("http://{}", reachable(config::listen_from_environment()?)))
}

/// The address to connect to, for an address that a service listens on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
