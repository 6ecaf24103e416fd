//! Logs: JSON lines, or text on a terminal, written aside so that a reader who is slow never stops the service.
//!
//! What may be in a line is the callers' business: never a trait, a user id, a secret or Segment's words. A panic is logged
//! with its place and not its message, which might hold any of these. Dependencies say no more than `info`, whatever the
//! filter asks for: below that h2 writes down what callers sent, and nobody promises what others will.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{LogFormat, LogSettings};

/// Lines that may wait to be written, some tens of MiB at the most; more are dropped.
const MAX_LINES: usize = 65_536;

/// Starts logging to standard output. What is logged is written until the guard is dropped.
///
/// # Errors
/// If the filter is wrong or logging was started before.
pub fn start(settings: &LogSettings) -> anyhow::Result<WorkerGuard> {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_LINES).lossy(true).finish(std::io::stdout());
    let terminal = std::io::stdout().is_terminal();
    let format = settings.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let ours = filter_fn(|line| line.target().starts_with(env!("CARGO_CRATE_NAME")) || *line.level() <= Level::INFO)
        // Without it every line of every dependency would be looked at, instead of those that the filter lets be.
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
