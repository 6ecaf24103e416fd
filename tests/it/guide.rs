//! The documents hang together: links lead somewhere, the index has every page, and a default that is named in passing is right.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use segment_relay::config::{DefaultValue, SETTINGS};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with one of these endings in a folder of the project, and in those below if `deep`.
fn files(folder: &str, endings: &[&str], deep: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && deep {
            found.extend(files(path.to_str().expect("text"), endings, deep));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|other| ending == *other)) {
            found.push(path);
        }
    }
    found
}

/// Every document.
fn documents() -> Vec<PathBuf> {
    [files(".", &["md"], false), files("docs", &["md"], true)].concat()
}

/// The lines of a document that are no code.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("text");
    text.split("```").step_by(2).collect()
}

/// The addresses of a document's links.
fn links(path: &Path) -> Vec<String> {
    prose(path).split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(path: &Path) -> HashSet<String> {
    let headings = prose(path);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let kept = |c: char| {
        (c.is_alphanumeric() || "-_ ".contains(c)).then(|| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
    };
    headings.map(|line| line.trim_start_matches('#').trim().chars().filter_map(kept).collect()).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut wrong = Vec::new();
    for document in documents() {
        for link in links(&document) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let is_page = target.extension().is_some_and(|ending| ending == "md");
            if !target.exists() || is_page && !anchor.is_empty() && !anchors(&target).contains(anchor) {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_index_of_the_guide_has_every_page() {
    let index = root().join("docs/README.md");
    let linked: BTreeSet<_> = links(&index).iter().map(|link| link.split('#').next().unwrap().to_owned()).collect();
    for page in files("docs", &["md"], false) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || linked.contains(name), "{name} is not in docs/README.md");
    }
}

#[test]
fn the_page_about_upgrades_has_every_version_of_the_tables() {
    let page = fs::read_to_string(root().join("docs/upgrade.md")).expect("a page");
    let schemas = files("src/outbox/sqlite", &["sql"], false).len();
    let versions = page
        .lines()
        .filter(|line| line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit())));
    assert_eq!(versions.count(), schemas, "a version of the tables is missing or has no schema");
}

/// `RELAY_KEEP_ALIVE (620 s)` in a sentence or a comment: the setting, and the value as the table writes it.
fn mentions(text: &str) -> Vec<(&str, String)> {
    let is_of_name = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut found = Vec::new();
    for (start, _) in text.match_indices("RELAY_") {
        let rest = &text[start..];
        let name = &rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())];
        let after = rest[name.len()..].trim_start_matches('`');
        let value = after.strip_prefix(" (").and_then(|after| Some(after.split_once(')')?.0.replace([' ', '`'], "")));
        // A number with a unit, and no sentence.
        let is_value = |value: &String| {
            value.starts_with(|c: char| c.is_ascii_digit()) && value.chars().all(char::is_alphanumeric)
        };
        found.extend(value.filter(is_value).map(|value| (name, value)));
    }
    found
}

#[test]
fn a_default_that_is_named_in_passing_is_the_default() {
    let configurations = files("config", &["conf", "cfg", "yaml", "env"], true);
    let mut count = 0;
    for path in documents().into_iter().chain(configurations) {
        let text = fs::read_to_string(&path).expect("text");
        for (name, value) in mentions(&text) {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            match setting.map(|setting| setting.default) {
                Some(DefaultValue::Value(default)) => assert_eq!(value, default, "{}: {name}", path.display()),
                _ => panic!("{}: {name} has no default", path.display()),
            }
            count += 1;
        }
    }
    assert!(count > 10, "only {count} are found");
}
