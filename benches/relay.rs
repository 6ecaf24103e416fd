//! What the relay costs and how long its callers wait: `cargo bench`, and nothing but Rust is needed.
//!
//! Every measurement starts its own processes: the server that is measured, and for the relay a sandbox as Segment. The
//! measurements take turns for several rounds, so that a busy machine hurts all of them alike; the table shows medians.
//! Load, server and sandbox share the machine's cores: compare numbers of one run with each other, not with those of
//! another machine. Every answer is looked at, and after each measurement of the relay the calls that the sandbox
//! accepted must be as many as the answers 200; with an outbox, as the answers 202, once all is delivered. Otherwise the
//! bench fails.
//!
//! Behind the rounds comes what a sender of many customers gains by requests with a thousand of them. Then comes, once, what
//! a relay with an outbox does while Segment is down: a backlog of a million calls is stored, the relay is killed and
//! started again, Segment comes back, and all is delivered. Last come several relays with one outbox in PostgreSQL, if it is installed
//! (`tests/tools/postgres`).
//!
//! Flags go behind `--`: `cargo bench -- --rounds 3 --seconds 2 --only bare,relay`, or `--only backlog --backlog 100000`.
//! It does not measure TLS, authentication, or what a power cut leaves behind.

#[path = "relay/backlog.rs"]
mod backlog;
#[path = "relay/bare.rs"]
mod bare;
#[path = "../tests/harness/postgres.rs"]
mod cluster;
#[path = "relay/drain.rs"]
mod drain;
#[path = "relay/exchange.rs"]
mod exchange;
#[path = "relay/fleet.rs"]
mod fleet;
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
#[path = "relay/several.rs"]
mod several;
#[path = "relay/store.rs"]
mod store;
#[path = "relay/table.rs"]
mod table;

use clap::Parser;

use options::{Options, Part};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match options.part {
        Some(Part::Bare) => bare::serve(),
        None => {
            report::report(&options, &plan::run(&options)?);
            several::run(&options)?;
            backlog::run(&options)?;
            fleet::run(&options)
        }
    }
}
