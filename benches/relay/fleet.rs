//! Several relays with one outbox in PostgreSQL, against one relay with an outbox in a file: how many calls they accept, how long a
//! caller waits, how fast a backlog is delivered, and how long no relay delivers when the one that does so ends.
//!
//! The cluster is started by this bench, with default settings. It shares the machine's cores with all else.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::cluster::{Cluster, is_installed};
use super::drain::{Drain, TICK};
use super::load::{Amount, Load, Tally, closed, fill};
use super::options::Options;
use super::plan::{FLEET, Scene};
use super::report::middle;
use super::server::Server;
use super::store::Store;
use super::table::{table, thousands};

/// A commit takes 3 ms, as on a disk or a network that is slower than this machine's.
const SLOW_COMMITS: [&str; 2] = ["commit_delay=3000", "commit_siblings=0"];

/// Users each caller asks about while a backlog grows.
const USERS_A_CALLER: u64 = 195;

/// How the relay that delivers ends, each time at another moment between two renewals of its lease.
const ENDS: [(&str, Signal); 2] = [("SIGTERM", Signal::TERM), ("kill -9", Signal::KILL)];

/// The lease is renewed so often: the rule of the product.
const RENEWAL: Duration = Duration::from_secs(2);

/// Down.
const DOWN: &str = r#"{"status":503}"#;

/// The relays, the store, and how long a commit takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    File,
    Fleet(usize),
    SlowFleet(usize),
}

const WAYS: [Way; 7] =
    [Way::File, Way::Fleet(1), Way::Fleet(2), Way::Fleet(3), Way::SlowFleet(1), Way::SlowFleet(2), Way::SlowFleet(3)];

struct Numbers {
    accepted: f64,
    p50: f64,
    p99: f64,
}

/// Measures the fleet and prints its table, if it is wanted.
///
/// # Errors
/// If PostgreSQL is not installed, a process cannot be started, or calls are lost or made up.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.wants(Scene::Fleet, FLEET.callers) {
        return Ok(());
    }
    if !is_installed() {
        println!("\nno PostgreSQL is installed (tests/tools/postgres): several relays are not measured");
        return Ok(());
    }
    let (quick, slow) = (Cluster::start(&[]), Cluster::start(&SLOW_COMMITS));
    let clusters = Clusters { quick, slow, runtime: tokio::runtime::Runtime::new()? };
    let mut rounds: Vec<(Way, Vec<Numbers>)> = WAYS.into_iter().map(|way| (way, Vec::new())).collect();
    for round in 1..=options.rounds() {
        for (way, numbers) in &mut rounds {
            let new = accept(options, &clusters, *way).with_context(|| format!("round {round}, {way}"))?;
            if !options.markdown {
                println!("round {round}: {way}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms", new.accepted, new.p50, new.p99);
            }
            numbers.push(new);
        }
    }
    let delivered = [Way::File, Way::Fleet(1), Way::Fleet(3)].map(|way| Ok((way, deliver(options, &clusters, way)?)));
    let delivered = delivered.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    println!();
    table(&rows(&rounds, &delivered));
    println!();
    table(&take_overs(options, &clusters)?);
    Ok(())
}

struct Clusters {
    quick: Cluster,
    slow: Cluster,
    runtime: tokio::runtime::Runtime,
}

/// The store of a measurement.
enum Outbox {
    File(Store),
    Database(String),
}

impl Clusters {
    /// A new, empty one.
    fn outbox(&self, options: &Options, way: Way) -> anyhow::Result<Outbox> {
        let cluster = match way {
            Way::File => return Ok(Outbox::File(Store::new(&options.disk)?)),
            Way::Fleet(_) => &self.quick,
            Way::SlowFleet(_) => &self.slow,
        };
        Ok(Outbox::Database(cluster.url(&self.runtime.block_on(cluster.create_database()))))
    }
}

impl Way {
    fn relays(self) -> usize {
        match self {
            Self::File => 1,
            Self::Fleet(relays) | Self::SlowFleet(relays) => relays,
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File => f.write_str("1 relay, SQLite"),
            Self::Fleet(relays) => write!(f, "{relays} with PostgreSQL"),
            Self::SlowFleet(relays) => write!(f, "{relays} with PostgreSQL, commits of 3 ms"),
        }
    }
}

fn relays(options: &Options, sandbox: &Server, outbox: &Outbox, way: Way) -> anyhow::Result<Vec<Server>> {
    let url = match outbox {
        Outbox::File(store) => store.url(),
        Outbox::Database(url) => url.clone(),
    };
    let start = |_| Server::relay(&options.relay, sandbox, Some(&url), None);
    let relays = (0..way.relays()).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    relays.iter().try_for_each(Server::wait_until_ready)?;
    Ok(relays)
}

/// All callers, in equal parts at each relay, ask for a while.
fn accept(options: &Options, clusters: &Clusters, way: Way) -> anyhow::Result<Numbers> {
    let (sandbox, outbox) = (Server::sandbox(&options.relay)?, clusters.outbox(options, way)?);
    let relays = relays(options, &sandbox, &outbox, way)?;
    let (callers, duration) = (FLEET.callers / relays.len(), options.duration());
    let tally = together(&relays, |server| {
        let load = Load { server: server.address, callers, success: FLEET.scene.success() };
        closed(load, duration, || ()).map(|(tally, _)| tally)
    })?;
    if tally.failed > 0 {
        bail!("{} answers are not 202", tally.failed);
    }
    Drain::watch(&sandbox, tally.succeeded)?;
    Ok(Numbers {
        accepted: tally.latency.count() as f64 / duration.as_secs_f64(),
        p50: tally.latency.quantile(0.50),
        p99: tally.latency.quantile(0.99),
    })
}

