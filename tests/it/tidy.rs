//! The tree stays as `ARCHITECTURE.md` says: who may use whom, and how long a file may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module, and the modules of ours that it may name. A line for a file goes before the line of its module.
const MAY_USE: [(&str, &[&str]); 25] = [
    // Fuzz targets and the like live beside what they try, and share their engine.
    ("fuzz", &[]),
    ("customer/scan_tests", &["fuzz"]),
    ("segment/call/fuzz", &["customer", "fuzz"]),
    ("publisher/retry/fuzz", &["segment", "fuzz"]),
    ("auth/fuzz", &["config", "fuzz"]),
    ("api/admin/page/fuzz", &["fuzz"]),
    ("api/prefer/fuzz", &["fuzz"]),
    ("api/tests/connections", &["api", "server", "metrics", "supervisor"]),
    ("config/fuzz", &["fuzz"]),
    ("customer", &[]),
    ("metrics", &[]),
    ("supervisor", &[]),
    ("config", &[]),
    ("sandbox", &[]),
    ("auth", &["config"]),
    ("segment", &["customer"]),
    ("publisher", &["customer", "config", "segment", "metrics", "supervisor"]),
    // The store of calls; `customer` for the payload that a client is handed.
    ("outbox", &["customer", "segment", "metrics", "supervisor"]),
    ("delivery", &["outbox", "segment", "publisher", "metrics", "supervisor"]),
    ("integration/tests", &["customer", "segment", "sandbox"]),
    ("integration", &["customer", "segment", "publisher", "metrics", "supervisor", "config"]),
    ("api", &["auth", "customer", "integration", "outbox", "metrics", "supervisor"]),
    ("server", &["api", "supervisor"]),
    ("telemetry", &["config"]),
    (
        "app",
        &["api", "auth", "config", "delivery", "outbox", "publisher", "segment", "server", "metrics", "supervisor"],
    ),
];

/// These put everything together and may name all.
const MAY_USE_ALL: [&str; 3] = ["lib", "main", "cli"];

/// No file is longer, tests included.
const LONGEST: usize = 400;

/// Half of the files are at most this long.
const MEDIAN: usize = 150;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under a folder of the project, by its path from there, without `.rs`.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let folder = root().join(folder);
    let mut paths = Vec::new();
    walk(&folder, &mut paths);
    let name = |path: &Path| path.strip_prefix(&folder).unwrap().with_extension("").display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The modules of ours that a source names.
fn used(source: &str) -> BTreeSet<&str> {
    let after = source.split("crate::").skip(1);
    after.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()).collect()
}

#[test]
fn modules_use_only_what_the_table_allows() {
    for (name, source) in rust_files("src") {
        let module = name.split('/').next().unwrap();
        if MAY_USE_ALL.contains(&module) {
            continue;
        }
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(line, _)| name == *line || name.starts_with(&format!("{line}/")))
            .unwrap_or_else(|| panic!("src/{name}.rs is of a module that is not in the table"));
        for other in used(&source) {
            assert!(other == module || allowed.contains(&other), "src/{name}.rs must not use crate::{other}");
        }
    }
}

#[test]
fn no_file_is_too_long_and_most_are_short() {
    let mut lines: Vec<usize> = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for (name, source) in rust_files(folder) {
            let count = source.lines().count();
            assert!(count <= LONGEST, "{folder}/{name}.rs has {count} lines");
            if folder == "src" {
                lines.push(count);
            }
        }
    }
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    assert!(median <= MEDIAN, "the median file has {median} lines");
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests", "benches"] {
        for (name, source) in rust_files(folder) {
            assert!(source.starts_with("//!"), "{folder}/{name}.rs does not open with its purpose");
        }
    }
}
