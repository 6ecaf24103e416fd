//! `segment-relay check`: checks the settings, the outbox's place, and whether Segment can be reached.

use std::fmt::Display;
use std::process::ExitCode;

use super::output::print;
use super::runtime::runtime;
use crate::outbox::sqlite;
use crate::{app, config, publisher};

/// Prints a line. The exit code says the same to whoever does not read it.
fn say(line: impl Display) {
    let _ = print(line);
}

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let settings = config::from_environment()?;
    say("settings: right");
    say(format_args!("callers:  RELAY_AUTH is {}", settings.auth.name()));
    for warning in settings.warnings() {
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
    let is_reached = match runtime()?.block_on(publisher::check_connectivity(&settings.segment))? {
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
    Ok(if is_usable && is_reached { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
