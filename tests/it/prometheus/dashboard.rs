//! The dashboard: what Grafana needs of it, and every query at a real Prometheus.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Watched, list, read, rules, text};

const FILE: &str = "config/grafana/segment-relay.json";

/// The rows, in their order.
const ROWS: [&str; 6] = ["Is it well", "Requests", "Segment", "Outbox", "Sources", "Process"];

fn dashboard() -> Value {
    serde_json::from_str(&read(FILE)).unwrap()
}

/// The expressions of all panels and annotations, each with its place. Grafana's own words are replaced as Grafana does.
fn expressions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut all = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            all.push((text(&panel["title"]).to_owned(), text(&target["expr"]).to_owned()));
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        all.push((text(&annotation["name"]).to_owned(), text(&annotation["expr"]).to_owned()));
    }
    for (_, expression) in &mut all {
        *expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        assert!(!expression.contains('$'), "{expression}");
    }
    all
}

#[test]
fn the_dashboard_has_its_rows_a_variable_for_the_data_source_and_panels_that_do_not_overlap() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36 && dashboard["id"].is_null());
    let variables = list(&dashboard["templating"]["list"]);
    assert!(variables.iter().any(|variable| variable["name"] == "datasource" && variable["type"] == "datasource"));
    let panels = list(&dashboard["panels"]);
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| text(&row["title"])).collect();
    assert_eq!(rows, ROWS);
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}");
        let own = (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line)));
        own.for_each(|cell| assert!(cells.insert(cell), "{title} lies over another panel"));
        let targets = list(&panel["targets"]);
        assert_eq!(panel["type"] == "row", targets.is_empty(), "{title}");
        for source in targets.iter().map(|target| &target["datasource"]).chain(panel.get("datasource")) {
            assert_eq!(source["uid"], "${datasource}", "{title}");
        }
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_has_an_answer_from_a_prometheus_that_reads_a_relay() {
    let watched = Watched::start().await;
    watched.is_used().await;
    watched.has("instance:segment_relay_requests_failed:ratio_rate5m").await;
    assert_shown(text(&watched.relay.get("/metrics").await.body));
    for (place, expression) in expressions() {
        let series = watched.prometheus.series(&expression).await;
        // No relay started lately.
        let may_be_empty = place == "Starts";
        assert!(may_be_empty || !series.is_empty(), "{place}: {expression} gives nothing");
    }
    for variable in list(&dashboard()["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        assert_eq!(text(&variable["definition"]), query);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect(query);
        let (metric, label) = inner.split_once(", ").expect(query);
        let values = watched.prometheus.ask(&format!("label/{label}/values"), &[("match[]", metric)]).await;
        assert_eq!(values, serde_json::json!([watched.relay.relay().address().to_string()]), "{query}");
    }
}

/// Every metric of this text is on the dashboard but for two, and every one on the dashboard is in the text.
fn assert_shown(metrics: &str) {
    let declared: BTreeSet<_> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let of_rule = |rule: &Value| (text(&rule["record"]).to_owned(), text(&rule["expr"]).to_owned());
    let mut shown = BTreeSet::new();
    for (place, expression) in expressions().into_iter().chain(rules("record").iter().map(of_rule)) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for word in words.filter(|word| word.starts_with("segment_relay_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let name = base.filter(|name| declared.contains(name)).unwrap_or(word);
            assert!(declared.contains(name), "{place}: the relay has no {name}");
            shown.insert(name.to_owned());
        }
    }
    let missing: Vec<_> = declared.into_iter().filter(|name| !shown.contains(*name)).collect();
    assert_eq!(missing, ["segment_relay_process_virtual_memory_bytes", "segment_relay_requests_waiting_max"]);
}
