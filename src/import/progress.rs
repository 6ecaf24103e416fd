//! How far an import is: a bar on a terminal, otherwise a line every 10 seconds, on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::counts::Counts;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Tells how far an import is.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    begun_at: Instant,
    told_at: Instant,
}

impl Progress {
    /// Of a file with so many bytes, if that is known.
    pub fn new(name: String, bytes: Option<u64>) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = if bytes.is_some() { "{bar:24} {percent}%  {msg}  {eta} left" } else { "{spinner} {msg}" };
            // The templates are right, so there is no error.
            ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style))
        });
        Self { bar, name, begun_at: now, told_at: now }
    }

    /// The file is read up to this byte.
    pub(super) fn at(&self, byte: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(byte);
        }
    }

    /// Shows the numbers if it is time, and why nothing goes on, if so.
    pub(super) fn show(&mut self, counts: &Counts, trouble: Option<&str>) {
        if self.bar.is_none() && self.told_at.elapsed() < LINE_EVERY {
            return;
        }
        self.told_at = Instant::now();
        let taken = counts.accepted + counts.stored;
        let lines = taken + counts.refused + counts.gave_up;
        let rate = lines as f64 / self.begun_at.elapsed().as_secs_f64().max(0.001);
        let refused = counts.refused + counts.gave_up;
        let trouble = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
        let line = format!("{lines} lines, {rate:.0} a second, {refused} refused{trouble}");
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => eprintln!("{}: {line}", self.name),
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
