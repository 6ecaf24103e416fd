//! The tables, as Markdown that is readable as it stands.

use std::thread::available_parallelism;

use super::measure::{AWAY_MS, Numbers};
use super::options::Options;
use super::plan::{HALF, Measurement, Rounds, Scene};
use super::store::file_system;
use super::table::{table, thousands};

/// The least share of the bare handler's requests a second that the relay is meant to reach, and with an outbox.
const TARGETS: [(Scene, &str, f64); 2] = [(Scene::Relay, "relay", 0.50), (Scene::Outbox, "outbox", 0.55)];

/// The most CPU that the relay with an outbox is meant to take, in bare handlers: 16 us on a machine where that takes
/// 6.9 us.
const OUTBOX_CPU: f64 = 2.3;

/// Prints where and how it was measured, the medians, and the numbers that have a target.
pub fn report(options: &Options, rounds: &Rounds) {
    println!("\n{}", environment(options));
    if rounds.is_empty() {
        return;
    }
    println!(
        "medians of {} interleaved rounds of {:.1} s; load, server and sandbox share the cores\n",
        options.rounds(),
        options.duration().as_secs_f64()
    );
    let heads = COLUMNS.map(|(head, _)| head.to_owned()).to_vec();
    let row = |(m, numbers): &(Measurement, Vec<Numbers>)| COLUMNS.map(|(_, cell)| cell(*m, numbers)).to_vec();
    table(&std::iter::once(heads).chain(rounds.iter().map(row)).collect::<Vec<_>>());
    println!();
    for (scene, name, target) in TARGETS {
        for callers in [512, 2_000] {
            ratio(rounds, Measurement { scene, callers }, name, target);
        }
    }
    for scene in [Scene::Traced, Scene::Sampled, Scene::TracedOutbox] {
        traced(rounds, scene);
    }
    drains(rounds);
    half_load(rounds);
    checked(rounds);
}

fn environment(options: &Options) -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let cpu = cpu.trim_start_matches([' ', '\t', ':']);
    let kernel = read("/proc/sys/kernel/osrelease");
    let build = if cfg!(debug_assertions) { "DEBUG BUILD" } else { "release build" };
    format!(
        "{} cores ({cpu}), Linux {}, {build}; the outbox is on {}",
        available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        file_system(&options.disk)
    )
}

