//! Tests of the file of sources.

mod fuzz;
mod right;
mod warned;
mod wrong;

use std::fs;

use tempfile::TempDir;

use super::{ReadOptions, SourceSettings, SourceTable};
use crate::config::Secret;

/// The variables that the files of these tests name.
const VARIABLES: [(&str, &str); 6] = [
    ("SHOP", "a-secret-of-thirty-two-characters"),
    ("OTHER", "another-secret-of-more-than-that"),
    ("CHANGEME", "changeme"),
    ("UNREPLACED", "${SHOP}"),
    ("EMPTY", ""),
    ("KEY", "abcdefghijklmnopqrstuvwxyz012345"),
];

/// A directory of files, among them that of sources.
struct Files {
    directory: TempDir,
    has_outbox: bool,
    has_stand_ins: bool,
    admin_token: Option<Secret>,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, has_outbox: true, has_stand_ins: false, admin_token: None }
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.directory.path().join(name), content).unwrap();
        self
    }

    /// Reads `sources.toml`.
    fn read(&self) -> Result<SourceTable, Vec<String>> {
        let variable = |name: &str| {
            let found = VARIABLES.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let options = ReadOptions {
            variable: &variable,
            has_outbox: self.has_outbox,
            admin_token: self.admin_token.as_ref(),
            has_stand_ins: self.has_stand_ins,
        };
        let table = SourceTable::read(&self.directory.path().join("sources.toml"), &options);
        table.map_err(|problems| problems.lines().to_vec())
    }
}

fn read(text: &str) -> Result<SourceTable, Vec<String>> {
    Files::new().with("sources.toml", text).read()
}

/// The problems of a file.
fn problems(text: &str) -> Vec<String> {
    read(text).err().unwrap_or_default()
}

/// The only source of a file.
fn only(text: &str) -> std::sync::Arc<SourceSettings> {
    let table = read(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let mut sources = table.iter().cloned();
    let source = sources.next().unwrap();
    assert!(sources.next().is_none());
    source
}

/// A table of a source with these further lines.
fn shop(lines: &str) -> String {
    format!("[shop]\nverify = \"shopify\"\nsecrets = [\"env:SHOP\"]\n{lines}")
}
