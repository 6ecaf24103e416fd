//! The command line: `segment-relay [serve|dev|sandbox|check|healthcheck|dead-letters]`.
//!
//! Exit codes: 0 all is well, 1 something failed, 2 the settings or the arguments are wrong.

mod check;
mod dead_letters;
mod dev;
mod healthcheck;
mod sandbox;
mod serve;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Problems, Settings};

/// What the settings or arguments being wrong ends with, as clap does for the latter.
const EXIT_USAGE: u8 = 2;

/// Takes customers from webhooks, passes them to Segment, and answers with the truth about what happened.
///
/// Settings come from the environment (SEGMENT_WRITE_KEY is the one that must be there); config/relay.env lists them all.
#[derive(Parser)]
#[command(name = "segment-relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// The service (the default)
    Serve,
    /// Everything on one machine without an account: the relay on 8080, a local stand-in for Segment on 8090
    Dev(dev::Arguments),
    /// The local stand-in for Segment's API alone, with faults on demand
    Sandbox(sandbox::Arguments),
    /// Is this configuration right, can Segment be reached?
    Check,
    /// Exit 0 if the local service is healthy (for containers without curl)
    Healthcheck(healthcheck::Arguments),
    /// The calls that Segment refused: see them, send them again, delete them (needs RELAY_ADMIN_TOKEN)
    DeadLetters(dead_letters::Arguments),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
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

/// The settings of the environment, or every problem with them.
fn settings() -> anyhow::Result<Settings> {
    Ok(config::from_environment()?)
}

/// An address to connect to, for one that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