/// A backlog is stored while Segment is down. Returns how many of its calls are delivered in a second when Segment is back.
fn deliver(options: &Options, clusters: &Clusters, way: Way) -> anyhow::Result<f64> {
    let (sandbox, outbox) = (Server::sandbox(&options.relay)?, clusters.outbox(options, way)?);
    sandbox.set_faults(DOWN)?;
    let relays = relays(options, &sandbox, &outbox, way)?;
    let (calls, callers) = (options.backlog() / relays.len() as u64, FLEET.callers / relays.len());
    let tally = together(&relays, |server| {
        let load = Load { server: server.address, callers, success: FLEET.scene.success() };
        fill(load, Amount { requests: calls, users: USERS_A_CALLER }).map(|(tally, _)| tally)
    })?;
    sandbox.set_faults("{}")?;
    let drain = Drain::watch(&sandbox, tally.succeeded)?;
    Ok(tally.succeeded as f64 / drain.all.saturating_sub(drain.first).max(TICK).as_secs_f64())
}

/// How many seconds after its end another relay delivers: the shortest, the middle and the longest time.
fn take_overs(options: &Options, clusters: &Clusters) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows =
        vec![["another relay delivers after", "shortest s", "median s", "longest s"].map(str::to_owned).to_vec()];
    for (name, signal) in ENDS {
        let wait = |number| RENEWAL * number / options.take_overs();
        let times = (0..options.take_overs()).map(|number| take_over(options, clusters, signal, wait(number)));
        let times = times.collect::<anyhow::Result<Vec<f64>>>().with_context(|| name)?;
        let (shortest, longest) =
            (times.iter().copied().fold(f64::MAX, f64::min), times.iter().copied().fold(0.0, f64::max));
        let seconds = [shortest, middle(times), longest].map(|seconds| format!("{seconds:.2}"));
        rows.push(std::iter::once(name.to_owned()).chain(seconds).collect());
    }
    Ok(rows)
}

/// Seconds from the end of the relay that delivers until a call that the other one stored then is delivered.
fn take_over(options: &Options, clusters: &Clusters, signal: Signal, wait: Duration) -> anyhow::Result<f64> {
    let (sandbox, outbox) = (Server::sandbox(&options.relay)?, clusters.outbox(options, Way::Fleet(1))?);
    let [owner, other] = [(); 2].map(|()| relays(options, &sandbox, &outbox, Way::Fleet(1)));
    let (owner, other) = (owner?, other?);
    let store = |relay: &Server| {
        let load = Load { server: relay.address, callers: 1, success: FLEET.scene.success() };
        fill(load, Amount { requests: 1, users: 1 })
    };
    // Whoever is first has the lease, and keeps it.
    owner.iter().try_for_each(|relay| store(relay).map(drop))?;
    Drain::watch(&sandbox, 1)?;
    thread::sleep(wait);
    let ended = Instant::now();
    owner.iter().try_for_each(|relay| relay.signal(signal))?;
    other.iter().try_for_each(|relay| store(relay).map(drop))?;
    let stored = ended.elapsed();
    Ok((stored + Drain::watch(&sandbox, 2)?.all).as_secs_f64())
}

/// Does this with each relay at once, and adds up what came of it.
fn together(relays: &[Server], ask: impl Fn(&Server) -> anyhow::Result<Tally> + Sync) -> anyhow::Result<Tally> {
    let mut whole = Tally::new(FLEET.scene.success());
    thread::scope(|scope| {
        let asking: Vec<_> = relays.iter().map(|relay| scope.spawn(|| ask(relay))).collect();
        for one in asking {
            let Ok(tally) = one.join() else { bail!("the load died") };
            whole.merge(&tally?);
        }
        Ok(())
    })?;
    // The relays' connections end before the next measurement.
    thread::sleep(Duration::from_millis(10));
    Ok(whole)
}

fn rows(rounds: &[(Way, Vec<Numbers>)], delivered: &[(Way, f64)]) -> Vec<Vec<String>> {
    let head = ["", "accepted/s", "of SQLite", "p50 ms", "p99 ms", "delivered/s", "of SQLite"].map(str::to_owned);
    let median = |numbers: &[Numbers], of: fn(&Numbers) -> f64| middle(numbers.iter().map(of).collect());
    let file = rounds.first().map(|(_, numbers)| numbers);
    let file_delivered = delivered.first().map_or(f64::NAN, |(_, rate)| *rate);
    let row = |(way, numbers): &(Way, Vec<Numbers>)| {
        let ratios = numbers.iter().zip(file.into_iter().flatten()).map(|(own, file)| own.accepted / file.accepted);
        let rate = delivered.iter().find(|(of, _)| of == way).map(|(_, rate)| *rate);
        vec![
            way.to_string(),
            thousands(median(numbers, |n| n.accepted)),
            format!("{:.2}", middle(ratios.collect())),
            format!("{:.1}", median(numbers, |n| n.p50)),
            format!("{:.1}", median(numbers, |n| n.p99)),
            rate.map(thousands).unwrap_or_default(),
            rate.map(|rate| format!("{:.2}", rate / file_delivered)).unwrap_or_default(),
        ]
    };
    std::iter::once(head.to_vec()).chain(rounds.iter().map(row)).collect()
}
