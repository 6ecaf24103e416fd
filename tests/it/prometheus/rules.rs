//! The configuration and the rules: promtool's opinion, their unit tests, and what a real Prometheus makes of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Watched, list, names, path, rules, text, yaml};
use crate::harness::{App, customer, promtool};

/// Alerts by how often they fire and how often they do not in the unit tests.
fn tested() -> BTreeMap<String, (usize, usize)> {
    let tests = yaml("config/prometheus/tests.yml");
    let mut tested: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for test in list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
        let (fires, fires_not) = tested.entry(text(&test["alertname"]).to_owned()).or_default();
        *if list(&test["exp_alerts"]).is_empty() { fires_not } else { fires } += 1;
    }
    tested
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules_and_their_unit_tests_pass() {
    let file = |name: &str| path("config/prometheus").join(name).display().to_string();
    promtool(&["check", "config", &file("prometheus.yml")], "");
    promtool(&["check", "rules", "--lint-fatal", &file("recording.yml"), &file("alerts.yml")], "");
    promtool(&["test", "rules", &file("tests.yml")], "");
}

#[test]
fn every_alert_fires_in_a_unit_test_and_does_not_in_another_and_every_recording_rule_has_one() {
    let tested = tested();
    assert_eq!(tested.keys().cloned().collect::<BTreeSet<_>>(), names("alert"));
    for (alert, (fires, fires_not)) in tested {
        assert!(fires > 0 && fires_not > 0, "{alert} fires in {fires} tests and does not in {fires_not}");
    }
    let tests = yaml("config/prometheus/tests.yml");
    let expressions = list(&tests["tests"]).iter().flat_map(|test| list(&test["promql_expr_test"]));
    let recorded: BTreeSet<_> = expressions
        .filter(|test| !list(&test["exp_samples"]).is_empty())
        .map(|test| text(&test["expr"]).to_owned())
        .collect();
    assert_eq!(recorded, names("record"));
}

#[tokio::test]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let app = App::start().await;
    let metrics = app.get("/metrics").await.body;
    assert_eq!(promtool(&["check", "metrics"], text(&metrics)), "");
}

#[tokio::test]
async fn a_prometheus_evaluates_every_rule_and_none_fires_while_the_relay_is_well() {
    let watched = Watched::start().await;
    watched.is_used().await;
    // Each rule was evaluated since.
    watched.has(r#"instance:segment_relay_requests_failed:ratio_rate5m == 0"#).await;
    let loaded = watched.prometheus.ask("rules", &[]).await;
    let groups = list(&loaded["groups"]);
    let mut alerts = BTreeSet::new();
    let mut records = BTreeSet::new();
    for rule in groups.iter().flat_map(|group| list(&group["rules"])) {
        let name = text(&rule["name"]).to_owned();
        assert_eq!((rule["health"].as_str(), rule["lastError"].as_str()), (Some("ok"), None), "{name}");
        if rule["type"] == "alerting" {
            assert_eq!(rule["state"], "inactive", "{rule}");
            alerts.insert(name);
        } else {
            records.insert(name);
        }
    }
    assert_eq!((alerts, records), (names("alert"), names("record")));
}

#[tokio::test]
async fn an_outage_makes_its_alert_pending_and_firing_and_the_end_of_the_outage_ends_it() {
    let watched = Watched::start().await;
    watched.relay.segment().fail(json!({"status": 503})).await;
    for user in ["c-1", "c-2", "c-3"] {
        assert!(watched.relay.post(&customer(user)).await.is_stored());
    }
    for state in ["pending", "firing"] {
        watched.has(&format!(r#"ALERTS{{alertname="SegmentRelayOutage",alertstate="{state}"}}"#)).await;
    }
    watched.relay.segment().heal().await;
    watched.has(r#"segment_relay_outbox_calls == 0 and on () absent(ALERTS{alertname="SegmentRelayOutage"})"#).await;
    assert_eq!(watched.relay.segment().received().await.len(), 3);
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_it_is_about_and_where_to_read_on() {
    for rule in rules("alert") {
        let name = text(&rule["alert"]);
        assert!(name.starts_with("SegmentRelay"), "{name}");
        assert!(["critical", "warning"].contains(&text(&rule["labels"]["severity"])), "{name}");
        assert!(text(&rule["annotations"]["summary"]).len() <= 100, "{name}");
        assert!(text(&rule["annotations"]["description"]).ends_with('.'), "{name}");
        assert_eq!(text(&rule["annotations"]["runbook"]), format!("docs/alerts/{name}.md"));
    }
}
