//! `segment-relay forget`: deletes what the running relay holds of a person.

use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::operate::{self, parse};
use super::output::print;

#[derive(Args)]
pub(super) struct Arguments {
    /// The userId of the person
    #[arg(value_name = "USER_ID")]
    user_id: String,
    /// Delete raw events that hold this text, too, such as an e-mail address. It can be given 16 times
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// The running relay, instead of the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT on this machine
    #[arg(long, value_name = "BASE")]
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Forgotten {
    waiting: u64,
    dead_letters: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut body = json!({"userId": arguments.user_id});
    if !arguments.texts.is_empty() {
        body["texts"] = json!(arguments.texts);
    }
    operate::run(arguments.url.as_deref(), async |relay| {
        let Forgotten { waiting, dead_letters } = parse(&relay.post_json("/forget", &body).await?)?;
        print(format_args!("deleted {waiting} waiting calls and {dead_letters} dead letters"))?;
        Ok(ExitCode::SUCCESS)
    })
}
