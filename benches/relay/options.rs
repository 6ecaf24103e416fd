//! The command line of the bench.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::plan::Scene;

/// What the relay costs over a bare handler, and how long its callers wait.
#[derive(Parser)]
#[command(name = "relay")]
pub struct Options {
    #[command(subcommand)]
    pub part: Option<Part>,
    /// How often every measurement is made; the table shows the medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one measurement takes, without its warm-up
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Only these measurements
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scene>,
    /// Only with so many callers
    #[arg(long, value_delimiter = ',')]
    callers: Vec<usize>,
    /// Requests a second of the half load, instead of half of what 2,000 callers reached
    #[arg(long)]
    pub rate: Option<f64>,
    /// How many calls the backlog has
    // The sandbox tells repeats as long as it remembers: two million calls.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    backlog: u64,
    /// Where the outbox is: on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY", default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub disk: PathBuf,
    /// Another build of the relay, to compare two of them
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_segment-relay"))]
    pub relay: PathBuf,
    /// Nothing but the tables, to be pasted
    #[arg(long)]
    pub markdown: bool,
    /// What cargo says when it benches; without it this is a short test of the bench itself
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this program is when the bench starts it again.
#[derive(Clone, Copy, Subcommand)]
pub enum Part {
    /// The handler that the relay is compared with
    #[command(hide = true)]
    Bare,
}

impl Options {
    pub fn rounds(&self) -> usize {
        if self.bench { self.rounds.max(1) } else { 1 }
    }

    /// How long one measurement takes.
    pub fn duration(&self) -> Duration {
        // A test of the bench only has to see every measurement work.
        let seconds = if self.bench { self.seconds } else { 0.3 };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1))
    }

    /// How many calls the backlog has.
    pub fn backlog(&self) -> u64 {
        // More than callers, so that each asks several times.
        if self.bench { self.backlog } else { 2_000 }
    }

    /// How many requests with a thousand customers are measured at once, and how many with one, on one connection.
    pub fn several(&self) -> (u64, u64) {
        if self.bench { (20, 1_000) } else { (2, 50) }
    }

    /// How often a relay that delivers ends in each way.
    pub fn take_overs(&self) -> u32 {
        if self.bench { 6 } else { 1 }
    }

    /// Whether this measurement is wanted.
    pub fn wants(&self, scene: Scene, callers: usize) -> bool {
        (self.only.is_empty() || self.only.contains(&scene))
            && (self.callers.is_empty() || self.callers.contains(&callers))
    }
}
