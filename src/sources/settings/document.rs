//! A TOML file of which every problem is told, with its line, and no value: somebody may put a secret anywhere.
//!
//! serde's derived readers stop at the first problem, so the tables are walked here.

use std::cell::RefCell;
use std::fmt::Display;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::Problems;

/// More than anyone mends at once. A file of another kind has a problem on each line.
const MAX_PROBLEMS: usize = 100;

/// How much of a name in the file is shown: the longest right one has 64 characters.
const MAX_SHOWN: usize = 64;

/// How similar a known name must be to an unknown one to be suggested, from 0 to 1. Two wrong letters in a name of six pass.
const MIN_SIMILARITY: f64 = 0.65;

/// A file, and the problems found in it so far.
pub(super) struct Document<'a> {
    /// What stands in front of each problem.
    name: &'a str,
    text: &'a str,
    /// Each with its place in the text.
    problems: RefCell<Vec<(usize, String, String)>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, problems: RefCell::default() }
    }

    /// The file's tables. What is no TOML is noted, and then the tables are not what was meant.
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        let (tables, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            // The error as a whole would show the line.
            self.add(error.span().map_or(0, |span| span.start), "", error.message());
        }
        errors.is_empty().then_some(tables)
    }

    fn add(&self, offset: usize, path: &str, problem: impl Display) {
        self.problems.borrow_mut().push((offset, path.to_owned(), problem.to_string()));
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(self) -> Problems {
        let mut found = self.problems.into_inner();
        found.sort_by_key(|(offset, ..)| *offset);
        let mut problems = Problems::default();
        for (offset, path, problem) in found.iter().take(MAX_PROBLEMS) {
            let line = 1 + self.text.bytes().take(*offset).filter(|byte| *byte == b'\n').count();
            let separator = if path.is_empty() { "" } else { ": " };
            problems.add(&format!("{}:{line}{separator}{path}", self.name), problem);
        }
        if found.len() > MAX_PROBLEMS {
            problems.add(self.name, format_args!("{} problems more", found.len() - MAX_PROBLEMS));
        }
        problems
    }
}

/// A value of the file.
#[derive(Clone)]
pub(super) struct Value<'a> {
    document: &'a Document<'a>,
    /// Such as `shopify.secrets`.
    path: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn add(&self, problem: impl Display) {
        self.document.add(self.value.span().start, &self.path, problem);
    }

    /// What `check` makes of a text.
    pub(super) fn read<T>(&self, check: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        let text = self.value.get_ref().as_str().ok_or_else(|| "must be a text in quotes".to_owned());
        text.and_then(check).map_err(|problem| self.add(problem)).ok()
    }

    /// One of these whole numbers.
    pub(super) fn number(&self, allowed: &[u16]) -> Option<u16> {
        let number = self.value.get_ref().as_integer().filter(|number| number.radix() == 10);
        let number = number.and_then(|number| number.as_str().parse().ok()).filter(|number| allowed.contains(number));
        if number.is_none() {
            let allowed: Vec<_> = allowed.iter().map(u16::to_string).collect();
            self.add(format_args!("must be {}", allowed.join(" or ")));
        }
        number
    }

    /// The values of a list, which are counted from 0.
    pub(super) fn list(&self) -> Option<Vec<Self>> {
        let Some(list) = self.value.get_ref().as_array() else {
            self.add("must be a list in brackets");
            return None;
        };
        let item = |(index, value)| Value { document: self.document, path: format!("{}[{index}]", self.path), value };
        Some(list.iter().enumerate().map(item).collect())
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let Some(entries) = self.value.get_ref().as_table() else {
            self.add("must be a table");
            return None;
        };
        let (document, path, offset) = (self.document, self.path.clone(), self.value.span().start);
        Some(Table { document, path, offset, entries, asked: RefCell::default() })
    }
}

/// A table of the file, of which it is noted what was asked for.
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    path: String,
    offset: usize,
    entries: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The file as a whole.
    pub(super) fn root(document: &'a Document<'a>, entries: &'a DeTable<'a>) -> Self {
        Self { document, path: String::new(), offset: 0, entries, asked: RefCell::default() }
    }

    /// Notes a problem of the whole table.
    pub(super) fn add(&self, problem: impl Display) {
        self.document.add(self.offset, &self.path, problem);
    }

    /// Notes the problem of a key, at its place if it is there.
    pub(super) fn add_at(&self, key: &str, problem: impl Display) {
        let offset = self.entries.get(key).map_or(self.offset, |value| value.span().start);
        self.document.add(offset, &self.path_of(key), problem);
    }

    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        self.entries.get(key).map(|value| Value { document: self.document, path: self.path_of(key), value })
    }

    /// What `check` makes of the text of a key, if it is there.
    pub(super) fn read<T>(&self, key: &'static str, check: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        self.get(key)?.read(check)
    }

    /// The same for a key that must be there.
    pub(super) fn require<T>(&self, key: &'static str, check: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        let value = self.get(key);
        if value.is_none() {
            self.add_at(key, "required");
        }
        value?.read(check)
    }

    /// All that is in the table, whatever the names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.entries.iter().map(|(name, value)| {
            let name = name.get_ref().as_ref();
            (name, Value { document: self.document, path: self.path_of(name), value })
        })
    }

    /// Notes each key that was not asked for.
    pub(super) fn finish(&self) {
        let known = self.asked.borrow();
        for (key, _) in self.entries.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let hint = nearest(name, known.iter().copied());
            self.document.add(key.span().start, &self.path_of(name), format_args!("no such key{hint}"));
        }
    }

    fn path_of(&self, key: &str) -> String {
        let shown: String = key.chars().take(MAX_SHOWN).collect();
        if self.path.is_empty() { shown } else { format!("{}.{shown}", self.path) }
    }
}

/// The end of a message about an unknown name: which known one may be meant.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    if name.len() > MAX_SHOWN {
        return String::new();
    }
    let scored = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= MIN_SIMILARITY);
    nearest.map(|(_, known)| format!("; is it {known}?")).unwrap_or_default()
}
