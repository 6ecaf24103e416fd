//! What the file of sources says, read and checked. Every problem is told at once, with its line, and no value.

mod document;
mod secrets;
mod source;
mod types;
mod values;
mod verify;
mod warnings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::mapping::Filter;
use crate::config::{self, Problems, Secret, Settings, WriteKeys};
use document::{Document, Table};
use secrets::Secrets;

pub use secrets::{ReadOptions, StandIn};
pub use types::{Example, KeyPart, OnError, SourceSettings};

/// The largest file: a hundred sources with a filter and an example of 10 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// The most sources. Each has some 20 series of metrics and a share of places in memory.
const MAX_SOURCES: usize = 100;

/// The longest name of a source.
const MAX_NAME: usize = 64;

/// The sources of a file, by name.
#[derive(Default)]
pub struct SourceTable {
    sources: BTreeMap<Arc<str>, Arc<SourceSettings>>,
    has_outbox: bool,
    stand_ins: Vec<StandIn>,
}

impl SourceTable {
    /// The sources of `RELAY_SOURCES`, with this process's environment. None, if it is not set.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn of(settings: &Settings) -> Result<Self, Problems> {
        let Some(path) = &settings.sources else { return Ok(Self::default()) };
        let variables: BTreeMap<String, String> = config::variables().collect();
        let options = ReadOptions {
            variable: &|name| variables.get(name).cloned(),
            has_outbox: settings.outbox.is_some(),
            admin_token: settings.admin_token.as_ref(),
            has_stand_ins: false,
        };
        Self::read(path, &options)
    }

    /// The sources of a file.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn read(path: &Path, options: &ReadOptions<'_>) -> Result<Self, Problems> {
        let text = config::read_file(path, MAX_FILE).map_err(|problem| {
            let mut problems = Problems::default();
            problems.add("RELAY_SOURCES", format_args!("{}: {problem}", path.display()));
            problems
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let secrets = Secrets { directory: path.parent().unwrap_or(path), options };
        Self::parse(&name, &text, &secrets)
    }

    fn parse(file: &str, text: &str, secrets: &Secrets<'_>) -> Result<Self, Problems> {
        let document = Document::new(file, text);
        let parsed = document.parse();
        let root = parsed.as_ref().map(|tables| Table::root(&document, tables.get_ref()));
        let mut table = Self { has_outbox: secrets.options.has_outbox, ..Self::default() };
        for (number, (name, value)) in root.iter().flat_map(Table::all).enumerate() {
            if number == MAX_SOURCES {
                value.add(format_args!("more than {MAX_SOURCES} sources"));
                break;
            }
            if !is_name(name) {
                value.add(format_args!("the name of a source must be 1 to {MAX_NAME} of a-z, 0-9, - and _"));
            }
            let source = value.table();
            let source = source.and_then(|source| source::read(file, name, source, secrets, &mut table.stand_ins));
            if let Some(source) = source {
                table.sources.insert(source.name.clone(), Arc::new(source));
            }
        }
        if document.has_problems() { Err(document.into_problems()) } else { Ok(table) }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<SourceSettings>> {
        self.sources.get(name)
    }

    /// The sources, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SourceSettings>> {
        self.sources.values()
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.keys()
    }

    /// All filters, to be compiled.
    pub fn filters(&self) -> Vec<Arc<Filter>> {
        self.iter().filter_map(|source| source.filter.clone()).collect()
    }

    /// The write keys of the sources, and `default` for all others.
    pub fn write_keys(&self, default: &Secret) -> WriteKeys {
        let keys = WriteKeys::new(default.clone());
        self.iter().fold(keys, |keys, source| keys.with_source(source.name.clone(), source.write_key.clone()))
    }

    /// How long the keys of each source are remembered.
    pub fn key_windows(&self) -> BTreeMap<Arc<str>, Duration> {
        self.iter().map(|source| (source.name.clone(), source.window)).collect()
    }

    /// The secrets that were missing, and what stands in for them.
    pub fn stand_ins(&self) -> &[StandIn] {
        &self.stand_ins
    }
}

/// A name is a part of a path, of a log line, of a metric's series and of a key: none of them needs an escape for it.
fn is_name(name: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_right)
}

#[cfg(test)]
mod tests;
