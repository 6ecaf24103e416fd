//! What the relay costs and how long its callers wait: `cargo bench`, and nothing but Rust is needed.
//!
//! Every measurement starts its own processes: the server that is measured, and for the relay a sandbox as Segment. The
//! measurements take turns for several rounds, so that a busy machine hurts all of them alike; the table shows medians.
//! Load, server and sandbox share the machine's cores: compare numbers of one run with each other, not with those of
//! another machine. Every answer is looked at, and after each measurement of the relay the calls that the sandbox accepted
//! must be as many as the answers 200; otherwise the bench fails.
//!
//! Flags go behind `--`: `cargo bench -- --rounds 3 --seconds 2 --only bare,relay`. It does not measure the outbox, TLS,
//! or a Segment that fails.

#[path = "relay/bare.rs"]
mod bare;
#[path = "relay/exchange.rs"]
mod exchange;
#[path = "relay/latency.rs"]
mod latency;
#[path = "relay/load.rs"]
mod load;
#[path = "relay/measure.rs"]
mod measure;
#[path = "relay/open_load.rs"]
mod open_load;
#[path = "relay/options.rs"]
mod options;
#[path = "relay/plan.rs"]
mod plan;
#[path = "relay/report.rs"]
mod report;
#[path = "relay/server.rs"]
mod server;

use clap::Parser;

use options::{Options, Part};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match options.part {
        Some(Part::Bare) => bare::serve(),
        None => report::report(&options, &plan::run(&options)?),
    }
}
