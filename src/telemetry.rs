//! Logs and traces. Logs are JSON lines, or text on a terminal. A thread of its own writes them, so that a slow reader never stops
//! the service.
//!
//! The code that logs a line must keep traits, user ids, secrets and Segment's messages out of it, and whatever else a caller
//! makes as long as it likes. A panic is logged with its place but without its message, which might hold any of these.
//! Dependencies log at `info` at most, whatever the filter says: below that level h2 logs what callers sent, and other
//! dependencies may do so too.

mod limit;
mod traces;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{LogFormat, LogSettings, TraceSettings};
use limit::{LimitFilter, LineLimit, MAX_LINES};
use traces::Traces;

pub use limit::EVERY_LINE;
pub use traces::{DeliverySpan, RequestSpan, TARGET, TraceContext, are_on, continue_from, export_one_span};

/// The maximum number of lines that wait to be written: at most some MiB, and a flood's lines of several minutes. Further lines
/// are dropped.
const MAX_UNWRITTEN: usize = 8_192;

/// The log as long as it is written, and the traces as long as they are exported. Dropping it exports and writes what waits, and
/// ends the threads.
pub struct Logs {
    lines: Arc<LogLines>,
    /// Before the log, which gets the exporter's lines.
    _traces: Option<Traces>,
    _writer: WorkerGuard,
}

/// What is known of the lines that the log lacks.
pub struct LogLines {
    limit: Arc<LineLimit>,
    dropped: ErrorCounter,
    /// The number of dropped lines that [`take_dropped`](Self::take_dropped) has returned.
    taken: AtomicUsize,
}

/// Starts logging to standard output, and exporting traces. It is called outside of the runtime.
///
/// A filter that asks for lines below `info` gets every line. Otherwise each kind of line has a limit.
///
/// # Errors
/// If the filter is wrong, traces cannot be exported, or logging was started before.
pub fn start(settings: &LogSettings, traces: Option<&TraceSettings>) -> anyhow::Result<Logs> {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_UNWRITTEN).lossy(true).finish(std::io::stdout());
    let dropped = writer.error_counter();
    let terminal = std::io::stdout().is_terminal();
    let format = settings.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let filter = EnvFilter::try_new(&settings.filter)?;
    let asks_for_all = filter.max_level_hint().is_none_or(|level| level > LevelFilter::INFO);
    let limit = Arc::new(LineLimit::new(if asks_for_all { u32::MAX } else { MAX_LINES }));
    let is_ours = |target: &str| target.starts_with(env!("CARGO_CRATE_NAME"));
    // The exporter of traces logs what its receiver says as a warning, and only there.
    let of_receiver = |target: &str| target == "opentelemetry-otlp";
    let most = move |target: &str| if of_receiver(target) { Level::ERROR } else { Level::INFO };
    let ours =
        filter_fn(move |line| line.is_event() && (is_ours(line.target()) || *line.level() <= most(line.target())))
            // Without the hint every line of every dependency would be checked, even if the filter excludes its level.
            .with_max_level_hint(LevelFilter::TRACE);
    // The filter let the lines pass that were left out, so it must not hide their number.
    let numbers = filter_fn(|line| line.target() == limit::TARGET && *line.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    let filter = filter.and(ours).or(numbers).and(LimitFilter(limit.clone()));
    let lines = fmt::layer().with_writer(writer).with_ansi(terminal);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_filter(filter).boxed(),
    };
    let (spans, traces) = traces.map(traces::layer).transpose()?.unzip();
    let started = registry().with(lines).with(spans).try_init();
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    let lines = Arc::new(LogLines { limit, dropped, taken: AtomicUsize::new(0) });
    Ok(Logs { lines, _traces: traces, _writer: guard })
}

impl Logs {
    /// What is known of the lines that the log lacks.
    pub fn lines(&self) -> Arc<LogLines> {
        self.lines.clone()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.lines.limit.tell_now();
    }
}

impl LogLines {
    /// Logs how many lines of a kind were left out, a second after the first of them, until it is dropped.
    pub async fn tell_left_out(&self) {
        self.limit.tell().await;
    }

    /// The number of lines that were left out since the last call of this, because there were too many of their kind.
    pub fn take_left_out(&self) -> u64 {
        self.limit.take_left_out()
    }

    /// The number of lines that were dropped since the last call of this, because nobody read the output in time.
    pub fn take_dropped(&self) -> u64 {
        let dropped = self.dropped.dropped_lines();
        let taken = self.taken.fetch_max(dropped, Ordering::Relaxed);
        u64::try_from(dropped.saturating_sub(taken)).unwrap_or(u64::MAX)
    }
}
