//! `segment-relay check`: are the settings right, and can Segment be reached with them?

use std::process::ExitCode;

use super::serve::runtime;
use crate::publisher;
use crate::server::{self, fd_limit};

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let settings = super::settings()?;
    println!("settings: right");
    println!("callers:  RELAY_AUTH is {}", settings.auth.name());
    fd_limit::max_connections(server::MAX_CONNECTIONS, settings.segment.max_concurrency.get())?;
    match runtime()?.block_on(publisher::check_connectivity(&settings.segment))? {
        Ok(answer) => {
            println!("segment:  reached at {} ({answer})", settings.segment.endpoint);
            println!("Segment answers before it looks at the write key: whether that is right shows in its debugger.");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("segment:  {error} at {}", settings.segment.endpoint);
            Ok(ExitCode::FAILURE)
        }
    }
}
