//! The environment variables of the relay, and the problems found while they are read.

use std::fmt::{self, Display};
use std::path::Path;

use super::table::{self, COMMON, DefaultValue, SETTINGS, Setting};
use super::{file, kubernetes};

/// How similar a setting must be to an unknown name to be suggested, from 0 to 1. Two wrong letters in a name of eight
/// pass.
const MIN_SIMILARITY: f64 = 0.75;

/// What is wrong with the settings, one line for each problem.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds the problem of the variable, or the place in a file, `name`.
    pub(crate) fn add(&mut self, name: &str, problem: impl Display) {
        let mut line = String::new();
        for c in format!("{name}: {problem}").chars() {
            // A name or a value may hold newlines.
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        self.0.push(line);
    }

    /// Adds the lines of others.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether a line names a variable that begins like this.
    pub fn name_any(&self, prefixes: &[&str]) -> bool {
        let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let mut words = self.0.iter().flat_map(|line| line.split(is_end));
        words.any(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
    }

    /// The lines, each of which starts with the name of a variable, or a place in a file.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// The variables meant for the relay that are not empty. All problems are collected, so that they are reported together.
pub(super) struct Environment {
    variables: Vec<(String, String)>,
    problems: Problems,
    /// Whether the default stands in for a value that is wrong.
    is_lenient: bool,
}

impl Environment {
    pub(super) fn new(variables: impl Iterator<Item = (String, String)>) -> Self {
        // The TLS library takes an empty SSL_CERT_FILE for the path of a file.
        let counts_empty = |name: &str| name == table::SSL_CERT_FILE.declaration.name;
        let counts = |name: &str, value: &str| !value.is_empty() || counts_empty(name);
        let mut variables: Vec<_> =
            variables.filter(|(name, value)| is_ours(name, value) && counts(name, value)).collect();
        // The order of an environment varies. The order of the problems does not.
        variables.sort();
        Self { variables, problems: Problems::default(), is_lenient: false }
    }

    /// The same, for who wants the settings as far as they are right.
    pub(super) fn lenient(variables: impl Iterator<Item = (String, String)>) -> Self {
        Self { is_lenient: true, ..Self::new(variables) }
    }

    /// What stands in for a value that is required, for who wants the settings as far as they are right.
    pub(super) fn stand_in<T>(&self, value: T) -> Option<T> {
        self.is_lenient.then_some(value)
    }

    /// Notes the names that are no setting.
    pub(super) fn check_names(&mut self) {
        for (name, _) in &self.variables {
            if COMMON.contains(&name.to_uppercase().as_str()) {
                continue;
            } else if *name != name.to_uppercase() {
                self.problems.add(name, "no such setting; settings are in capital letters");
            } else if SETTINGS.iter().all(|setting| setting.name != name) && file::setting_of(name).is_none() {
                let known = file::known_variables();
                let scored = known.map(|known| (strsim::normalized_damerau_levenshtein(name, &known), known));
                let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= MIN_SIMILARITY);
                let hint = nearest.map(|(_, known)| format!("; is it {known}?")).unwrap_or_default();
                self.problems.add(name, format_args!("no such setting{hint}"));
            }
        }
    }

    /// Whether a setting is set, by its value or by a file.
    pub(super) fn is_set<T>(&self, setting: &Setting<T>) -> bool {
        self.values(setting.declaration.name).next().is_some() || self.is_from_file(setting)
    }

    /// Whether a setting comes from a file.
    pub(super) fn is_from_file<T>(&self, setting: &Setting<T>) -> bool {
        let variable = file::variable_of(setting);
        file::setting_of(&variable).is_some() && self.values(&variable).next().is_some()
    }

    /// The value of a setting, or its default. `None` if there is neither, or if there is a problem, which is noted.
    pub(super) fn read<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let values: Vec<&str> = self.values(setting.declaration.name).collect();
        let result = match (values.as_slice(), setting.declaration.default) {
            _ if self.is_from_file(setting) => self.read_file(setting, values.is_empty()),
            ([text], _) => (setting.check)(text),
            ([], DefaultValue::Value(text)) => (setting.check)(text),
            ([], DefaultValue::Required) => Err(format!("required. {}", setting.declaration.meaning)),
            ([], DefaultValue::Unset) => return None,
            _ => Err("set more than once".to_owned()),
        };
        let value = result.map_err(|problem| self.add_problem(setting, problem)).ok();
        match setting.declaration.default {
            DefaultValue::Value(text) if self.is_lenient && value.is_none() => (setting.check)(text).ok(),
            _ => value,
        }
    }

    /// The value of a setting whose name may be in small letters too. These win.
    pub(super) fn read_any_case<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let names = [setting.declaration.name.to_lowercase(), setting.declaration.name.to_owned()];
        let find = |name: &String| self.variables.iter().find(|(set, _)| set == name);
        let (name, text) = names.iter().find_map(find)?;
        (setting.check)(text).map_err(|problem| self.problems.add(name, problem)).ok()
    }

    /// The value of a setting that comes from a file.
    fn read_file<T>(&self, setting: &Setting<T>, is_value_unset: bool) -> Result<T, String> {
        let variable = file::variable_of(setting);
        let paths: Vec<&str> = self.values(&variable).collect();
        match paths.as_slice() {
            [path] if is_value_unset => (setting.check)(&file::read(Path::new(path), file::MAX_BYTES)?),
            [_] => Err(format!("{} is set too; only one of them may be", setting.declaration.name)),
            _ => Err("set more than once".to_owned()),
        }
    }

    /// Notes a problem of a setting, under the name of its file's variable if it comes from a file.
    pub(super) fn add_problem<T>(&mut self, setting: &Setting<T>, problem: impl Display) {
        if self.is_from_file(setting) {
            self.problems.add(&file::variable_of(setting), problem);
        } else {
            self.problems.add(setting.declaration.name, problem);
        }
    }

    /// Notes a problem of a setting if it is set.
    pub(super) fn refuse<T>(&mut self, setting: &Setting<T>, problem: impl Display) {
        if self.is_set(setting) {
            self.add_problem(setting, problem);
        }
    }

    /// The value, if there was no problem. A missing value must have a problem that says why.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        value.filter(|_| self.problems.lines().is_empty()).ok_or(self.problems)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.variables.iter().filter(move |(set, _)| set == name).map(|(_, value)| value.as_str())
    }
}

/// Whether a variable is meant for the relay. Its prefix may be in any case, but `PORT` must be in capitals, because that
/// name is common.
fn is_ours(name: &str, value: &str) -> bool {
    let is_common = COMMON.iter().any(|common| name == *common || *name == common.to_lowercase());
    let is_port = name == "PORT";
    let name = &*name.to_ascii_uppercase();
    let has_prefix = name.starts_with("RELAY_") || name.starts_with("SEGMENT_");
    has_prefix && !kubernetes::makes(name, value) || is_port || is_common
}
