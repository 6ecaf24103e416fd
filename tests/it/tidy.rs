//! The tree stays as `ARCHITECTURE.md` says: which module uses which, no circle of files, how long a file may be.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use modules::{Arrow, arrows};

/// Modules that everything may use.
const LEAVES: [&str; 5] = ["config", "http_client", "metrics", "supervisor", "telemetry"];

/// A module, and what of the other modules it may use besides the leaves: a whole module, or one item of it.
const MAY_USE: [(&str, &[&str]); 18] = [
    (
        "api",
        &[
            "auth",
            "customer",
            "integration",
            "segment",
            "sources",
            // What operators see and do.
            "outbox::BackupError",
            "outbox::Backups",
            "outbox::CallFate",
            "outbox::CallReport",
            "outbox::Calls",
            "outbox::DeadLetter",
            "outbox::DeadLetters",
            "outbox::FleetReport",
            "outbox::Forgetting",
            "outbox::Forgotten",
            "outbox::LetterFilter",
            "outbox::LetterIds",
            "outbox::LetterPage",
            "outbox::LetterWalk",
            "outbox::LetterWhy",
            "outbox::OutboxError",
            "outbox::ParkedFilter",
            "outbox::ParkedUser",
            "outbox::ParkedUsers",
            "outbox::Person",
            "outbox::STORE_RETRY_AFTER",
            "outbox::StoreCopy",
            // The extension that a connection gives to its requests.
            "server::Connection",
        ],
    ),
    ("auth", &[]),
    ("customer", &[]),
    ("delivery", &["outbox", "publisher", "segment"]),
    ("import", &["auth::WebhookSigner", "customer", "publisher", "segment"]),
    ("integration", &["customer", "publisher", "segment"]),
    ("notify", &["auth::WebhookSigner"]),
    ("outbox", &["customer", "segment"]),
    ("publisher", &["customer", "segment"]),
    ("sandbox", &[]),
    ("segment", &["customer"]),
    ("server", &[]),
    (
        "sources",
        &[
            "auth",
            "customer",
            // What keeps and replays events.
            "outbox::Append",
            "outbox::Appended",
            "outbox::Events",
            "outbox::KeptEvent",
            "outbox::OutboxError",
            "segment",
        ],
    ),
    // The leaves. They use none of each other either, but for what stands here.
    ("config", &[]),
    ("http_client", &["config"]),
    ("metrics", &[]),
    ("supervisor", &[]),
    ("telemetry", &["config", "http_client"]),
];

/// Modules that use no leaf but those in their line of [`MAY_USE`].
const WITHOUT_LEAVES: [&str; 7] =
    ["config", "customer", "http_client", "metrics", "sandbox", "supervisor", "telemetry"];

/// These put everything together.
const MAY_USE_ALL: [&str; 3] = ["app", "cli", "lib"];

/// What code that only tests compile may use besides what its module may use.
const TESTS_MAY_USE: [(&str, &[&str]); 2] = [("api", &["server"]), ("integration", &["sandbox"])];

/// Longest file in lines, tests included: what a reader can take in at once.
const MAX_LINES: usize = 400;

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

/// `api` for `api.rs` and `api/admin/page.rs`.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The line of a table for a module.
fn line<'a>(table: &'a [(&str, &'a [&'a str])], module: &str) -> &'a [&'a str] {
    table.iter().find(|(name, _)| *name == module).map_or(&[], |(_, line)| line)
}

fn is_in(line: &[&str], arrow: &Arrow) -> bool {
    let to = module(&arrow.to);
    let item = format!("{to}::{}", arrow.item);
    line.iter().any(|allowed| *allowed == to || *allowed == item)
}

fn is_allowed(arrow: &Arrow) -> bool {
    let (from, to) = (module(&arrow.from), module(&arrow.to));
    from == to
        || MAY_USE_ALL.contains(&from)
        || (LEAVES.contains(&to) && !WITHOUT_LEAVES.contains(&from))
        || is_in(line(&MAY_USE, from), arrow)
        || arrow.is_test && (to == "fuzz" || is_in(line(&TESTS_MAY_USE, from), arrow))
}

/// One line for all arrows between the same two files.
fn list<'a>(arrows: impl IntoIterator<Item = &'a Arrow>) -> String {
    let mut items: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for arrow in arrows {
        items.entry((&arrow.from, &arrow.to)).or_default().push(&arrow.item);
    }
    let line = |((from, to), items): (&(&str, &str), &Vec<&str>)| format!("  {from} -> {to} ({})\n", items.join(", "));
    items.iter().map(line).collect()
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let arrows = arrows(&root().join("src"));
    for arrow in arrows.iter().filter(|arrow| module(&arrow.from) != "fuzz") {
        let module = module(&arrow.from);
        let is_in_table = MAY_USE.iter().any(|(name, _)| *name == module) || MAY_USE_ALL.contains(&module);
        assert!(is_in_table, "the module of src/{} is not in the table", arrow.from);
    }
    let forbidden: Vec<&Arrow> = arrows.iter().filter(|arrow| !is_allowed(arrow)).collect();
    assert!(forbidden.is_empty(), "the table does not allow:\n{}", list(forbidden));
}

/// Every file that a file reaches over arrows.
fn reachable<'a>(from: &'a str, arrows: &BTreeMap<&'a str, Vec<&'a Arrow>>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for arrow in arrows.get(file).into_iter().flatten() {
            if found.insert(&*arrow.to) {
                open.push(&arrow.to);
            }
        }
    }
    found
}

/// Each circle: files that all reach each other, as the arrows between them. Tests and mere re-exports are left out.
fn circles(arrows: &[Arrow]) -> Vec<Vec<&Arrow>> {
    let mut by_file: BTreeMap<&str, Vec<&Arrow>> = BTreeMap::new();
    for arrow in arrows.iter().filter(|arrow| !arrow.is_test && !arrow.is_reexport) {
        by_file.entry(&arrow.from).or_default().push(arrow);
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> = by_file.keys().map(|file| (*file, reachable(file, &by_file))).collect();
    let reaches = |from: &str, to: &str| reach.get(from).is_some_and(|files| files.contains(to));
    let mut circles: BTreeMap<BTreeSet<&str>, Vec<&Arrow>> = BTreeMap::new();
    for arrow in by_file.values().flatten().filter(|arrow| reaches(&arrow.to, &arrow.from)) {
        let files = reach[&*arrow.from].iter().copied().filter(|file| reaches(file, &arrow.from)).collect();
        circles.entry(files).or_default().push(arrow);
    }
    circles.into_values().collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let arrows = arrows(&root().join("src"));
    let circles: String = circles(&arrows).into_iter().map(|circle| format!("a circle:\n{}", list(circle))).collect();
    assert!(circles.is_empty(), "{circles}");
}

#[test]
fn no_file_is_too_long() {
    for folder in ["src", "tests", "benches"] {
        for (name, source) in rust_files(folder) {
            let count = source.lines().count();
            assert!(count <= MAX_LINES, "{folder}/{name}.rs has {count} lines");
        }
    }
}

#[test]
fn every_file_opens_with_its_purpose() {
    for folder in ["src", "tests", "benches"] {
        for (name, source) in rust_files(folder) {
            assert!(source.starts_with("//!"), "{folder}/{name}.rs does not open with its purpose");
        }
    }
}
