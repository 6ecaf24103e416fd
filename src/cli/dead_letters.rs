//! `segment-relay dead-letters`: the calls that Segment refused, seen to by asking the running relay.

mod relay;
mod table;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;

use super::serve::runtime;
use relay::Relay;

/// What everybody has to know who has a call sent again.
const OLD_VALUES: &str = "A replayed call carries the values of its time. It keeps its messageId and goes behind the calls \
                          of the same user that wait now, so it may put old values over newer ones.";

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The running relay, instead of the address of RELAY_LISTEN or PORT on this machine
    #[arg(long, value_name = "BASE", global = true)]
    url: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Shows them, newest first
    #[command(after_help = OLD_VALUES)]
    List {
        /// How many, at most 1000
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only those with smaller ids: the next page
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// The relay's answer as it is, one JSON document with the calls in it (jq -c '.deadLetters[]' makes lines of it)
        #[arg(long)]
        json: bool,
    },
    /// Sends them again
    #[command(after_help = OLD_VALUES)]
    Replay {
        /// Which, by the ids that `list` shows
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All that are there now
        #[arg(long)]
        all: bool,
    },
    /// Deletes them for good
    Discard {
        /// Which, by the ids that `list` shows
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
    },
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match ask(arguments) {
        // Whoever reads what is printed has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints a line.
fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

fn ask(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let relay = Relay::of(arguments.url.as_deref())?;
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List { limit, before, json } => list(&relay, *limit, *before, *json).await,
            Command::Replay { all: true, .. } => {
                let answer = relay.ask(Method::POST, "/dead-letters/replay").await?;
                say(format_args!("replayed {}", count(table::replayed(&answer)?)))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Replay { ids, .. } => {
                each(&relay, ids, "replayed", |id| (Method::POST, format!("/dead-letters/{id}/replay"))).await
            }
            Command::Discard { ids } => {
                each(&relay, ids, "discarded", |id| (Method::DELETE, format!("/dead-letters/{id}"))).await
            }
        }
    })
}

async fn list(relay: &Relay, limit: usize, before: Option<i64>, json: bool) -> anyhow::Result<ExitCode> {
    let before = before.map(|id| format!("&before={id}")).unwrap_or_default();
    let answer = relay.ask(Method::GET, &format!("/dead-letters?limit={limit}{before}")).await?;
    if json {
        say(table::harmless_json(&answer))?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = table::page(&answer)?;
    say(table::of(&page).trim_end())?;
    if let Some(next) = page.next {
        say(format_args!("\nThere are more: segment-relay dead-letters list --limit {limit} --before {next}"))?;
    }
    if !page.dead_letters.is_empty() {
        say(format_args!("\n{OLD_VALUES}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Does one thing to each. One that is not there does not keep the others from being done; any other trouble ends it.
async fn each(
    relay: &Relay,
    ids: &[i64],
    done: &str,
    request: impl Fn(i64) -> (Method, String),
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        let (method, path) = request(*id);
        match relay.ask(method, &path).await {
            Ok(_) => say(format_args!("{done} {id}"))?,
            Err(refused) if refused.is::<relay::NotFound>() => {
                eprintln!("segment-relay: {id}: {refused}");
                code = ExitCode::FAILURE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}

fn count(calls: u64) -> String {
    if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") }
}
