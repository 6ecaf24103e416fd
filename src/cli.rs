//! The command line:
//! `segment-relay [serve|dev|sandbox|check|healthcheck|sources|dead-letters|parked|call|forget|import|backup|move]`.
//!
//! Exit codes: 0 for success, 1 for a failure, 2 for wrong settings or arguments.

mod address;
mod backup;
mod call;
mod check;
mod dead_letters;
mod dev;
mod forget;
mod healthcheck;
mod import;
mod move_outbox;
mod operate;
mod output;
mod parked;
mod relay_client;
mod runtime;
mod sandbox;
mod serve;
mod sources;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Problems;
use crate::sources::mapping::worker;
use output::EXIT_USAGE;

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
    /// Check the settings, the sources and their examples, the outbox, and the way to Segment
    Check(check::Arguments),
    /// Exit with 0 if the local service is healthy (for containers without curl)
    Healthcheck(healthcheck::Arguments),
    /// List the sources and the presets, or try what a source's filter makes of an event
    Sources(sources::Arguments),
    /// List the calls that were not delivered, send them again, delete or export them (needs RELAY_ADMIN_TOKEN)
    DeadLetters(dead_letters::Arguments),
    /// List the users whose first waiting call fails on its own, try it now or give it up (needs RELAY_ADMIN_TOKEN)
    Parked(parked::Arguments),
    /// Tell what became of a call (needs RELAY_ADMIN_TOKEN)
    Call(call::Arguments),
    /// Delete what the relay holds of a person (needs RELAY_ADMIN_TOKEN)
    Forget(forget::Arguments),
    /// Send the customers of files, one a line, to Segment or into a running relay; an interrupted import goes on
    Import(import::Arguments),
    /// Write a copy of the running relay's outbox to a file (needs RELAY_ADMIN_TOKEN)
    Backup(backup::Arguments),
    /// Move the outbox of a stopped relay from its file into a PostgreSQL database; an interrupted move goes on
    Move(move_outbox::Arguments),
    /// Run filters for the relay that started this process
    #[command(hide = true)]
    MapWorker,
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Sources(arguments) => sources::run(&arguments),
        Command::DeadLetters(arguments) => dead_letters::run(&arguments),
        Command::Parked(arguments) => parked::run(&arguments),
        Command::Call(arguments) => call::run(&arguments),
        Command::Forget(arguments) => forget::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Move(arguments) => move_outbox::run(&arguments),
        Command::MapWorker => Ok(worker::run()),
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
