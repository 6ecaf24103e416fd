//! How many lines of one kind are written in a second. Those beyond are counted, and one line tells their number.
//!
//! Callers cause lines, so without a limit one connection fills a disk. Lines of a kind come from one place in the source and
//! have the same `code`, so that a flood of one kind hides no other: neither Segment's troubles nor what another sender did.

use std::collections::HashMap;
use std::fmt::Debug;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// The name of events of which every line is written. No caller without the operators' token can cause one, but for the lines
/// that tell how many were left out: one a second of each kind.
pub const EVERY_LINE: &str = "every line";

/// Where the lines come from that tell how many were left out.
pub(super) const TARGET: &str = module_path!();

/// Lines of one kind within [`PERIOD`]: enough to see what happens. A line takes some 300 bytes, so one kind takes at most half a
/// gigabyte a day.
pub(super) const MAX_LINES: u32 = 20;

/// Short, so that a burst leaves few lines out, and long enough to count a flood in few lines.
const PERIOD: Duration = Duration::from_secs(1);

/// The lines of each kind that were written and left out.
pub(super) struct LineLimit {
    max_lines: u32,
    /// One for each place in the source and `code`: the codes are a few words of the program's own.
    kinds: Mutex<HashMap<(Identifier, String), Kind>>,
    left_out: AtomicU64,
    /// Some lines were left out that no line has told yet.
    untold: Notify,
}

struct Kind {
    level: Level,
    period_began: Instant,
    written: u32,
    /// Since the last line that told the number.
    left_out: u64,
    message: String,
}

impl LineLimit {
    pub(super) fn new(max_lines: u32) -> Self {
        Self { max_lines, kinds: Mutex::default(), left_out: AtomicU64::new(0), untold: Notify::new() }
    }

    /// Whether this line is written.
    fn admit(&self, event: &Event<'_>, now: Instant) -> bool {
        let mut text = EventText::default();
        event.record(&mut text);
        let EventText { code, message } = text;
        let metadata = event.metadata();
        let first = || Kind { level: *metadata.level(), period_began: now, written: 0, left_out: 0, message };
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry((metadata.callsite(), code)).or_insert_with(first);
        if now.saturating_duration_since(kind.period_began) >= PERIOD {
            (kind.period_began, kind.written) = (now, 0);
        }
        if kind.written < self.max_lines {
            kind.written += 1;
            return true;
        }
        if kind.left_out == 0 {
            self.untold.notify_one();
        }
        kind.left_out += 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Tells of each kind how many lines were left out, until it is dropped.
    pub(super) async fn tell(&self) {
        loop {
            self.untold.notified().await;
            tokio::time::sleep(PERIOD).await;
            self.tell_now();
        }
    }

    /// Tells of each kind how many lines were left out since the last time. The line has the level of those that it is about.
    pub(super) fn tell_now(&self) {
        for (level, of, code, count) in self.take_untold() {
            let code = Some(code).filter(|code| !code.is_empty());
            match level {
                Level::ERROR => tracing::error!(name: EVERY_LINE, count, of, code, "lines were left out"),
                Level::WARN => tracing::warn!(name: EVERY_LINE, count, of, code, "lines were left out"),
                _ => tracing::info!(name: EVERY_LINE, count, of, code, "lines were left out"),
            }
        }
    }

    fn take_untold(&self) -> Vec<(Level, String, String, u64)> {
        let mut kinds = self.kinds.lock();
        let untold = kinds.iter_mut().filter(|(_, kind)| kind.left_out > 0);
        untold
            .map(|((_, code), kind)| (kind.level, kind.message.clone(), code.clone(), mem::take(&mut kind.left_out)))
            .collect()
    }

    /// The number of lines that were left out since the last call of this.
    pub(super) fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

/// What of an event says which kind it is.
#[derive(Default)]
struct EventText {
    code: String,
    message: String,
}

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "code" {
            value.clone_into(&mut self.code);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

/// The limit as a filter. It is asked after those that know levels and modules, and only about lines that these let pass.
pub(super) struct LimitFilter(pub(super) Arc<LineLimit>);

impl<S> Filter<S> for LimitFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        event.metadata().name() == EVERY_LINE || self.0.admit(event, Instant::now())
    }
}
