//! Logs: JSON lines, or text on a terminal. A thread of its own writes them, so that a slow reader never stops the service.
//!
//! The code that logs a line must keep traits, user ids, secrets and Segment's messages out of it. A panic is logged with its
//! place but without its message, which might hold any of these. Dependencies log at `info` at most, whatever the filter
//! says: below that level h2 logs what callers sent, and other dependencies may do so too.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{LogFormat, LogSettings};

/// The maximum number of lines that wait to be written, at most some tens of MiB. Further lines are dropped.
const MAX_LINES: usize = 65_536;

/// Starts logging to standard output. Dropping the guard writes the waiting lines and ends the thread.
///
/// # Errors
/// If the filter is wrong or logging was started before.
pub fn start(settings: &LogSettings) -> anyhow::Result<WorkerGuard> {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_LINES).lossy(true).finish(std::io::stdout());
    let terminal = std::io::stdout().is_terminal();
    let format = settings.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let ours = filter_fn(|line| line.target().starts_with(env!("CARGO_CRATE_NAME")) || *line.level() <= Level::INFO)
        // Without the hint every line of every dependency would be checked, even if the filter excludes its level.
        .with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::try_new(&settings.filter)?.and(ours);
    let lines = fmt::layer().with_writer(writer).with_ansi(terminal);
    let started = match format {
        LogFormat::Json => registry().with(lines.json().flatten_event(true).with_filter(filter)).try_init(),
        LogFormat::Text => registry().with(lines.with_filter(filter)).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    Ok(guard)
}
