//! The two objects of a payload whose members have no rules: `context` and `integrations`.
//!
//! Invariant: each holds the text of one whole JSON object, from brace to brace, as the caller wrote it. Only parsing a
//! payload makes them.

use std::fmt;
use std::ops::Deref;

use super::error::BrokenRules;
use super::scan::{JsonError, Scanner, Value};

/// The caller's `context`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    json: &'a str,
    has_library: bool,
    is_empty: bool,
}

impl<'a> Context<'a> {
    /// The object's text.
    pub fn as_json(&self) -> &'a str {
        self.json
    }

    /// Whether there is a `library`, even `null`. Adding a second one would repeat the name.
    pub fn has_library(&self) -> bool {
        self.has_library
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Reads the next value, an object or `null`.
    pub(super) fn read(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Self>, JsonError> {
        let Some((members, start)) = scanner.enter_object()? else {
            match scanner.value()? {
                Value::Null => {}
                other => broken.push_wrong_type("/context", "an object", other.kind()),
            }
            return Ok(None);
        };
        let (mut has_library, mut is_empty) = (false, true);
        while let Some(name) = scanner.next_name(&members)? {
            is_empty = false;
            has_library |= name == "library";
            scanner.value()?;
        }
        Ok(Some(Self { json: scanner.since(start), has_library, is_empty }))
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} bytes)", self.json.len())
    }
}

/// The caller's `integrations`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Integrations<'a>(&'a str);

impl<'a> Integrations<'a> {
    /// The object's text.
    pub fn as_json(&self) -> &'a str {
        self.0
    }

    /// Reads the next value, an object or `null`.
    pub(super) fn read(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Self>, JsonError> {
        match scanner.value()? {
            Value::Object(json) => return Ok(Some(Self(json))),
            Value::Null => {}
            other => broken.push_wrong_type("/integrations", "an object", other.kind()),
        }
        Ok(None)
    }
}

/// Dereferences to the object's text.
impl Deref for Integrations<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl fmt::Debug for Integrations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Integrations({} bytes)", self.0.len())
    }
}
