//! The text of `/metrics` keeps the rules that `promtool check metrics` checks, and shows every series from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::Metrics;
use super::table::GROUPS;

/// What the system says of the process is not 0.
const PROCESS: &str = "segment_relay_process_";

/// The part of docs/metrics.md that is written by a test lies between these lines.
const BEGIN: &str = "<!-- The rows of src/metrics/table.rs begin here. -->\n";
const END: &str = "<!-- They end here. -->\n";

/// A family's help, type and series as the text shows them.
#[derive(Default)]
struct Family<'a> {
    help: &'a str,
    kind: &'a str,
    /// Labels as text, and the value.
    series: Vec<(&'a str, f64)>,
}

fn families(text: &str) -> BTreeMap<&str, Family<'_>> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            let before = families.insert(name, Family { help, ..Family::default() });
            assert!(before.is_none(), "{name} is there twice");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            families.get_mut(name).expect(name).kind = kind;
        } else {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (sample, labels) = series.split_once('{').unwrap_or((series, ""));
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
            let name = histogram.filter(|name| families.contains_key(name)).unwrap_or(sample);
            let family = families.get_mut(name).unwrap_or_else(|| panic!("{name} has no HELP"));
            assert!(!family.kind.is_empty(), "{name} has no TYPE");
            family.series.push((labels, value.parse().expect(line)));
        }
    }
    families
}

#[test]
fn names_help_and_types_follow_the_conventions_of_prometheus() {
    let text = Metrics::new().unwrap().encode().unwrap();
    for (name, Family { help, kind, series }) in families(&text) {
        let rest = name.strip_prefix("segment_relay_").expect(name);
        assert!(!rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert!(help.ends_with('.') && !help.contains("  ") && !help.contains(['`', '|']), "{name}: {help}");
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{name} is a {kind}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        for reserved in ["_count", "_sum", "_bucket", "_counter", "_gauge", "_histogram", "_milliseconds", "_kilobytes"]
        {
            assert!(!name.ends_with(reserved), "{name}");
        }
        assert!(!name.contains("duration") || name.ends_with("_duration_seconds"), "{name} has no unit");
        let labels: BTreeSet<_> = series.iter().map(|(labels, _)| labels).collect();
        // A histogram has a sum and a count under the same labels.
        let pairs =
            if kind == "histogram" { labels.iter().filter(|labels| !labels.contains("le=")).count() } else { 0 };
        assert_eq!(series.len(), labels.len() + pairs, "{name} has a series twice");
    }
}

#[test]
fn every_series_is_there_from_the_start_with_0() {
    let text = Metrics::new().unwrap().encode().unwrap();
    let families = families(&text);
    for (name, family) in families.iter().filter(|(name, _)| !name.starts_with(PROCESS)) {
        let start = if *name == "segment_relay_build_info" { 1.0 } else { 0.0 };
        assert!(!family.series.is_empty() && family.series.iter().all(|(_, value)| *value == start), "{name}");
    }
    let labels = |name| families[name].series.iter().map(|(labels, _)| *labels).collect::<Vec<_>>();
    assert_eq!(labels("segment_relay_requests_total").len(), 22);
    assert!(labels("segment_relay_requests_total").contains(&r#"code="internal_error",result="failed"}"#));
    assert_eq!(labels("segment_relay_segment_attempts_total").len(), 8);
    assert_eq!(labels("segment_relay_panics_total"), [""]);
}

#[test]
fn counting_adds_no_series() {
    let metrics = Metrics::new().unwrap();
    let lines = metrics.encode().unwrap().lines().count();
    for code in ["overloaded", "invalid_json", "not in the table"] {
        metrics.request_failed(code);
    }
    metrics.attempted("unknown");
    metrics.panics.inc();
    let text = metrics.encode().unwrap();
    assert_eq!(text.lines().count(), lines);
    for line in [
        r#"segment_relay_requests_total{code="overloaded",result="failed"} 1"#,
        r#"segment_relay_requests_total{code="invalid_json",result="refused"} 1"#,
        r#"segment_relay_requests_total{code="internal_error",result="failed"} 1"#,
        r#"segment_relay_segment_attempts_total{result="unknown"} 1"#,
        "segment_relay_panics_total 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

#[test]
fn outcomes_are_named_by_result_or_error_code() {
    let metrics = Metrics::new().unwrap();
    metrics.requests_stored.inc();
    metrics.request_failed("overloaded");
    let outcomes = metrics.outcomes();
    assert_eq!(outcomes.len(), 22);
    assert_eq!(outcomes.values().sum::<u64>(), 2);
    assert_eq!((outcomes["accepted"], outcomes["stored"], outcomes["overloaded"]), (0, 1, 1));
}

#[test]
fn what_the_system_says_of_the_process_is_there_under_the_relays_prefix() {
    let text = Metrics::new().unwrap().encode().unwrap();
    let families = families(&text);
    let value = |name: &str| families[&*format!("{PROCESS}{name}")].series[0].1;
    for name in
        ["resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "threads", "start_time_seconds"]
    {
        assert!(value(name) > 0.0, "{name}");
    }
    assert!(value("cpu_seconds_total") >= 0.0);
}

#[test]
fn a_request_is_timed_by_the_status_of_its_answer() {
    let metrics = Metrics::new().unwrap();
    for status in [200, 202, 400, 422, 500, 504] {
        metrics.answered(status, Duration::from_millis(3));
    }
    let text = metrics.encode().unwrap();
    for (result, count) in [("accepted", 1), ("stored", 1), ("refused", 2), ("failed", 2)] {
        for line in [
            format!("segment_relay_request_duration_seconds_count{{result=\"{result}\"}} {count}"),
            format!("segment_relay_request_duration_seconds_bucket{{result=\"{result}\",le=\"0.0025\"}} 0"),
            format!("segment_relay_request_duration_seconds_bucket{{result=\"{result}\",le=\"0.005\"}} {count}"),
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}

/// The tables of docs/metrics.md: a heading for each group, and a row for each metric.
fn document() -> String {
    let metrics = Metrics::new().unwrap();
    metrics.of_source("shop");
    metrics.of_listener("senders", 1);
    let text = metrics.encode().unwrap();
    let families = families(&text);
    let row = |name: &str, help: &str| {
        let Family { kind, series, .. } = &families[name];
        let labels = series[0]
            .0
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|label| label.split_once('=').map(|label| label.0));
        let labels: Vec<_> = labels.filter(|label| *label != "le").collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        format!("| `{name}{labels}` | {kind} | {help} |\n")
    };
    let mut document = String::new();
    let mut named = BTreeSet::new();
    for (group, rows) in GROUPS {
        document += &format!("\n### {group}\n\n| metric | kind | what it counts |\n|---|---|---|\n");
        document.extend(rows.iter().map(|(name, help)| row(name, help)));
        named.extend(rows.iter().map(|(name, _)| *name));
    }
    // The last group is that of the process.
    document.extend(
        families.iter().filter(|(name, _)| name.starts_with(PROCESS)).map(|(name, family)| row(name, family.help)),
    );
    assert!(
        families.keys().all(|name| named.contains(name) || name.starts_with(PROCESS)),
        "a metric is not in the table"
    );
    document
}

#[test]
fn the_tables_of_the_document_are_those_of_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect(BEGIN);
    let (written, after) = rest.split_once(END).expect(END);
    let document = format!("{}\n", document());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{document}{END}{after}")).unwrap();
        return;
    }
    assert!(written == document, "docs/metrics.md is out of date; write it: UPDATE_DOCS=1 cargo test --lib metrics::");
}
