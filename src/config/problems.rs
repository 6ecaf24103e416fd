//! The problems of the settings.

use std::fmt;

/// What is wrong with the settings, one line for each problem.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds the problem of the variable `name`.
    pub(super) fn add(&mut self, name: &str, problem: impl fmt::Display) {
        self.0.push(format!("{name}: {problem}"));
    }

    /// The lines, each of which starts with the name of a variable.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}
