//! What is in config/prometheus and config/grafana, with a real Prometheus that reads a real relay; and docs/alerts.

mod dashboard;
mod documents;
mod rules;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Answer, Durable, Prometheus, at_last, customer};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The members of a list.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a value.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The rules of both files of this kind: `alert` or `record`.
fn rules(kind: &str) -> Vec<Value> {
    let files = ["config/prometheus/recording.yml", "config/prometheus/alerts.yml"].map(yaml);
    let groups = files.iter().flat_map(|file| list(&file["groups"]));
    groups.flat_map(|group| list(&group["rules"])).filter(|rule| rule[kind].is_string()).cloned().collect()
}

/// The names of these rules.
fn names(kind: &str) -> BTreeSet<String> {
    rules(kind).iter().map(|rule| text(&rule[kind]).to_owned()).collect()
}

/// A Prometheus with the configuration of this project, which reads a relay each second.
struct Watched {
    prometheus: Prometheus,
    relay: Durable,
    _files: TempDir,
}

impl Watched {
    /// With a relay that has an outbox, operators and a source. It has been read once.
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let sources = files.path().join("sources.toml");
        fs::write(&sources, "[shop]\nverify = \"none\"\nmap = '{userId: .id, traits: {}}'\n").unwrap();
        let relay = Durable::with(&[("RELAY_SOURCES", &sources.display().to_string())]).await;
        let mut config = read("config/prometheus/prometheus.yml").replace(": 15s", ": 1s");
        assert!(config.contains("\"relay:8080\""), "{config}");
        config = config.replace("relay:8080", &relay.relay().address().to_string());
        fs::write(files.path().join("prometheus.yml"), config).unwrap();
        for name in ["recording.yml", "alerts.yml"] {
            // Two minutes are seconds here.
            let rules = read(&format!("config/prometheus/{name}")).replace("for: 2m", "for: 2s");
            fs::write(files.path().join(name), rules).unwrap();
        }
        let prometheus = Prometheus::start(&files.path().join("prometheus.yml"));
        let watched = Self { prometheus, relay, _files: files };
        watched.has("up == 1").await;
        watched
    }

    /// Waits until this expression gives a series.
    async fn has(&self, expression: &str) {
        at_last(async || {
            let answer = self.prometheus.try_ask("query", &[("query", expression)]).await;
            answer.is_ok_and(|data| !list(&data["result"]).is_empty())
        })
        .await;
    }

    /// Sends a customer, something that is none, and an event, and waits until Prometheus has seen all three.
    async fn is_used(&self) {
        assert!(self.relay.post(&customer("c-1")).await.is_stored());
        self.relay.post_with(&[], "{").await.assert_failed(400, "invalid_json");
        let event = self.relay.relay().request(reqwest::Method::POST, "/sources/shop").body(r#"{"id":"c-2"}"#);
        assert_eq!(Answer::of(event.send().await.unwrap()).await.unwrap().status, 202);
        for expression in [
            r#"rate(segment_relay_outbox_settled_total{result="accepted"}[1m]) > 0"#,
            r#"rate(segment_relay_requests_total{code="invalid_json"}[1m]) > 0"#,
            r#"rate(segment_relay_source_events_total{outcome="mapped"}[1m]) > 0"#,
        ] {
            self.has(expression).await;
        }
    }
}
