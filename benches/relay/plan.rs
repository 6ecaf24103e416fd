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
    /// The relay, Segment 50 ms away
    Away,
    /// The same at half of that throughput, requests coming at a fixed rate
    Half,
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

/// A round.
const PLAN: [Measurement; 9] = [
    Measurement { scene: Scene::Bare, callers: 512 },
    Measurement { scene: Scene::Relay, callers: 512 },
    Measurement { scene: Scene::Bare, callers: 2_000 },
    Measurement { scene: Scene::Relay, callers: 2_000 },
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
            Scene::Away => "relay, Segment 50 ms away",
            Scene::Half => "the same at half load",
        })
    }
}

/// The numbers of every round.
pub type Rounds = Vec<(Measurement, Vec<Numbers>)>;

/// Makes all measurements that are wanted.
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
            let new = measure(&options.relay, *measurement, options.duration(), rate)
                .with_context(|| format!("round {round}"))?;
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
    let Numbers { requests_per_second, p50, p99, cpu, accepted, failed, .. } = numbers;
    let callers = measurement.callers;
    print!("round {round}: {measurement}, {callers} callers: {requests_per_second:.0}/s, ");
    print!("p50 {p50:.2} ms, p99 {p99:.2} ms, {cpu:.1} us CPU a request");
    match measurement.scene {
        Scene::Bare => println!("; {failed} not 200"),
        _ => println!("; {failed} not 200; checked: {accepted} answers 200, as many calls accepted"),
    }
}
