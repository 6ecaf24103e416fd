//! `segment-relay parked`: lists the users whose first waiting call fails on its own, tries their calls now or gives them up,
//! through the running relay.

mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::dead_letters::table::escape_json;
use super::operate::{self, for_each, parse};
use super::output::print;
use super::relay_client::RelayClient;
use table::ParkedPage;

const GIVEN_UP: &str = "A call that is given up becomes a dead letter, and the user's later calls go on.";

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: ParkedCommand,
    /// The running relay, instead of the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT on this machine
    #[arg(long, value_name = "BASE", global = true)]
    url: Option<String>,
}

#[derive(Subcommand)]
enum ParkedCommand {
    /// Lists parked users, newest first
    List {
        /// How many, at most 1000
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only those with smaller ids: the next page
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// Only this user
        #[arg(long, value_name = "ID")]
        user_id: Option<String>,
        /// Print each parked user as the relay's JSON object, one on each line
        #[arg(long)]
        json: bool,
    },
    /// Tries the first calls of parked users now
    Retry(Whom),
    /// Makes the first calls of parked users dead letters
    #[command(after_help = GIVEN_UP)]
    GiveUp(Whom),
}

/// Which parked users are meant.
#[derive(Args)]
struct Whom {
    /// The ids that `list` shows
    #[arg(value_name = "ID", required_unless_present_any = ["all", "status", "source", "user_id"], conflicts_with_all = ["all", "status", "source", "user_id"])]
    ids: Vec<i64>,
    /// All who are parked now
    #[arg(long, conflicts_with_all = ["status", "source", "user_id"])]
    all: bool,
    /// Those whose last answer had this status
    #[arg(long, value_parser = clap::value_parser!(u16).range(100..=999))]
    status: Option<u16>,
    /// Those whose failing call came by this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// This user
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    operate::run(arguments.url.as_deref(), async |relay| execute(relay, &arguments.command).await)
}

async fn execute(relay: &RelayClient, command: &ParkedCommand) -> anyhow::Result<ExitCode> {
    match command {
        ParkedCommand::List { limit, before, user_id, json } => {
            list(relay, *limit, *before, user_id.as_deref(), *json).await
        }
        ParkedCommand::Retry(whom) => act(relay, whom, "retry", "retried").await,
        ParkedCommand::GiveUp(whom) => act(relay, whom, "give-up", "gave up").await,
    }
}

async fn list(
    relay: &RelayClient,
    limit: usize,
    before: Option<i64>,
    user_id: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut query = Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    query.extend_pairs(before.map(|id| ("before", id.to_string())));
    query.extend_pairs(user_id.map(|id| ("userId", id)));
    let path = format!("/parked?{}", query.finish());
    let page: ParkedPage = parse(&relay.request_text(Method::GET, &path).await?)?;
    let more = |next| format!("There are more: segment-relay parked list --limit {limit} --before {next}");
    let more = page.next.map(more);
    if json {
        for user in &page.parked {
            print(escape_json(user.get()))?;
        }
        // Standard output has nothing but JSON.
        more.iter().for_each(|more| eprintln!("{more}"));
    } else {
        print(table::render(&page.parked)?)?;
        if let Some(more) = more {
            print(format_args!("\n{more}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does `verb`, the last segment of the path, to these users' calls.
async fn act(relay: &RelayClient, whom: &Whom, verb: &str, done: &str) -> anyhow::Result<ExitCode> {
    if !whom.ids.is_empty() {
        return for_each(relay, &whom.ids, done, Method::POST, |id| format!("/parked/{id}/{verb}")).await;
    }
    let mut query = Serializer::new(String::new());
    query.extend_pairs(whom.status.map(|status| ("status", status.to_string())));
    query.extend_pairs(whom.source.as_ref().map(|source| ("source", source)));
    query.extend_pairs(whom.user_id.as_ref().map(|id| ("userId", id)));
    let path = format!("/parked/{verb}?{}", query.finish());
    let Count { count } = parse(&relay.request_text(Method::POST, &path).await?)?;
    print(format_args!("{done} {count} {}", if count == 1 { "call" } else { "calls" }))?;
    Ok(ExitCode::SUCCESS)
}

/// The answer to `retry` or `give-up`.
#[derive(Deserialize)]
struct Count {
    #[serde(alias = "retried", alias = "gaveUp")]
    count: u64,
}

#[cfg(test)]
mod tests {
    use super::{Count, parse};

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        assert_eq!(parse::<Count>(r#"{"retried":7}"#).unwrap().count, 7);
        assert_eq!(parse::<Count>(r#"{"gaveUp":8}"#).unwrap().count, 8);
        assert!(parse::<Count>(r#"{"replayed":7}"#).is_err() && parse::<Count>("<html>").is_err());
    }
}
