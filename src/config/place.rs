//! `RELAY_OUTBOX_URL`: an SQLite file, or a PostgreSQL database.

use std::fmt;
use std::path::{Path, PathBuf};

use super::postgres_url::PostgresUrl;

/// Where the outbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxPlace {
    /// The absolute path of an SQLite file.
    Sqlite(PathBuf),
    Postgres(Box<PostgresUrl>),
}

impl fmt::Display for OutboxPlace {
    /// The path, or the URL without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// The place that a URL names. No message repeats it, because that of a database server holds a password.
pub fn outbox_place(url: &str) -> Result<OutboxPlace, String> {
    match url.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sqlite") => {
            file_path(rest).map(OutboxPlace::Sqlite).map_err(str::to_owned)
        }
        Some(("postgres" | "postgresql", _)) => {
            url.parse::<PostgresUrl>().map(|url| OutboxPlace::Postgres(Box::new(url)))
        }
        _ => Err("must be sqlite:// and an absolute path, as in sqlite:///var/lib/segment-relay/outbox.db, or \
                  postgres://user:password@host/database"
            .to_owned()),
    }
}

/// The path that follows `sqlite:`. Some programs unescape a `%20` in such a URL and some do not, so a `%` is refused: the
/// path is always the one that is written.
fn file_path(rest: &str) -> Result<PathBuf, &'static str> {
    const NOT_ABSOLUTE: &str = "the path must be absolute, with three slashes before it: sqlite:///var/lib/...";
    let path = rest.strip_prefix("//").ok_or(NOT_ABSOLUTE)?;
    match path {
        "" | "/" => Err("the path of the file is missing, as in sqlite:///var/lib/segment-relay/outbox.db"),
        _ if path.contains(['?', '#', '%']) => Err("the path must not hold ?, # or %: there are no options"),
        // The environment's bytes that are not UTF-8 became this character.
        _ if path.contains(char::REPLACEMENT_CHARACTER) => Err("the path must be valid UTF-8"),
        _ if !path.starts_with('/') => Err(NOT_ABSOLUTE),
        _ if path.ends_with('/') || Path::new(path).file_name().is_none() => Err("the path must be that of a file"),
        _ => Ok(path.into()),
    }
}
