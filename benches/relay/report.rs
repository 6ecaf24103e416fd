//! The tables, as Markdown that is readable as it stands.

use std::thread::available_parallelism;

use super::measure::{AWAY_MS, Numbers};
use super::options::Options;
use super::plan::{HALF, Measurement, Rounds, Scene};

/// Prints where and how it was measured, the medians, and the numbers that have a target.
///
/// # Errors
/// None; so that `main` reads well.
pub fn report(options: &Options, rounds: &Rounds) -> anyhow::Result<()> {
    println!("\n{}\n", environment(options));
    table(rounds);
    println!();
    for callers in [512, 2_000] {
        ratio(rounds, callers);
    }
    half_load(rounds);
    checked(rounds);
    Ok(())
}

fn environment(options: &Options) -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let cpu = cpu.trim_start_matches([' ', '\t', ':']);
    let kernel = read("/proc/sys/kernel/osrelease");
    let build = if cfg!(debug_assertions) { "DEBUG BUILD" } else { "release build" };
    format!(
        "{} cores ({cpu}), Linux {}, {build}; medians of {} interleaved rounds of {:.1} s; load, server and sandbox share \
         the cores",
        available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        options.rounds(),
        options.duration().as_secs_f64()
    )
}

/// A column: its head, and what stands in it.
type Column = (&'static str, fn(Measurement, &[Numbers]) -> String);

const COLUMNS: [Column; 11] = [
    ("", |measurement, _| measurement.to_string()),
    ("callers", |measurement, _| thousands(measurement.callers as f64)),
    ("requests/s", |_, n| thousands(median(n, |n| n.requests_per_second))),
    ("lowest - highest", |_, n| {
        let (low, high) = range(n, |n| n.requests_per_second);
        format!("{} - {}", thousands(low), thousands(high))
    }),
    ("p50 ms", |_, n| format!("{:.2}", median(n, |n| n.p50))),
    ("p99 ms", |_, n| format!("{:.2}", median(n, |n| n.p99))),
    ("CPU us/request", |_, n| format!("{:.1}", median(n, |n| n.cpu))),
    ("load's CPU", |_, n| format!("{:.1}", median(n, |n| n.load_cpu))),
    ("sandbox's CPU", |m, n| of_relay(m, format!("{:.1}", median(n, |n| n.sandbox_cpu)))),
    ("calls/request to Segment", |m, n| of_relay(m, format!("{:.1}", median(n, |n| n.batch)))),
    ("peak MiB", |_, n| format!("{:.0}", median(n, |n| n.memory))),
];

fn of_relay(measurement: Measurement, cell: String) -> String {
    if measurement.scene == Scene::Bare { String::new() } else { cell }
}

fn table(rounds: &Rounds) {
    let rows: Vec<Vec<String>> =
        rounds.iter().map(|(m, numbers)| COLUMNS.iter().map(|(_, cell)| cell(*m, numbers)).collect()).collect();
    let widths: Vec<usize> = COLUMNS
        .iter()
        .enumerate()
        .map(|(column, (head, _))| {
            rows.iter().filter_map(|row| Some(row.get(column)?.len())).fold(head.len(), usize::max)
        })
        .collect();
    let line = |cells: &[String]| {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            if column == 0 { print!("| {cell:<width$} |") } else { print!(" {cell:>width$} |") }
        }
        println!();
    };
    line(&COLUMNS.map(|(head, _)| head.to_owned()));
    let rules = widths.iter().enumerate().map(|(column, width)| {
        if column == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width.saturating_sub(1))) }
    });
    line(&rules.collect::<Vec<_>>());
    for row in &rows {
        line(row);
    }
}

/// The median of the rounds' own ratios: both sides of one were measured within seconds of each other.
fn ratio(rounds: &Rounds, callers: usize) {
    let of = |scene| rounds.iter().find(|(m, _)| *m == Measurement { scene, callers }).map(|(_, numbers)| numbers);
    let (Some(bare), Some(relay)) = (of(Scene::Bare), of(Scene::Relay)) else { return };
    let ratio = middle(relay.iter().zip(bare).map(|(r, b)| r.requests_per_second / b.requests_per_second).collect());
    let cpu = middle(relay.iter().zip(bare).map(|(r, b)| r.cpu - b.cpu).collect());
    println!(
        "- relay/bare at {} callers: {ratio:.2} of the requests/s (target: at least 0.50), {cpu:+.1} us of CPU a request",
        thousands(callers as f64)
    );
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
    let accepted: u64 = all().filter(|(m, _)| m.scene != Scene::Bare).map(|(_, numbers)| numbers.accepted).sum();
    let failed: u64 = all().map(|(_, numbers)| numbers.failed).sum();
    println!(
        "- checked: {} answers 200 of the relay, as many calls accepted by the sandbox; {} answers of any other kind",
        thousands(accepted as f64),
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

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0
}

/// A whole number with its thousands set off.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
