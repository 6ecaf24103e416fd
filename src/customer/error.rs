//! Why a payload is refused: it is not JSON, or it breaks rules.
//!
//! Invariants: a message never contains a value, which may be personal. It may contain names of fields, cut to 100
//! characters. At most 32 rules are reported.

use std::error::Error;
use std::fmt;

use serde::Serialize;

/// Enough to repair a body in one go. The limit keeps the answer to a hostile body small.
pub const MAX_BROKEN_RULES: usize = 32;

/// Characters of an unknown field's name that are repeated: enough for any name that a person wrote.
const MAX_ECHOED_NAME: usize = 100;

/// Why a payload is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadError {
    /// The text is not JSON that the relay accepts.
    InvalidJson {
        /// What is wrong, and the place: "... at line L column C", both from 1, columns in characters.
        message: String,
    },
    /// The text is JSON, and breaks these rules.
    Invalid {
        /// In the order of the document, missing fields last. Never empty, at most 32.
        broken: Vec<BrokenRule>,
    },
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidJson { message } => f.write_str(message),
            Self::Invalid { broken } => {
                f.write_str(&broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

impl Error for PayloadError {}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenRule {
    /// JSON pointer (RFC 6901) to the field; empty for the body itself. A field's name of over 100 characters is cut and
    /// ends in `…`.
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub message: String,
}

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "the body {}", self.message),
            // Escaped, because the caller chose the name and this may be printed on a terminal.
            field => write!(f, "{} {}", field.escape_debug(), self.message),
        }
    }
}

/// The broken rules so far. Rules beyond the limit are not even formatted.
pub(super) struct BrokenRules {
    rules: Vec<BrokenRule>,
    limit: usize,
}

impl Default for BrokenRules {
    fn default() -> Self {
        Self::at_most(MAX_BROKEN_RULES)
    }
}

impl BrokenRules {
    /// Reports at most so many rules, and at least one.
    pub(super) fn at_most(limit: usize) -> Self {
        Self { rules: Vec::new(), limit: limit.max(1) }
    }

    pub(super) fn push(&mut self, field: impl fmt::Display, message: impl fmt::Display) {
        self.insert(self.rules.len(), field, message);
    }

    pub(super) fn push_wrong_type(&mut self, field: &str, expected: &str, got: &str) {
        self.push(field, format_args!("must be {expected}; it is {got}"));
    }

    /// Inserts a rule before those from `index` on, for a rule on an object that can be checked only at the object's end.
    pub(super) fn insert(&mut self, index: usize, field: impl fmt::Display, message: impl fmt::Display) {
        if index >= self.limit {
            return;
        }
        self.rules.truncate(self.limit - 1);
        let index = index.min(self.rules.len());
        self.rules.insert(index, BrokenRule { field: field.to_string(), message: message.to_string() });
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The value, if no rule is broken. A missing value must have a broken rule that says why.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, PayloadError> {
        value.filter(|_| self.rules.is_empty()).ok_or(PayloadError::Invalid { broken: self.rules })
    }
}

/// The JSON pointer to a member of the body whose name the caller chose.
pub(super) struct Pointer<'a>(pub(super) &'a str);

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        f.write_str("/")?;
        for character in characters.by_ref().take(MAX_ECHOED_NAME) {
            match character {
                '~' => f.write_str("~0")?,
                '/' => f.write_str("~1")?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str(if characters.next().is_some() { "…" } else { "" })
    }
}
