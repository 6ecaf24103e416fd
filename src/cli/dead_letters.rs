//! `segment-relay dead-letters`: lists, replays and discards the calls that Segment refused, through the running relay.

pub(super) mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;

use super::operate::{self, for_each, parse};
use super::output::print;
use super::relay_client::RelayClient;
use table::DeadLetterPage;

const OLD_VALUES: &str = "A replayed call keeps its messageId and its old values. It goes behind the user's waiting \
                          calls, so it may overwrite newer values.";

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: DeadLettersCommand,
    /// The running relay, instead of the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT on this machine
    #[arg(long, value_name = "BASE", global = true)]
    url: Option<String>,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// Lists dead letters, newest first
    #[command(after_help = OLD_VALUES)]
    List {
        /// How many, at most 1000
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only those with smaller ids: the next page
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// Print each dead letter as the relay's JSON object, calls included, one on each line
        #[arg(long)]
        json: bool,
    },
    /// Sends dead letters again
    #[command(after_help = OLD_VALUES)]
    Replay {
        /// The ids that `list` shows
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All dead letters that are there now
        #[arg(long)]
        all: bool,
    },
    /// Deletes dead letters for good
    Discard {
        /// The ids that `list` shows
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
    },
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    operate::run(arguments.url.as_deref(), async |relay| execute(relay, &arguments.command).await)
}

async fn execute(relay: &RelayClient, command: &DeadLettersCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeadLettersCommand::List { limit, before, json } => list(relay, *limit, *before, *json).await,
        DeadLettersCommand::Replay { all: true, .. } => {
            let ReplayAnswer { replayed } = parse(&relay.request_text(Method::POST, "/dead-letters/replay").await?)?;
            print(format_args!("replayed {replayed} {}", if replayed == 1 { "call" } else { "calls" }))?;
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersCommand::Replay { ids, .. } => {
            for_each(relay, ids, "replayed", Method::POST, |id| format!("/dead-letters/{id}/replay")).await
        }
        DeadLettersCommand::Discard { ids } => {
            for_each(relay, ids, "discarded", Method::DELETE, |id| format!("/dead-letters/{id}")).await
        }
    }
}

async fn list(relay: &RelayClient, limit: usize, before: Option<i64>, json: bool) -> anyhow::Result<ExitCode> {
    let before = before.map(|id| format!("&before={id}")).unwrap_or_default();
    let path = format!("/dead-letters?limit={limit}{before}");
    let page: DeadLetterPage = parse(&relay.request_text(Method::GET, &path).await?)?;
    let more = |next| format!("There are more: segment-relay dead-letters list --limit {limit} --before {next}");
    let more = page.next.map(more);
    if json {
        for letter in &page.dead_letters {
            print(table::escape_json(letter.get()))?;
        }
        // Standard output has nothing but JSON.
        more.iter().for_each(|more| eprintln!("{more}"));
    } else {
        print(table::render(&page.dead_letters)?)?;
        let warning = (!page.dead_letters.is_empty()).then_some(OLD_VALUES);
        for note in more.as_deref().into_iter().chain(warning) {
            print(format_args!("\n{note}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct ReplayAnswer {
    replayed: u64,
}

#[cfg(test)]
mod tests {
    use super::{DeadLetterPage, ReplayAnswer, parse};

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        assert!(parse::<DeadLetterPage>("<html>").is_err() && parse::<ReplayAnswer>("{}").is_err());
        assert_eq!(parse::<ReplayAnswer>(r#"{"replayed":7}"#).unwrap().replayed, 7);
    }
}
