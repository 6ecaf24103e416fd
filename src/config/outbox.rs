//! The settings of the outbox.
//!
//! No message repeats the URL: the URL of a server holds a password, and somebody may set one here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;

/// Room for 32 of the largest calls. With less the outbox would be full all the time. A smaller number is rather a slip, such
/// as 10 for 10GiB.
const MIN_SIZE: ByteSize = ByteSize::mib(1);

/// The largest file that SQLite can have.
const MAX_SIZE: ByteSize = ByteSize::tib(256);

/// The settings of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// The absolute path of the store's file.
    pub path: PathBuf,
    /// The maximum size of calls, keys and dead letters on disk.
    pub max_bytes: u64,
    /// How long a key is remembered after its call was settled.
    pub window: Duration,
}

pub(super) fn sqlite_path(url: &str) -> Result<PathBuf, String> {
    let path = match url.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sqlite") => file_path(rest),
        Some(("postgres" | "postgresql", _)) => {
            Err("this version does not have that yet, only sqlite:///absolute/path")
        }
        _ => Err("must be sqlite:// and an absolute path, as in sqlite:///var/lib/segment-relay/outbox.db"),
    };
    path.map_err(str::to_owned)
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

/// A number of bytes, with a unit or without.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match text.trim().parse::<ByteSize>() {
        Ok(size) if (MIN_SIZE..=MAX_SIZE).contains(&size) => Ok(size.as_u64()),
        Ok(_) => Err("must be from 1MiB to 256TiB".to_owned()),
        Err(_) => Err("must be a size such as 64MiB or 10GiB, or a number of bytes".to_owned()),
    }
}
