//! Objects of a payload that are kept as the caller wrote them, and a look at their members.

use std::fmt;

use super::error::BrokenRules;
use super::scan::{Scanner, Value};

/// The caller's `context` or `integrations`, whose members have no rules: the text of one whole JSON object, from brace to
/// brace. Only parsing a payload makes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JsonObject<'a>(&'a str);

impl<'a> JsonObject<'a> {
    /// The object's text.
    pub fn as_json(&self) -> &'a str {
        self.0
    }

    /// Whether there is a member of this name, even `null`. Adding a second one would repeat the name.
    pub fn has_member(&self, name: &str) -> bool {
        find_member(self.0, name).is_some()
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        !self.0.contains('"')
    }

    /// Returns `None` for a value of another type, which breaks a rule.
    pub(super) fn new(value: Value<'a>, field: &str, broken: &mut BrokenRules) -> Option<Self> {
        let Value::Object(json) = value else {
            broken.push_wrong_type(field, "an object", value.kind());
            return None;
        };
        Some(Self(json))
    }
}

impl fmt::Debug for JsonObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonObject({} bytes)", self.0.len())
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
