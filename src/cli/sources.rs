//! `segment-relay sources`: the sources and the presets, and what a filter makes of an event.
//!
//! They need neither a write key nor secrets: they read the file of sources with stand-ins for those that are not set.

pub(super) mod examples;
mod list;
mod try_event;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config;
use crate::sources::settings::{ReadOptions, SourceTable};

/// The name of the file in a directory of sources.
const FILE: &str = "sources.toml";

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: SourcesCommand,
    /// The file of sources, or a directory with a sources.toml, instead of RELAY_SOURCES
    #[arg(long, value_name = "FILE", global = true)]
    sources: Option<PathBuf>,
}

#[derive(Subcommand)]
enum SourcesCommand {
    /// List the sources, and the presets with what is known of each
    List,
    /// Print the customers that a source's filter makes of an event, and the rules that they break; check its examples, too
    Test(try_event::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let table = read(arguments.sources.as_deref())?;
    match &arguments.command {
        SourcesCommand::List => list::run(&table),
        SourcesCommand::Test(arguments) => try_event::run(&table, arguments),
    }
}

/// The file of sources that this path names.
pub(super) fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE) } else { path.to_owned() }
}

/// The sources of this file, or else of `RELAY_SOURCES`. None, if neither is given.
fn read(file: Option<&Path>) -> anyhow::Result<SourceTable> {
    let variables: BTreeMap<String, String> = config::variables().filter(|(_, value)| !value.is_empty()).collect();
    let of_environment = || variables.get("RELAY_SOURCES").map(Path::new);
    let Some(file) = file.or_else(of_environment) else { return Ok(SourceTable::default()) };
    let options = ReadOptions {
        variable: &|name| variables.get(name).cloned(),
        // What a source does without one is not tried here.
        has_outbox: true,
        admin_token: None,
        has_stand_ins: true,
    };
    Ok(SourceTable::read(&file_of(file), &options)?)
}
