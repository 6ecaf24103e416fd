//! `segment-relay move --from sqlite:///... --to postgres://...`: moves the outbox of a stopped relay into a PostgreSQL database.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::output::{EXIT_USAGE, print};
use super::runtime::runtime;
use crate::config::{OutboxPlace, PostgresUrl, outbox_place, outbox_place_from_environment};
use crate::outbox::postgres::MoveTarget;
use crate::outbox::sqlite::MoveSource;
use crate::outbox::{MoveHead, MoveStep, PAGE_ROWS};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Arguments {
    /// The outbox of a relay that is stopped, as in RELAY_OUTBOX_URL: sqlite:///absolute/path
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database, postgres://...; without it RELAY_OUTBOX_URL, or the file that RELAY_OUTBOX_URL_FILE names, so that nobody reads
    /// the password in the list of processes
    #[arg(long, value_name = "URL")]
    to: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let from = match outbox_place(&arguments.from) {
        Ok(OutboxPlace::Sqlite(path)) => path,
        Ok(OutboxPlace::Postgres(_)) => return Ok(wrong("--from: must be sqlite:///absolute/path")),
        Err(_) => return Ok(wrong("--from: must be sqlite:///absolute/path")),
    };
    let to = match &arguments.to {
        Some(url) => match outbox_place(url) {
            Ok(place) => place,
            Err(problem) => return Ok(wrong(&format!("--to: {problem}"))),
        },
        None => outbox_place_from_environment()?,
    };
    let OutboxPlace::Postgres(to) = to else {
        return Ok(wrong("RELAY_OUTBOX_URL is not a database; name one with --to postgres://..."));
    };
    runtime()?.block_on(move_outbox(&from, &to))?;
    Ok(ExitCode::SUCCESS)
}

fn wrong(problem: &str) -> ExitCode {
    eprintln!("segment-relay: {problem}");
    ExitCode::from(EXIT_USAGE)
}

async fn move_outbox(from: &Path, to: &PostgresUrl) -> anyhow::Result<()> {
    let source = MoveSource::open(from)?;
    let mut target = MoveTarget::connect(to).await?;
    let to = to.to_string();
    let refused = || format!("the outbox cannot be moved to {to}");
    target.check(source.token()?).await.with_context(refused)?;
    let head = source.mark(&to)?;
    target.begin(&head).await.with_context(refused)?;
    let mut progress = Progress::new(&head);
    let (_, before) = target.progress();
    loop {
        let (at, moved) = target.progress();
        progress.show(moved);
        if at.step == MoveStep::Done {
            break;
        }
        let stored = match source.page(at, PAGE_ROWS)? {
            Some(page) => target.store(&page).await,
            None => target.end_step().await,
        };
        stored.context("the move was interrupted; run the same command to go on")?;
    }
    let (_, moved) = target.progress();
    drop(progress);
    // The exit code says the same to whoever does not read it.
    let _ = print(format_args!(
        "{moved} rows (calls, users, keys and dead letters) are in {to}, {} of them by this command. A relay does not start with {} any more. Delete it when relays run \
         with the database.",
        moved - before,
        from.display()
    ));
    Ok(())
}

/// A bar on a terminal, otherwise a line every 10 seconds, on standard error.
struct Progress {
    bar: Option<ProgressBar>,
    rows: u64,
    told_at: Instant,
}

impl Progress {
    fn new(head: &MoveHead) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(head.rows);
            let style =
                ProgressStyle::with_template("{bar:24} {percent}%  {human_pos} of {human_len} rows  {eta} left");
            // The template is right, so there is no error.
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        Self { bar, rows: head.rows, told_at: Instant::now() }
    }

    fn show(&mut self, moved: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(moved);
        } else if self.told_at.elapsed() >= LINE_EVERY {
            self.told_at = Instant::now();
            eprintln!("{moved} of {} rows are moved", self.rows);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
