//! `segment-relay check`: checks the settings, the sources and their examples, the outbox's place, and whether Segment can be
//! reached.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::output::print;
use super::runtime::runtime;
use super::sources::examples;
use crate::metrics::Metrics;
use crate::outbox::sqlite::{self, StoredOfSource};
use crate::sources::mapping::Mapper;
use crate::sources::settings::SourceTable;
use crate::supervisor::Supervisor;
use crate::{app, config, publisher};

/// Prints a line. The exit code says the same to whoever does not read it.
fn say(line: impl Display) {
    let _ = print(line);
}

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let settings = config::from_environment()?;
    let table = SourceTable::of(&settings)?;
    let runtime = runtime()?;
    say("settings: right");
    say(format_args!("callers:  RELAY_AUTH is {}", settings.auth.name()));
    let are_sources_right = runtime.block_on(check_sources(&table))?;
    for warning in settings.warnings().into_iter().chain(table.warnings()) {
        say(format_args!("warning:  {warning}"));
    }
    let outbox = settings.outbox.as_ref().map(|outbox| (outbox.path.display(), sqlite::check_file(&outbox.path)));
    let is_usable = match outbox {
        None => {
            say("outbox:   none, calls go straight to Segment");
            true
        }
        Some((path, Ok(is_there))) => {
            say(format_args!("outbox:   {path} can be {}", if is_there { "used" } else { "made" }));
            if let Some(outbox) = settings.outbox.as_ref().filter(|_| is_there) {
                name_unconfigured(&outbox.path, &table);
            }
            true
        }
        Some((path, Err(error))) => {
            say(format_args!("outbox:   {path}: {error:#}"));
            false
        }
    };
    match &settings.segment.proxy {
        Some(proxy) => say(format_args!("way:      through the proxy {proxy}")),
        None => say("way:      direct, without a proxy"),
    }
    app::max_connections(&settings)?;
    let endpoint = &settings.segment.endpoint;
    let is_reached = match runtime.block_on(publisher::check_connectivity(&settings.segment))? {
        Ok(answer) => {
            say(format_args!("segment:  reached at {endpoint} ({answer})"));
            say("Segment answers before it checks the write key. Its debugger shows whether the key is right.");
            true
        }
        Err(error) => {
            say(format_args!("segment:  {error} at {endpoint}"));
            false
        }
    };
    Ok(if are_sources_right && is_usable && is_reached { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names the sources that are not configured and have calls or dead letters in the outbox.
fn name_unconfigured(outbox: &Path, table: &SourceTable) {
    let found = match sqlite::sources_in_file(outbox) {
        Ok(found) => found,
        Err(error) => return say(format_args!("warning:  the sources in the outbox cannot be read: {error:#}")),
    };
    for (name, StoredOfSource { calls, letters }) in found {
        if table.iter().all(|source| *source.name != *name) {
            say(format_args!(
                "warning:  the source {name} is not configured; its waiting calls: {calls}, dead letters: {letters}"
            ));
        }
    }
}

/// Says of each source whether its filter can be compiled, and makes of its examples what the file says.
async fn check_sources(table: &SourceTable) -> anyhow::Result<bool> {
    let mapper = Mapper::start(&Supervisor::new(), Arc::new(Metrics::new()?))?;
    let mut problems = mapper.check(&table.filters()).await;
    if problems.is_empty() {
        for source in table.iter() {
            let found = examples::problems(&*mapper, source).await;
            if found.is_empty() {
                let (name, examples) = (&source.name, source.examples.len());
                let plural = if examples == 1 { "" } else { "s" };
                say(format_args!(
                    "source:   {name} is verified as {}; {examples} example{plural} right",
                    source.verify
                ));
            }
            problems.extend(found);
        }
    }
    problems.iter().for_each(|problem| say(format_args!("source:   {problem}")));
    Ok(problems.is_empty())
}
