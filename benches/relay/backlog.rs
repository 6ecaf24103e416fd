//! Segment is down, and a backlog grows on disk; the relay is killed and started again; Segment comes back.
//!
//! The two lives are two processes: what the second one knows it has read from the disk. Afterwards the sandbox must
//! have as many different calls as there were answers 202; repeats are allowed here, and are counted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::drain::{Drain, TICK};
use super::load::{Amount, Load, Tally, fill};
use super::options::Options;
use super::plan::{BACKLOG, Scene};
use super::server::Server;
use super::store::Store;
use super::table::{table, thousands};

/// How many users each caller asks about: some 100,000 in all, each with ten calls in a million.
const USERS_A_CALLER: u64 = 195;

/// The part of the calls after which memory is looked at for the first time: it must not grow with the backlog.
const EARLY: u64 = 100;

/// Down.
const DOWN: &str = r#"{"status":503}"#;

/// How long after a start the memory is looked at: long enough for a first look at what waits.
const SETTLED: Duration = Duration::from_secs(1);

/// The most memory with a million calls waiting, in MiB.
const MEMORY: &str = "at most 100";

/// Measures the backlog and prints its table, if it is wanted.
///
/// # Errors
/// If a process cannot be started, an answer is not 202, or calls are lost or made up.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.wants(Scene::Backlog, BACKLOG.callers) {
        return Ok(());
    }
    if !options.markdown {
        println!("\nbacklog: {} calls are stored, then delivered", thousands(options.backlog() as f64));
    }
    let sandbox = Server::sandbox(&options.relay)?;
    sandbox.set_faults(DOWN)?;
    let store = Store::new(&options.disk)?;
    let stored = store_all(options, &sandbox, &store)?;
    let delivered = deliver_all(options, &sandbox, &store, stored.calls)?;
    println!();
    table(&rows(&stored, &delivered));
    let Drain { stats, .. } = &delivered.drain;
    println!(
        "\n- checked: {} answers 202, as many different calls accepted by the sandbox; {} of them came twice",
        thousands(stored.calls as f64),
        thousands(stats.duplicates as f64)
    );
    Ok(())
}

/// A process's life, from when it was ready to its end.
struct Life {
    /// MiB.
    memory: f64,
    peak: f64,
    cpu: Duration,
    /// Bytes to disk.
    written: f64,
}

impl Life {
    fn of(relay: &Server) -> Self {
        Self { memory: relay.memory(), peak: relay.peak_memory(), cpu: relay.cpu(), written: relay.written() }
    }
}

/// The first life.
struct Stored {
    calls: u64,
    tally: Tally,
    took: Duration,
    /// MiB when few calls were waiting.
    early_memory: f64,
    /// Bytes of the outbox's files.
    bytes: u64,
    life: Life,
}

fn store_all(options: &Options, sandbox: &Server, store: &Store) -> anyhow::Result<Stored> {
    let relay = Server::relay(&options.relay, sandbox, Some(&store.url()), None)?;
    relay.wait_until_ready()?;
    let callers = BACKLOG.callers;
    let load = Load { server: relay.address, callers, success: Scene::Backlog.success() };
    let calls = options.backlog();
    let fill = |requests| fill(load, Amount { requests, users: USERS_A_CALLER });
    let (few, took_few) = fill(calls / EARLY)?;
    let early_memory = relay.memory();
    let (mut tally, took) = fill(calls - calls / EARLY)?;
    tally.merge(&few);
    if tally.succeeded != calls {
        bail!("of {calls} answers {} were 202, and {} were not", tally.succeeded, tally.failed);
    }
    let accepted = sandbox.stats()?.accepted_calls;
    if accepted > 0 {
        bail!("Segment is down, and accepted {accepted} calls");
    }
    // The relay is dropped with this, which is kill -9.
    let (took, bytes, life) = (took_few + took, store.bytes()?, Life::of(&relay));
    Ok(Stored { calls, tally, took, early_memory, bytes, life })
}

/// The second life.
struct Delivered {
    ready: Duration,
    /// MiB when it had started.
    memory: f64,
    drain: Drain,
    life: Life,
}

fn deliver_all(options: &Options, sandbox: &Server, store: &Store, calls: u64) -> anyhow::Result<Delivered> {
    let began = Instant::now();
    let relay = Server::relay(&options.relay, sandbox, Some(&store.url()), None)?;
    relay.wait_until_ready()?;
    let ready = began.elapsed();
    sleep(SETTLED);
    let memory = relay.memory();
    sandbox.set_faults("{}")?;
    let drain = Drain::watch(sandbox, calls)?;
    Ok(Delivered { ready, memory, drain, life: Life::of(&relay) })
}

fn rows(stored: &Stored, delivered: &Delivered) -> Vec<Vec<String>> {
    let calls = stored.calls as f64;
    let each = |life: &Life| life.cpu.as_secs_f64() * 1e6 / calls;
    let drain = &delivered.drain;
    let draining = drain.all.saturating_sub(drain.first).max(TICK).as_secs_f64();
    let mib = |memory: f64| format!("{memory:.0} MiB");
    let users = stored.calls.min(USERS_A_CALLER * BACKLOG.callers as u64);
    let head = format!("backlog of {} calls of {} users", thousands(calls), thousands(users as f64));
    let rows = [
        (head.as_str(), format!("{} callers", BACKLOG.callers), "target"),
        ("stored while Segment is down", format!("{}/s", thousands(calls / stored.took.as_secs_f64())), ""),
        ("until 202, p50", format!("{:.2} ms", stored.tally.latency.quantile(0.50)), ""),
        ("until 202, p99", format!("{:.2} ms", stored.tally.latency.quantile(0.99)), ""),
        ("until 202, p99.9", format!("{:.2} ms", stored.tally.latency.quantile(0.999)), ""),
        ("memory with a hundredth of them waiting", mib(stored.early_memory), MEMORY),
        ("memory with all of them waiting", mib(stored.life.memory), MEMORY),
        ("the most so far", mib(stored.life.peak), MEMORY),
        ("the outbox's files, a call", format!("{} bytes", thousands(stored.bytes as f64 / calls)), ""),
        ("started again after kill -9, until ready", format!("{:.2} s", delivered.ready.as_secs_f64()), "seconds"),
        ("memory a second later", mib(delivered.memory), MEMORY),
        ("Segment is back, until the first call arrives", format!("{:.2} s", drain.first.as_secs_f64()), ""),
        ("from then until the last", format!("{draining:.2} s"), ""),
        ("delivered", format!("{}/s", thousands(calls / draining)), ""),
        ("the most memory since the start", mib(delivered.life.peak), MEMORY),
        ("CPU to store a call", format!("{:.1} us", each(&stored.life)), ""),
        ("CPU to deliver it", format!("{:.1} us", each(&delivered.life)), ""),
        ("written to disk to store a call", format!("{} bytes", thousands(stored.life.written / calls)), ""),
        ("written to disk to deliver it", format!("{} bytes", thousands(delivered.life.written / calls)), ""),
    ];
    rows.map(|(what, number, target)| vec![what.to_owned(), number, target.to_owned()]).to_vec()
}
