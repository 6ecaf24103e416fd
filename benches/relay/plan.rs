//! What is measured, and in which order: all measurements in turn, round after round.

use std::fmt;

use anyhow::Context;
use clap::ValueEnum;

use super::measure::{Numbers, measure};
use super::options::Options;

/// What a measurement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scene {
    /// A bare handler
    Bare,
    /// The relay, Segment answering at once
    Relay,
    /// The relay with an outbox, Segment answering at once
    Outbox,
    /// The relay, a trace of each request, Segment answering at once
    Traced,
    /// The relay, a trace of one request in a hundred, Segment answering at once
    Sampled,
    /// The relay with an outbox, a trace of each request, Segment answering at once
    TracedOutbox,
    /// The relay, Segment 50 ms away
    Away,
    /// The same at half of that throughput, requests coming at a fixed rate
    Half,
    /// Many customers, a thousand a request and one a request, with and without an outbox: behind the rounds
    Several,
    /// The relay with an outbox, Segment down, and what comes after: once, behind all others
    Backlog,
    /// One, two and three relays with one outbox in PostgreSQL, and one with a file: behind all others
    Fleet,
}

impl Scene {
    /// The status of a success.
    pub fn success(self) -> u16 {
        match self {
            Self::Outbox | Self::TracedOutbox | Self::Backlog | Self::Fleet => 202,
            Self::Bare | Self::Relay | Self::Traced | Self::Sampled | Self::Away | Self::Half | Self::Several => 200,
        }
    }

    /// Whether the rounds measure it with an outbox.
    pub fn has_outbox(self) -> bool {
        matches!(self, Self::Outbox | Self::TracedOutbox)
    }

    /// The share of the requests that have a trace, if there are any.
    pub fn traced(self) -> Option<&'static str> {
        match self {
            Self::Traced | Self::TracedOutbox => Some("1"),
            Self::Sampled => Some("0.01"),
            _ => None,
        }
    }
}

/// A scene and how many callers there are at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    pub scene: Scene,
    pub callers: usize,
}

/// The callers whose throughput is what the relay can do when Segment is away; the half load is half of it.
pub const FULL: Measurement = Measurement { scene: Scene::Away, callers: 2_000 };

/// The half load; its callers are connections.
pub const HALF: Measurement = Measurement { scene: Scene::Half, callers: 2_000 };

/// Requests with many customers, which are no part of a round.
pub const SEVERAL: Measurement = Measurement { scene: Scene::Several, callers: 1 };

/// The backlog, which is no part of a round.
pub const BACKLOG: Measurement = Measurement { scene: Scene::Backlog, callers: 512 };

/// Several relays, which are no part of a round.
pub const FLEET: Measurement = Measurement { scene: Scene::Fleet, callers: 510 };

/// A round.
const PLAN: [Measurement; 14] = [
    Measurement { scene: Scene::Bare, callers: 512 },
    Measurement { scene: Scene::Relay, callers: 512 },
    Measurement { scene: Scene::Outbox, callers: 512 },
    Measurement { scene: Scene::Traced, callers: 512 },
    Measurement { scene: Scene::Sampled, callers: 512 },
    Measurement { scene: Scene::TracedOutbox, callers: 512 },
    Measurement { scene: Scene::Bare, callers: 2_000 },
    Measurement { scene: Scene::Relay, callers: 2_000 },
    Measurement { scene: Scene::Outbox, callers: 2_000 },
    Measurement { scene: Scene::Away, callers: 1 },
    Measurement { scene: Scene::Away, callers: 16 },
    Measurement { scene: Scene::Away, callers: 256 },
    FULL,
    HALF,
];

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scene {
            Scene::Bare => "bare handler",
            Scene::Relay => "relay, Segment at once",
            Scene::Outbox => "relay with outbox, Segment at once",
            Scene::Traced => "relay, every request traced",
            Scene::Sampled => "relay, one request in 100 traced",
            Scene::TracedOutbox => "relay with outbox, every request traced",
            Scene::Away => "relay, Segment 50 ms away",
            Scene::Half => "the same at half load",
            Scene::Several => "a thousand customers a request",
            Scene::Backlog => "relay with outbox, Segment down",
            Scene::Fleet => "several relays with one outbox",
        })
    }
}

/// The numbers of every round.
pub type Rounds = Vec<(Measurement, Vec<Numbers>)>;

/// Makes all measurements of the rounds that are wanted.
///
/// # Errors
/// If one of them fails.
pub fn run(options: &Options) -> anyhow::Result<Rounds> {
    let wanted = |measurement: &Measurement| options.wants(measurement.scene, measurement.callers);
    let needed = |m: &Measurement| *m == FULL && options.rate.is_none() && wanted(&HALF);
    let mut rounds: Rounds = PLAN.into_iter().filter(|m| wanted(m) || needed(m)).map(|m| (m, Vec::new())).collect();
    for round in 1..=options.rounds() {
        let mut full = 0.0;
        for (measurement, numbers) in &mut rounds {
            let rate = options.rate.unwrap_or(full / 2.0);
            let new = measure(options, *measurement, rate).with_context(|| format!("round {round}"))?;
            if *measurement == FULL {
                full = new.requests_per_second;
            }
            if !options.markdown {
                progress(round, *measurement, &new);
            }
            numbers.push(new);
        }
    }
    Ok(rounds)
}

fn progress(round: usize, measurement: Measurement, numbers: &Numbers) {
    let Numbers { requests_per_second, p50, p99, cpu, succeeded, failed, waiting, drain, .. } = numbers;
    let Measurement { scene, callers } = measurement;
    let success = scene.success();
    print!("round {round}: {measurement}, {callers} callers: {requests_per_second:.0}/s, ");
    print!("p50 {p50:.2} ms, p99 {p99:.2} ms, {cpu:.1} us CPU a request; {failed} not {success}");
    if scene != Scene::Bare {
        print!("; checked: {succeeded} answers {success}, as many calls accepted");
    }
    if scene.has_outbox() {
        print!(", the last {waiting:.0} within {drain:.2} s after the load");
    }
    println!();
}
