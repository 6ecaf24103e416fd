//! The text of `/metrics` keeps the rules that `promtool check metrics` checks, and shows every series from the start.

use std::collections::{BTreeMap, BTreeSet};

use super::Metrics;

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
        assert!(!help.is_empty() && !help.ends_with('.') && !help.contains("  "), "{name}: {help}");
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{name} is a {kind}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        for reserved in ["_count", "_sum", "_bucket", "_counter", "_gauge", "_histogram", "_milliseconds", "_kilobytes"]
        {
            assert!(!name.ends_with(reserved), "{name}");
        }
        assert!(!name.contains("duration") || name.ends_with("_duration_seconds"), "{name} has no unit");
        let labels: BTreeSet<_> = series.iter().map(|(labels, _)| labels).collect();
        let samples = if kind == "histogram" { labels.len() + 1 } else { labels.len() };
        assert_eq!(series.len(), samples, "{name} has a series twice");
    }
}

#[test]
fn every_series_is_there_from_the_start_with_0() {
    let text = Metrics::new().unwrap().encode().unwrap();
    let families = families(&text);
    for (name, family) in &families {
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
