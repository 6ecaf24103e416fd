//! Reads settings from variables that a test gives.

use crate::config::settings::{Settings, from_variables};

pub(super) const KEY: (&str, &str) = ("SEGMENT_WRITE_KEY", "wk-secret-1");

pub(super) fn settings(variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    from_variables(variables).map_err(|problems| problems.lines().to_vec())
}

/// The only problem that a value has.
pub(super) fn problem(name: &str, value: &str) -> String {
    let problems = settings(&[KEY, (name, value)]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with(&format!("{name}: ")), "{problems:?}");
    problems[0].clone()
}
