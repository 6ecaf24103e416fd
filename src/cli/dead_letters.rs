//! `segment-relay dead-letters`: lists, replays, discards and exports the calls that were not delivered, through the running
//! relay.

mod filter;
pub(super) mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;

use super::operate::{self, for_each, parse};
use super::output::print;
use super::relay_client::RelayClient;
use filter::{Filter, query};
use table::DeadLetterPage;

const OLD_VALUES: &str = "A replayed call keeps its messageId and its old values. It goes behind the user's waiting \
                          calls, so it may overwrite newer values.";

/// Letters that an export asks for at once: 8 MiB of the largest.
const EXPORT_PAGE: usize = 250;

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
        #[command(flatten)]
        filter: Filter,
        /// Print each dead letter as the relay's JSON object, calls included, one on each line
        #[arg(long)]
        json: bool,
    },
    /// Sends dead letters again
    #[command(after_help = OLD_VALUES)]
    Replay {
        /// The ids that `list` shows
        #[arg(value_name = "ID", required_unless_present_any = ["all", "Filter"], conflicts_with_all = ["all", "Filter"])]
        ids: Vec<i64>,
        /// All dead letters that are there now
        #[arg(long, conflicts_with = "Filter")]
        all: bool,
        #[command(flatten)]
        filter: Filter,
        /// At most so many a second, in the background: the command does not wait for the end
        #[arg(long, value_name = "N", conflicts_with = "ids")]
        per_second: Option<u32>,
    },
    /// Deletes dead letters for good
    Discard {
        /// The ids that `list` shows
        #[arg(
            value_name = "ID",
            required_unless_present_any = ["all", "before", "Filter"],
            conflicts_with_all = ["all", "before", "Filter"]
        )]
        ids: Vec<i64>,
        /// All dead letters that are there now
        #[arg(long, conflicts_with_all = ["before", "Filter"])]
        all: bool,
        /// Only those with smaller ids
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Prints all dead letters that fit, newest first, each as the relay's JSON object on a line
    Export {
        /// Only those with smaller ids
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        #[command(flatten)]
        filter: Filter,
    },
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    operate::run(arguments.url.as_deref(), async |relay| execute(relay, &arguments.command).await)
}

async fn execute(relay: &RelayClient, command: &DeadLettersCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeadLettersCommand::List { limit, before, filter, json } => list(relay, *limit, *before, filter, *json).await,
        DeadLettersCommand::Replay { ids, filter, per_second, .. } if ids.is_empty() => {
            let path = format!("/dead-letters/replay{}", query(filter, &[("perSecond", per_second.map(i64::from))]));
            let ReplayAnswer { replayed } = parse(&relay.request_text(Method::POST, &path).await?)?;
            let calls = if replayed == 1 { "call" } else { "calls" };
            match per_second {
                None => print(format_args!("replayed {replayed} {calls}"))?,
                Some(pace) => print(format_args!("replaying {replayed} {calls}, {pace} a second"))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersCommand::Replay { ids, .. } => {
            for_each(relay, ids, "replayed", Method::POST, |id| format!("/dead-letters/{id}/replay")).await
        }
        DeadLettersCommand::Discard { ids, all, before, filter } if ids.is_empty() => {
            let query = if *all { "?all".to_owned() } else { query(filter, &[("before", *before)]) };
            let answer = relay.request_text(Method::DELETE, &format!("/dead-letters{query}")).await?;
            let DiscardAnswer { discarded } = parse(&answer)?;
            let letters = if discarded == 1 { "letter" } else { "letters" };
            print(format_args!("discarded {discarded} dead {letters}"))?;
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersCommand::Discard { ids, .. } => {
            for_each(relay, ids, "discarded", Method::DELETE, |id| format!("/dead-letters/{id}")).await
        }
        DeadLettersCommand::Export { before, filter } => export(relay, *before, filter).await,
    }
}

/// A page of those that fit. The relay's page may be short, so it asks until this one is full.
async fn page(
    relay: &RelayClient,
    limit: usize,
    before: Option<i64>,
    filter: &Filter,
) -> anyhow::Result<DeadLetterPage> {
    let mut page = DeadLetterPage { dead_letters: Vec::new(), next: before };
    loop {
        let rest = i64::try_from(limit.saturating_sub(page.dead_letters.len()))?;
        let path = format!("/dead-letters{}", query(filter, &[("limit", Some(rest)), ("before", page.next)]));
        let more: DeadLetterPage = parse(&relay.request_text(Method::GET, &path).await?)?;
        page.dead_letters.extend(more.dead_letters);
        page.next = more.next;
        if page.next.is_none() || page.dead_letters.len() >= limit {
            return Ok(page);
        }
    }
}

async fn list(
    relay: &RelayClient,
    limit: usize,
    before: Option<i64>,
    filter: &Filter,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let page = page(relay, limit, before, filter).await?;
    let more = |next| {
        let filter = if filter.is_empty() { "" } else { ", and the same filter" };
        format!("There are more: segment-relay dead-letters list --limit {limit} --before {next}{filter}")
    };
    let more = page.next.map(more);
    if json {
        for letter in &page.dead_letters {
            print(table::escape_json(letter.get()))?;
        }
        // Standard output has nothing but JSON.
        more.iter().for_each(|more| eprintln!("{more}"));
    } else {
        let nothing = if filter.is_empty() { "There are no dead letters." } else { "No dead letter fits." };
        print(table::render(&page.dead_letters, nothing)?)?;
        let warning = (!page.dead_letters.is_empty()).then_some(OLD_VALUES);
        for note in more.as_deref().into_iter().chain(warning) {
            print(format_args!("\n{note}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(relay: &RelayClient, mut before: Option<i64>, filter: &Filter) -> anyhow::Result<ExitCode> {
    loop {
        let page = page(relay, EXPORT_PAGE, before, filter).await?;
        for letter in &page.dead_letters {
            print(table::escape_json(letter.get()))?;
        }
        before = page.next;
        if before.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

#[derive(Deserialize)]
struct ReplayAnswer {
    replayed: u64,
}

#[derive(Deserialize)]
struct DiscardAnswer {
    discarded: u64,
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
