//! How times and strings are written in what Segment gets.

use jiff::Timestamp;
use serde::Serialize;

/// UTC with exactly three digits of milliseconds and `Z`. Segment was seen not to process microseconds.
pub(crate) fn rfc3339_milliseconds(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Appends a string as JSON.
pub(crate) fn write_json_string(out: &mut Vec<u8>, text: &str) {
    // Writing a str into memory cannot fail.
    let _ = text.serialize(&mut serde_json::Serializer::new(out));
}
