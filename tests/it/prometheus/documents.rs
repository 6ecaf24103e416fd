//! docs/alerts.md and its pages say what the rules say. docker-compose.yml has what it names.

use std::collections::BTreeSet;
use std::fs;

use super::{list, names, path, read, rules, text, yaml};

/// The parts of a page about an alert, in their order.
const PARTS: [&str; 4] = ["## What it means", "## See it", "## What to do", "## When it ends"];

#[test]
fn every_alert_has_a_page_and_every_page_is_of_an_alert() {
    let files = fs::read_dir(path("docs/alerts")).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeSet<_> = files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(pages, names("alert"));
    for rule in rules("alert") {
        let name = text(&rule["alert"]);
        let page = read(&format!("docs/alerts/{name}.md"));
        assert!(page.starts_with(&format!("# {name}\n\n**{}.** ", text(&rule["labels"]["severity"]))), "{name}");
        let mut rest = &*page;
        for part in PARTS {
            rest = rest.split_once(&format!("\n{part}\n")).unwrap_or_else(|| panic!("{name} lacks {part}")).1;
        }
        // The expression, as it is.
        let expression = text(&rule["expr"]).trim();
        assert!(page.contains(&format!("```promql\n{expression}\n```")), "{name} lacks its expression:\n{expression}");
    }
}

#[test]
fn the_index_has_a_line_for_each_alert_with_how_bad_it_is_and_when_it_fires() {
    let index = read("docs/alerts.md");
    let lines: Vec<_> = index.lines().filter(|line| line.starts_with("| [SegmentRelay")).collect();
    let expected: Vec<_> = rules("alert")
        .iter()
        .map(|rule| {
            let name = text(&rule["alert"]);
            let after = rule["for"].as_str().unwrap_or("at once");
            format!("| [{name}](alerts/{name}.md) | {} | {after} | ", text(&rule["labels"]["severity"]))
        })
        .collect();
    assert_eq!(lines.len(), expected.len());
    for (line, beginning) in lines.iter().zip(&expected) {
        assert!(line.starts_with(beginning), "{line}\ndoes not begin with\n{beginning}");
    }
}

#[test]
fn docker_compose_mounts_what_is_there_and_publishes_to_this_machine_alone() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    let observers: BTreeSet<_> = services
        .iter()
        .filter(|(_, service)| list(&service["profiles"]).iter().any(|profile| profile == "observability"))
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(observers, BTreeSet::from(["grafana", "prometheus"]));
    for (name, service) in services {
        assert!(service["read_only"] == true && list(&service["cap_drop"]) == ["ALL"], "{name} is not hardened");
        assert!(list(&service["security_opt"]).iter().any(|option| option == "no-new-privileges:true"), "{name}");
        assert!(service["user"].is_string() && service["mem_limit"].is_string(), "{name}");
        for port in list(&service["ports"]) {
            assert!(text(port).starts_with("127.0.0.1:"), "{name}: {port}");
        }
        for volume in list(&service["volumes"]).iter().map(text) {
            let (from, rest) = volume.split_once(':').unwrap();
            match from.strip_prefix("./") {
                Some(file) => assert!(path(file).exists() && rest.ends_with(":ro"), "{name}: {volume}"),
                None => assert!(compose["volumes"].as_object().unwrap().contains_key(from), "{name}: {volume}"),
            }
        }
    }
    // Grafana finds the dashboard where its provider looks, and Prometheus where its data source says.
    let grafana: Vec<_> = list(&services["grafana"]["volumes"]).iter().map(text).collect();
    let provider = yaml("config/grafana/provisioning/dashboards/segment-relay.yml");
    let folder = text(&provider["providers"][0]["options"]["path"]);
    assert!(
        grafana.contains(&&*format!("./config/grafana/segment-relay.json:{folder}/segment-relay.json:ro")),
        "{grafana:?}"
    );
    assert!(grafana.contains(&"./config/grafana/provisioning:/etc/grafana/provisioning:ro"), "{grafana:?}");
    let source = yaml("config/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    // Prometheus asks the relay at the port that it listens on.
    let listens = text(&services["relay"]["environment"]["RELAY_LISTEN"]).rsplit_once(':').unwrap().1;
    let scrape = yaml("config/prometheus/prometheus.yml");
    let targets = &scrape["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(*targets, serde_json::json!([format!("relay:{listens}")]));
}
