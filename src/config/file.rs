//! Settings that come from files: the variable of the same name with `_FILE` behind it holds the path.
//!
//! No message shows the content or the path, because somebody may put the secret itself where its path belongs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::table::{SETTINGS, Setting};

/// The ending of a variable that names the file of a setting.
const SUFFIX: &str = "_FILE";

/// The settings that may come from a file: those that hold secrets, or may hold them.
pub const FILE_SETTINGS: [&str; 5] =
    ["SEGMENT_WRITE_KEY", "RELAY_AUTH_SECRETS", "RELAY_ADMIN_TOKEN", "RELAY_NOTIFY_SECRETS", "RELAY_OUTBOX_URL"];

/// The most bytes of a file: 16 secrets take a tenth of it.
pub(crate) const MAX_BYTES: u64 = 64 * 1024;

/// The setting whose file the variable `name` names.
pub(super) fn setting_of(name: &str) -> Option<&'static str> {
    let plain = name.strip_suffix(SUFFIX)?;
    FILE_SETTINGS.into_iter().find(|setting| *setting == plain)
}

/// The variable that names the file of a setting.
pub(super) fn variable_of<T>(setting: &Setting<T>) -> String {
    format!("{}{SUFFIX}", setting.declaration.name)
}

/// The names of all variables: of each setting, and of the file of each that may come from one.
pub(super) fn known_variables() -> impl Iterator<Item = String> {
    let settings = SETTINGS.iter().map(|setting| setting.name.to_owned());
    settings.chain(FILE_SETTINGS.map(|setting| format!("{setting}{SUFFIX}")))
}

/// The content of a file, without newlines at its end. Links are followed: Kubernetes mounts secrets as links.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("the file cannot be read ({})", error.kind());
    // A pipe would stop the start until somebody writes to it, and could not be read again.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("must be the path of a regular file".to_owned());
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut content)).map_err(unreadable)?;
    if content.len() as u64 > max_bytes {
        return Err(format!("the file is larger than {max_bytes} bytes"));
    }
    let mut content = String::from_utf8(content).map_err(|_| "the file is not valid UTF-8".to_owned())?;
    content.truncate(content.trim_end_matches(['\r', '\n']).len());
    if content.is_empty() { Err("the file is empty".to_owned()) } else { Ok(content) }
}
