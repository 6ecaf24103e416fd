//! The check of Segment's write key. Segment answers 200 to a wrong key and drops the call, so a text that can be none is
//! refused here.

use super::unfilled::{UNREPLACED, is_placeholder, is_quoted, is_unreplaced};
use super::value::Secret;

/// The length of the write keys that Segment makes.
pub(crate) const USUAL_LENGTH: usize = 32;

/// Keys of Segment have 32 characters. A batch leaves room for 256.
const MAX_LENGTH: usize = 256;

/// No message repeats the key.
pub(crate) fn write_key(text: &str) -> Result<Secret, String> {
    let problem = if text.len() > MAX_LENGTH {
        "is longer than 256 characters"
    } else if text.trim().is_empty() {
        "is blank"
    } else if is_unreplaced(text) {
        UNREPLACED
    } else if is_placeholder(text) {
        "is a placeholder. The key is in Segment, in the settings of the source"
    } else if is_quoted(text.as_bytes()) {
        "is in quotes, which are no part of the key: docker run --env-file passes quotes on as they are"
    } else if text.contains(char::is_whitespace) {
        "holds white space, or a newline at its end"
    } else if text.ends_with(':') {
        "ends with a colon, which belongs to the Authorization header and not to the key"
    } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        "holds characters that no write key has: only letters, digits, - and _ can be in one"
    } else {
        return Ok(Secret::new(text));
    };
    Err(problem.to_owned())
}
