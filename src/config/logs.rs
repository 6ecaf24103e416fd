//! The settings of the log.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What is logged, and in which format.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A valid filter of `tracing-subscriber`.
    pub filter: String,
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| format!("not a filter ({error})"))?;
    match text.split(',').find(|directive| is_misspelt_level(directive)) {
        Some(word) => Err(format!("{word} is not a level (off, error, warn, info, debug, trace)")),
        None => Ok(text.to_owned()),
    }
}

/// A filter takes a single word for the name of a module, so a misspelt level would turn all logs off.
fn is_misspelt_level(directive: &str) -> bool {
    let word = directive.trim();
    let is_level = LevelFilter::from_str(word).is_ok();
    let is_more = word.contains(['=', '[', ':']) || word.starts_with(env!("CARGO_CRATE_NAME"));
    !word.is_empty() && !is_level && !is_more
}

pub(super) fn format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("must be json or text".to_owned()),
    }
}
