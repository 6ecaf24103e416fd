//! The documents of the settings agree with the table of settings.

use std::fs;
use std::path::Path;

use segment_relay::config::{Declaration, DefaultValue, FILE_SETTINGS, SETTINGS};

/// Variables of docker-compose.yml that are not settings of the relay: the ports on the machine, and passwords of others.
const COMPOSE_VARIABLES: [&str; 6] =
    ["RELAY_PORT", "SANDBOX_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "GRAFANA_PASSWORD", "POSTGRES_PASSWORD"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn setting(name: &str) -> &'static Declaration {
    SETTINGS.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name} is not a setting"))
}

/// Settings that compose does not pass on: it sets RELAY_LISTEN, which overrides PORT, a file of the machine is not in the
/// container, and the relay that serves has no use for the secret of an import.
fn is_of_the_machine(name: &str) -> bool {
    ["PORT", "RELAY_IMPORT_SECRET"].contains(&name) || name.starts_with("SSL_CERT_")
}

fn is_name(text: &str) -> bool {
    let is_common = is_of_the_machine(text) || text.ends_with("_PROXY");
    let has_prefix = ["RELAY_", "SEGMENT_", "OTEL_"].iter().any(|prefix| text.starts_with(prefix)) || is_common;
    has_prefix && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The parts of a line that are in backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_environment_file_explains_every_setting_and_has_its_default() {
    let file = read("config/relay.env");
    let mut names = Vec::new();
    let mut comment = String::new();
    for line in file.lines() {
        match line.strip_prefix('#').and_then(|line| line.split_once('=')).filter(|(name, _)| is_name(name)) {
            Some((name, value)) => {
                let Declaration { default, meaning, .. } = setting(name);
                assert!(comment.starts_with(meaning), "{name} in config/relay.env does not begin with: {meaning}");
                match default {
                    DefaultValue::Required => assert_eq!(value, "", "{name} has no default"),
                    DefaultValue::Value(default) => assert_eq!(value, *default, "{name}"),
                    // The file has an example.
                    DefaultValue::Unset => {}
                }
                names.push(name);
                comment.clear();
            }
            None if line.is_empty() => comment.clear(),
            None => {
                let separator = if comment.is_empty() { "" } else { " " };
                comment.push_str(separator);
                comment.push_str(line.trim_start_matches("# "));
            }
        }
    }
    let mut expected: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn the_documents_list_every_setting_with_its_default() {
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).into_iter().flatten();
    let docs = docs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let pages = docs.map(|path| fs::read_to_string(path).unwrap()).chain([read("README.md")]);
    let mut rows = Vec::new();
    for page in pages {
        let mut is_in_table = false;
        // A row of the table: | `NAME` | `default` | ..., or | `NAME`, `NAME` | `default`, `default` | ...
        for row in page.lines() {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let (names, defaults) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
            is_in_table = row.starts_with('|') && (is_in_table || defaults.eq_ignore_ascii_case("default"));
            if !is_in_table {
                continue;
            }
            let mut defaults = code(defaults);
            for name in code(names) {
                let written = defaults.next();
                match setting(name).default {
                    DefaultValue::Value(default) => assert_eq!(written, Some(default), "{name}"),
                    DefaultValue::Required => assert_eq!(written, None, "{name} has no default"),
                    // The cell says what happens then.
                    DefaultValue::Unset => {}
                }
            }
            rows.push(row.to_owned());
        }
    }
    for Declaration { name, .. } in SETTINGS {
        let is_listed = |row: &String| row.contains(&format!("`{name}`")) || row.contains(&format!("${name}`"));
        assert!(rows.iter().any(is_listed), "{name} is not in the table of README.md or docs/*.md");
    }
}

#[test]
fn the_documents_name_the_settings_that_may_come_from_a_file() {
    let page = read("docs/settings.md");
    let section = page.split("## Secrets from files\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: Vec<_> = code(section.split("may come from a file").next().unwrap()).collect();
    assert_eq!(named, FILE_SETTINGS);
    let file = read("config/relay.env");
    for name in FILE_SETTINGS {
        setting(name);
        assert!(file.contains(name), "{name}");
    }
    assert!(file.contains(&format!("{}_FILE", FILE_SETTINGS[0])));
}

#[test]
fn docker_compose_passes_every_setting_on_but_those_of_the_machine_and_has_its_default() {
    let file = read("docker-compose.yml");
    for reference in file.split("${").skip(1) {
        let name = reference.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap();
        assert!(COMPOSE_VARIABLES.contains(&name) || setting(name).name == name);
    }
    let block = file.split("    environment: &settings\n").nth(1).unwrap();
    let lines = block.lines().take_while(|line| line.starts_with("      ")).map(str::trim);
    let mut names = Vec::new();
    for (name, value) in lines.filter(|line| !line.starts_with('#')).map(|line| line.split_once(':').unwrap()) {
        let default = setting(name).default;
        let inside = value.trim().strip_prefix("${").and_then(|value| value.strip_suffix('}'));
        let rule = inside.map(|inside| inside.strip_prefix(name).unwrap_or_else(|| panic!("{name}: {value}")));
        let written = match rule {
            Some(rule) if rule.starts_with(":?") => {
                assert_eq!(default, DefaultValue::Required, "{name}");
                None
            }
            Some(rule) => Some(rule.trim_start_matches(':').strip_prefix('-').unwrap()),
            // Without a value compose passes the variable on if it is set.
            None => Some(value.trim()).filter(|value| !value.is_empty()),
        };
        if let (Some(written), DefaultValue::Value(default)) = (written, default) {
            assert_eq!(written, default, "{name}");
        }
        names.push(name);
    }
    let names_of_all = SETTINGS.iter().map(|setting| setting.name);
    let mut expected: Vec<_> = names_of_all.filter(|name| !is_of_the_machine(name)).collect();
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected);
}