/// A column: its head, and what stands in it.
type Column = (&'static str, fn(Measurement, &[Numbers]) -> String);

const COLUMNS: [Column; 13] = [
    ("", |measurement, _| measurement.to_string()),
    ("callers", |measurement, _| thousands(measurement.callers as f64)),
    ("requests/s", |_, n| thousands(median(n, |n| n.requests_per_second))),
    ("lowest - highest", |_, n| {
        let (low, high) = range(n, |n| n.requests_per_second);
        format!("{} - {}", thousands(low), thousands(high))
    }),
    ("p50 ms", |_, n| format!("{:.2}", median(n, |n| n.p50))),
    ("p99 ms", |_, n| format!("{:.2}", median(n, |n| n.p99))),
    ("p99.9 ms", |_, n| format!("{:.2}", median(n, |n| n.p999))),
    ("CPU us/request", |_, n| format!("{:.1}", median(n, |n| n.cpu))),
    ("load's CPU", |_, n| format!("{:.1}", median(n, |n| n.load_cpu))),
    ("sandbox's CPU", |m, n| of_relay(m, format!("{:.1}", median(n, |n| n.sandbox_cpu)))),
    ("calls/request to Segment", |m, n| of_relay(m, format!("{:.1}", median(n, |n| n.batch)))),
    ("peak MiB", |_, n| format!("{:.0}", median(n, |n| n.memory))),
    ("bytes to disk/call", |m, n| of_outbox(m, thousands(median(n, |n| n.written)))),
];

fn of_relay(measurement: Measurement, cell: String) -> String {
    if measurement.scene == Scene::Bare { String::new() } else { cell }
}

fn of_outbox(measurement: Measurement, cell: String) -> String {
    if measurement.scene.has_outbox() { cell } else { String::new() }
}

/// The medians of the rounds' own ratios: both sides of one were measured within seconds of each other.
fn ratio(rounds: &Rounds, measurement: Measurement, name: &str, target: f64) {
    let of = |wanted| rounds.iter().find(|(m, _)| *m == wanted).map(|(_, numbers)| numbers);
    let (Some(bare), Some(relay)) = (of(Measurement { scene: Scene::Bare, ..measurement }), of(measurement)) else {
        return;
    };
    let middle_of = |of: fn(&Numbers, &Numbers) -> f64| middle(relay.iter().zip(bare).map(|(r, b)| of(r, b)).collect());
    print!(
        "- {name}/bare at {} callers: {:.2} of the requests/s (target: at least {target:.2}), ",
        thousands(measurement.callers as f64),
        middle_of(|relay, bare| relay.requests_per_second / bare.requests_per_second)
    );
    print!(
        "{:.1} times its CPU ({:+.1} us a request",
        middle_of(|relay, bare| relay.cpu / bare.cpu),
        middle_of(|relay, bare| relay.cpu - bare.cpu)
    );
    if measurement.scene == Scene::Outbox {
        println!(", until delivered; target: at most {OUTBOX_CPU} times)");
    } else {
        println!(")");
    }
}

/// What traces cost: the medians of the rounds' own ratios to the same relay without them.
fn traced(rounds: &Rounds, scene: Scene) {
    let of = |scene| rounds.iter().find(|(m, _)| *m == Measurement { scene, callers: 512 });
    let without = of(if scene.has_outbox() { Scene::Outbox } else { Scene::Relay });
    let (Some((measurement, traced)), Some((_, without))) = (of(scene), without) else { return };
    let middle_of =
        |of: fn(&Numbers, &Numbers) -> f64| middle(traced.iter().zip(without).map(|(t, w)| of(t, w)).collect());
    println!(
        "- {measurement}/without at 512 callers: {:.2} of the requests/s, {:.2} times the CPU",
        middle_of(|traced, without| traced.requests_per_second / without.requests_per_second),
        middle_of(|traced, without| traced.cpu / without.cpu)
    );
}

/// What delivery had still to do when the load ended.
fn drains(rounds: &Rounds) {
    for (measurement, numbers) in rounds.iter().filter(|(m, _)| m.scene.has_outbox()) {
        println!(
            "- {measurement}, {} callers: {} calls waited when the load ended, delivered {:.2} s later",
            thousands(measurement.callers as f64),
            thousands(median(numbers, |n| n.waiting)),
            median(numbers, |n| n.drain)
        );
    }
}

fn half_load(rounds: &Rounds) {
    let Some((_, numbers)) = rounds.iter().find(|(m, _)| *m == HALF) else { return };
    println!(
        "- half load (half of what 2,000 callers reach 50 ms away): p50 {:+.1} ms, p99 {:+.1} ms beyond the 50 ms \
         (targets: at most +3 and +8)",
        median(numbers, |n| n.p50) - AWAY_MS,
        median(numbers, |n| n.p99) - AWAY_MS
    );
}

fn checked(rounds: &Rounds) {
    let all = || rounds.iter().flat_map(|(m, numbers)| numbers.iter().map(move |numbers| (m, numbers)));
    let succeeded: u64 = all().filter(|(m, _)| m.scene != Scene::Bare).map(|(_, numbers)| numbers.succeeded).sum();
    let failed: u64 = all().map(|(_, numbers)| numbers.failed).sum();
    println!(
        "- checked: {} answers 200 (with outbox 202) of the relay, as many calls accepted by the sandbox; {} answers \
         of any other kind",
        thousands(succeeded as f64),
        thousands(failed as f64)
    );
}

fn median(numbers: &[Numbers], of: fn(&Numbers) -> f64) -> f64 {
    middle(numbers.iter().map(of).collect())
}

fn range(numbers: &[Numbers], of: fn(&Numbers) -> f64) -> (f64, f64) {
    let values = || numbers.iter().map(of);
    (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
}

/// The median.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0
}
