//! Objects of a payload that are kept as the caller wrote them, and a look at their members.

use std::fmt;

use super::error::BrokenRules;
use super::scan::{JsonError, Scanner, Value};

/// The caller's `context` or `integrations`, whose members have no rules: the text of one whole JSON object, from brace to
/// brace. Only parsing a payload makes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JsonObject<'a> {
    text: &'a str,
    /// The bytes of white space between its tokens.
    space: usize,
    has_library: bool,
    is_empty: bool,
}

impl<'a> JsonObject<'a> {
    /// The object's text.
    pub fn as_json(&self) -> &'a str {
        self.text
    }

    /// Whether there is a member `library`, even `null`. Adding a second one would repeat the name.
    pub fn has_library(&self) -> bool {
        self.has_library
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The bytes that [`append_compact`](Self::append_compact) appends.
    pub(crate) fn compact_len(&self) -> usize {
        self.text.len() - self.space
    }

    /// Appends the text without the white space between its tokens.
    pub(crate) fn append_compact(&self, out: &mut Vec<u8>) {
        append_compact(out, self.text, self.space);
    }

    /// The same without the brace at the start.
    pub(crate) fn append_compact_members(&self, out: &mut Vec<u8>) {
        append_compact(out, self.text.strip_prefix('{').unwrap_or_default(), self.space);
    }

    /// Reads the next value. Returns `None` for `null`, and for a value of another type, which breaks a rule.
    pub(super) fn read(
        scanner: &mut Scanner<'a>,
        field: &str,
        broken: &mut BrokenRules,
    ) -> Result<Option<Self>, JsonError> {
        let Some((members, start)) = scanner.enter_object()? else {
            match scanner.value()? {
                Value::Null => {}
                other => broken.push_wrong_type(field, "an object", other.kind()),
            }
            return Ok(None);
        };
        let (mut has_library, mut is_empty) = (false, true);
        while let Some(name) = scanner.next_name(&members)? {
            has_library |= name == "library";
            is_empty = false;
            scanner.value()?;
        }
        let (text, space) = scanner.object_since(start);
        Ok(Some(Self { text, space, has_library, is_empty }))
    }
}

impl fmt::Debug for JsonObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonObject({} bytes)", self.text.len())
    }
}

/// The member of this name in a checked object.
pub(super) fn find_member<'a>(object: &'a str, name: &str) -> Option<Value<'a>> {
    let mut scanner = Scanner::from_text(object);
    let (members, _) = scanner.enter_object().ok()??;
    while let Some(found) = scanner.next_name(&members).ok()? {
        let value = scanner.value().ok()?;
        if found == name {
            return Some(value);
        }
    }
    None
}

/// Appends a checked JSON text, or the rest of one from a token on, without its `space` bytes of white space between tokens.
pub(super) fn append_compact(out: &mut Vec<u8>, text: &str, space: usize) {
    let text = text.as_bytes();
    if space == 0 {
        return out.extend_from_slice(text);
    }
    let (mut from, mut at) = (0, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            // In a checked text white space is all that is so low between tokens.
            ..=b' ' => {
                out.extend_from_slice(&text[from..at]);
                while matches!(text.get(at), Some(..=b' ')) {
                    at += 1;
                }
                from = at;
            }
            _ => at += 1,
        }
    }
    out.extend_from_slice(&text[from..]);
}

/// The place behind the JSON string that begins at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}
