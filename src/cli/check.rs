//! `segment-relay check`: checks the settings, the sources and their examples, what the machine gives the relay, the outbox, the way
//! to Segment, and who is told. Each check has a row, always in the same order, and all problems are told at once.

mod database;
mod machine;
mod outbox;
mod receivers;
mod row;
mod settings;
mod sources;
mod stored;
mod table;
mod way;

use std::io::{IsTerminal, stderr, stdout};
use std::process::ExitCode;

use super::output::{EXIT_USAGE, print};
use super::runtime::runtime;
use crate::config::{self, Problems};
use crate::sources::settings::SourceTable;
use row::{Row, Verdict};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let checked = runtime.block_on(check());
    // A name server that does not answer keeps a thread of the runtime.
    runtime.shutdown_background();
    let (rows, problems) = checked?;
    let is_failed = rows.iter().any(|row| row.verdict() == Verdict::Failed);
    let shown =
        if arguments.json { table::json(&rows, !is_failed)? } else { table::render(&rows, table::terminal_width()) };
    // The exit code says the same to whoever does not read it.
    let _ = print(shown);
    if problems.lines().is_empty() {
        return Ok(if is_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    // The lines that `serve` prints, for scripts and logs. On a terminal the table has shown them.
    if !stdout().is_terminal() || !stderr().is_terminal() {
        eprintln!("{problems}");
    }
    Ok(ExitCode::from(EXIT_USAGE))
}

/// All rows, and the problems that stop the start with the exit code of wrong settings.
async fn check() -> anyhow::Result<(Vec<Row>, Problems)> {
    let (settings, mut problems) = match config::from_environment() {
        Ok(settings) => (settings, Problems::default()),
        Err(problems) => match config::as_far_as_right() {
            Some(settings) => (settings, problems),
            None => return Err(problems.into()),
        },
    };
    let (table, of_file) = match SourceTable::of(&settings) {
        Ok(table) => (Some(table), Problems::default()),
        Err(problems) => (None, problems),
    };
    let mut rows = settings::rows(&settings, &problems);
    rows.extend(machine::rows(&settings, &problems).await);
    let (of_sources, of_filters) = sources::rows(&settings, table.as_ref(), &of_file, &problems).await?;
    rows.extend(of_sources);
    rows.extend(outbox::rows(settings.outbox.as_ref(), table.as_ref(), &problems).await);
    rows.extend(way::rows(&settings.segment, &problems).await);
    rows.extend(receivers::rows(&settings, &problems).await);
    problems.extend(of_file);
    problems.extend(of_filters);
    Ok((rows, problems))
}
