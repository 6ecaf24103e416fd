//! `segment-relay check`: checks the settings and whether Segment can be reached with them.

use std::process::ExitCode;

use super::runtime::runtime;
use crate::{app, config, publisher};

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let settings = config::from_environment()?;
    println!("settings: right");
    println!("callers:  RELAY_AUTH is {}", settings.auth.name());
    for warning in settings.warnings() {
        println!("warning:  {warning}");
    }
    match &settings.segment.proxy {
        Some(proxy) => println!("way:      through the proxy {proxy}"),
        None => println!("way:      direct, without a proxy"),
    }
    app::max_connections(&settings)?;
    match runtime()?.block_on(publisher::check_connectivity(&settings.segment))? {
        Ok(answer) => {
            println!("segment:  reached at {} ({answer})", settings.segment.endpoint);
            println!("Segment answers before it checks the write key. Its debugger shows whether the key is right.");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("segment:  {error} at {}", settings.segment.endpoint);
            Ok(ExitCode::FAILURE)
        }
    }
}
