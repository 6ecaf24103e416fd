//! What the operators' commands share: how they run, and what they make of the relay's answers.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::output::print;
use super::relay_client::RelayClient;
use super::runtime::runtime;

/// Runs a command that asks the relay at `url`, or else the relay on this machine.
pub(super) fn run(
    url: Option<&str>,
    command: impl AsyncFnOnce(&RelayClient) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let relay = RelayClient::new(url)?;
    match runtime()?.block_on(command(&relay)) {
        // The reader of the output, such as `head`, needs no more of it.
        Err(error) if is_io(&error, io::ErrorKind::BrokenPipe) => Ok(ExitCode::SUCCESS),
        result => result,
    }
}

/// Sends a request for each id, and prints `done` with the id. A missing id does not stop the others; any other error does.
pub(super) async fn for_each(
    relay: &RelayClient,
    ids: &[i64],
    done: &str,
    method: Method,
    path: impl Fn(i64) -> String,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match relay.request_text(method.clone(), &path(*id)).await {
            Ok(_) => print(format_args!("{done} {id}"))?,
            Err(error) if is_io(&error, io::ErrorKind::NotFound) => {
                eprintln!("segment-relay: {id}: {error}");
                code = ExitCode::FAILURE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}

/// Reads the relay's answer.
pub(super) fn parse<T: DeserializeOwned>(answer: &str) -> anyhow::Result<T> {
    serde_json::from_str(answer).context("the answer is not that of a relay")
}

fn is_io(error: &anyhow::Error, kind: io::ErrorKind) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind)
}
